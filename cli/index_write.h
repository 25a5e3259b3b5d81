/* index_write: makes the manifest of what was found, new or as the next version of an old one, whose videos
 * keep their numbers. Used by cmd_index. Blocking; one thread. Streams: takes no memory that grows with the
 * files. */
#pragma once
#include "cli/index_files.h"
#include "cli/index_partial.h"

struct index_summary {
    uint64_t videos, with_video, with_audio, bytes;
    uint64_t reasons[MEDIA_REASONS], facts[MEDIA_FACTS];
    uint64_t splits[4];
    uint64_t probed, unchanged, changed, gone, added; /* the last four: of an update */
    uint64_t keyframes;                               /* entries of the key frame index */
    double hours, seconds;
    uint32_t classes;
    uint64_t identity;
};

/* Marks the files that `old` has; those whose size and time are still the same need no probe. XDC_EUSAGE when
 * it counts from another root. */
int index_update_mark(struct index_files *files, const struct manifest *old, struct err *e) WARN_UNUSED;
/* Writes `path`. old NULL: all files, in their order. Else the videos of `old` first, by their numbers: those
 * that are gone keep their record, with the reason open_failed; then the new ones. labelled: the files carry
 * labels and splits, which replace old ones. Fills all of *s but seconds and probed. */
int index_write(const char *path, struct index_files *files, const struct index_partial *partial,
                const struct manifest *old, bool labelled, struct index_summary *s,
                struct err *e) WARN_UNUSED;
