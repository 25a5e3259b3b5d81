/* index_partial: what an index has found out so far, in <out>.partial: an index that was stopped goes on from
 * it. Used by index_probe and cmd_index. Blocking; one thread. Append-only, synced now and then; a torn tail
 * is cut off. Of this host and build alone: it is no format for others. */
#pragma once
#include <limits.h>
#include "lib/manifest.h"

/* What a probe found. */
struct index_found {
    uint64_t size_bytes;
    int64_t mtime_ns; /* 0: it could not be opened */
    uint32_t reason;  /* enum media_reason */
    uint32_t facts;
    struct media_probe probe;
    uint32_t keyframes;
};

struct index_partial {
    int fd; /* owned; -1: not open */
    uint64_t end;
    double synced_s;
    char path[PATH_MAX];
};

/* Opens or creates `path`, with a lock: XDC_ELOCKED when another index writes it. What is there of an index
 * of the same root is shown to `on_record`, by the offset to get it by; of another root, it is thrown away.
 */
int index_partial_open(struct index_partial *p, const char *path, const char *root,
                       void (*on_record)(void *arg, uint64_t at, const char *uri,
                                         const struct index_found *f),
                       void *arg, struct err *e) WARN_UNUSED;
int index_partial_add(struct index_partial *p, const char *uri, const struct index_found *f,
                      const struct media_keyframe *keys, uint64_t *out_at, struct err *e) WARN_UNUSED;
/* keys [MEDIA_KEYFRAMES_MAX] */
int index_partial_get(const struct index_partial *p, uint64_t at, struct index_found *out,
                      struct media_keyframe *keys, struct err *e) WARN_UNUSED;
/* Closes, and removes the file where `done`; else syncs it. Safe on one that was not opened. */
void index_partial_close(struct index_partial *p, bool done);
