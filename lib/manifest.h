/* manifest: the list of videos of a data set, in LMDB (lib/store.h). Layout: docs/formats.md.
 * Used by index (writer), trainer, clusterer and the command (readers). One thread at a time per handle.
 * Owns the LMDB environment. A failed write leaves the manifest as it was. At most 150 bytes a video beyond
 * its uri. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/media/media.h"

#define MANIFEST_URI_MAX 4096

enum manifest_split { MANIFEST_SPLIT_NONE, MANIFEST_SPLIT_TRAIN, MANIFEST_SPLIT_VAL, MANIFEST_SPLIT_TEST };

struct manifest_video {
    char uri[MANIFEST_URI_MAX]; /* relative to the media root, or absolute (lib/media_file.h) */
    uint64_t size_bytes;
    double duration_s; /* 0 when the file could not be probed */
    double fps;        /* average frame rate of the chosen video stream, 0 without one */
    uint32_t width, height;
    int32_t video_stream, audio_stream; /* indices in the file, -1: none */
    uint32_t sample_rate, channels;
    /* outside the identity: */
    uint32_t probe_reason; /* 0, or the reason code of lib/media/codes.h for which the probe failed */
    int64_t mtime_ns;      /* of the file when it was probed, since 1970; 0: it could not be opened */
    uint32_t facts;        /* media_fact_bit of what the probe saw */
    int32_t truth;         /* class index, -1: none; for evaluation only */
    enum manifest_split split;
};

struct manifest;

/* Creates `path` (a single-file LMDB environment) as <path>.tmp; commit renames it to its name. */
int manifest_create(const char *path, const char *media_root, struct manifest **out,
                    struct err *e) WARN_UNUSED;
/* Appends; the video's index is the number of videos before it. The manifest must be open for writing; a
 * truth must be the index of a class. -EINVAL leaves it as it was, other failures end the writing. */
int manifest_append(struct manifest *m, const struct manifest_video *v, struct err *e) WARN_UNUSED;
/* Key frames of the video appended last, where its container has no index of its own: ascending, at most
 * MEDIA_KEYFRAMES_MAX; once a video. -EINVAL leaves the manifest as it was. */
int manifest_append_keyframes(struct manifest *m, const struct media_keyframe *keys, uint32_t n,
                              struct err *e) WARN_UNUSED;
/* Finds or adds a class name; *out is its index (in order of first use). -EROFS when it is not there and the
 * manifest is not open for writing. */
int manifest_class(struct manifest *m, const char *name, int32_t *out, struct err *e) WARN_UNUSED;
/* Computes the identity, syncs, renames. The handle stays open for reading. */
int manifest_commit(struct manifest *m, struct err *e) WARN_UNUSED;

/* Opens read-only (RDONLY, NOTLS, NOLOCK). XDC_EFORMAT when it is no manifest, or cut or altered (up to 1 GiB
 * the whole file is read to know, above only its seal), naming the command that makes one. */
int manifest_open(const char *path, struct manifest **out, struct err *e) WARN_UNUSED;
/* NULL is fine. An uncommitted writer leaves nothing behind. */
void manifest_close(struct manifest *m);

uint64_t manifest_count(const struct manifest *m);
uint32_t manifest_classes(const struct manifest *m);
/* NULL when there is no such class; a loan until close. */
const char *manifest_class_name(const struct manifest *m, int32_t index);
/* Directory that relative uris start from (absolute path); a loan until close. */
const char *manifest_media_root(const struct manifest *m);
/* XXH3 of the canonical records (index, uri, size, duration, fps, width, height, streams); truth and split
 * lie outside. 0 before commit. */
uint64_t manifest_identity(const struct manifest *m);
/* -ENOENT beyond the last; XDC_EFORMAT when the record is altered. */
int manifest_get(const struct manifest *m, uint64_t index, struct manifest_video *out,
                 struct err *e) WARN_UNUSED;
/* The last known key frame at or before clip time time_s; *out_key_pos is -1 where none is known. */
void manifest_keyframe(const struct manifest *m, uint64_t index, double time_s, double *out_key_s,
                       int64_t *out_key_pos);
/* All of a video; *out_n is 0 where none are known. XDC_EFORMAT when they are altered. */
int manifest_keyframes(const struct manifest *m, uint64_t index,
                       struct media_keyframe out[MEDIA_KEYFRAMES_MAX], uint32_t *out_n,
                       struct err *e) WARN_UNUSED;
/* Reads the whole file; XDC_EFORMAT when it is not the one that was committed. */
int manifest_verify(const struct manifest *m, struct err *e) WARN_UNUSED;
