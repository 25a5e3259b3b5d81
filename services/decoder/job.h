/* job: what leases ask of a media worker: a view that is cut from a kept clip, or clips of one file that are
 * decoded together. Used by pool. Loop thread only; plain data. */
#pragma once
#include "services/decoder/clip_cache.h"
#include "services/decoder/lease.h"

/* Bytes of a slot; of wide clips only what there is takes memory. */
#define JOB_SLOT_MAX (UINT64_C(1) << 31)

struct job {
    struct media_job media;                /* without the file's window */
    struct lease *leases[MEDIA_CLIPS_MAX]; /* one for each clip */
    unsigned n;
    int fd;         /* what it is cut from; -1: the leases' file */
    uint64_t bytes; /* of the slot */
};

/* A job for a queued lease, and for those of its grant that are queued behind it. cache may be NULL. */
void job_make(const struct clip_cache *cache, struct lease *first, struct job *out);
