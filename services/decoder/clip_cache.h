/* clip_cache: wide clips (lib/media/wide.h) that the workers have decoded, kept in memory for the next epoch,
 * whose views of the same clips are cut from them. Used by pool and job (ask, put and drop), decoder (its
 * size) and status. Loop thread only. Owns its memory: a memfd that workers read from and nobody but this
 * process can write to. It fills up and then stays as it is: an epoch asks for every clip once, so that what
 * made room for another clip would itself be wanted again first. */
#pragma once
#include "lib/media/media.h"
#include "services/decoder/lease.h"

struct clip_cache;

struct clip_cache_counters {
    uint64_t bytes, used; /* of memory */
    uint64_t parts;       /* a clip's frames, or its sound */
};

/* bytes > 0, of which memory is taken as it is used. 0, -EINVAL, -ENOMEM or another -errno. */
int clip_cache_open(struct clip_cache **out, uint64_t bytes, struct err *e) WARN_UNUSED;
/* Accepts NULL. */
void clip_cache_close(struct clip_cache *c);
/* Whether all that the lease wants is there. c may be NULL, here and below. */
bool clip_cache_has(const struct clip_cache *c, const struct lease *l);
/* True: *job, which is for this lease, has become one that cuts a view from *out_fd (which stays the
 * cache's). False: it decodes, and keeps the wide clip where there is one. */
bool clip_cache_use(const struct clip_cache *c, const struct lease *l, struct media_job *job, int *out_fd);
/* Takes what a worker has left behind a sample, if there is room for all of it. job: what it was asked; slot:
 * its slot. */
void clip_cache_put(struct clip_cache *c, const struct lease *l, const struct media_job *job,
                    const struct media_result *r, const uint8_t *slot);
/* Forgets a clip from which no view could be cut. Its memory is not used again. */
void clip_cache_drop(struct clip_cache *c, const struct lease *l);
struct clip_cache_counters clip_cache_counters(const struct clip_cache *c);
