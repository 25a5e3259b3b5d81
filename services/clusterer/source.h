/* source: the rows that one clustering is made of, out of a dump: one encoder's, or both encoders' side by
 * side (algorithms.md 1.2), scaled; those of the hold-out behind the others, which alone make means and
 * directions. In round 0 the rows may be given (init.features); the dump then says which there are. Used by
 * kmeans_source; its parts by cluster_job, selavi_job and `xdc compare`. Blocking; one thread, which may
 * start others. Owns rows and clip numbers. On failure it is empty. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "lib/conf.h"
#include "lib/feature_dump.h"
#include "services/clusterer/row_store.h"
#include "services/clusterer/source_stream.h"
#include "services/clusterer/transform.h"

struct source {
    struct row_store store; /* owned; of x, or of the hold-out's rows alone */
    float *x;               /* [n + held, d], centred; NULL: rows come from the stream */
    struct source_stream stream;
    uint64_t *clips;  /* owned, [n + held], ascending in each part: the clip of each row */
    uint64_t n, held; /* rows that are clustered; behind them: of the hold-out */
    uint32_t d;
    uint32_t split;     /* columns of the first encoder */
    struct transform t; /* owned; what has been done to the rows. Without centroids */
};

/* The dump's encoder of that name. XDC_EMISMATCH: it has none. */
int source_find_encoder(const struct feature_dump *dump, const char *name, uint32_t *out,
                        struct err *e) WARN_UNUSED;

/* Reads the rows that are there in all of `encoders` (one or two of the dump). Two are scaled each by
 * cluster.scale; all are centred, which changes no clustering. Given ones are one matrix, whatever the
 * encoders. What does not fit cluster.memory_mib goes into a file (row_store.h), but one encoder's rows that
 * are not normalised, which the dump has already: they are streamed. The dump is a loan until source_close.
 */
int source_read(struct source *s, struct feature_dump *dump, const uint32_t *encoders, uint32_t n_encoders,
                const struct conf *c, const atomic_bool *stop, struct err *e) WARN_UNUSED;

/* cluster.normalize, in place; d may fall. */
int source_normalize(struct source *s, const struct conf *c, const atomic_bool *stop,
                     struct err *e) WARN_UNUSED;
/* The rows that are clustered, for kmeans; a loan. */
int source_feed(struct source *s, const struct conf *c, struct feed *out, struct err *e) WARN_UNUSED;
/* Those of the hold-out [held, d]; a loan. */
const float *source_held(const struct source *s);
/* As distinct_rows, of the rows that are clustered. */
int source_distinct(const struct source *s, uint32_t most, uint32_t *out, struct err *e) WARN_UNUSED;
/* Fills clips, n and held alone. */
int source_list_clips(struct source *s, const struct feature_dump *dump, const uint32_t *encoders, uint32_t n,
                      const struct conf *c, struct err *e) WARN_UNUSED;
/* The rows of `n` clips, which ascend, of one encoder as x [n, dim]. */
int source_read_clips(struct feature_dump *dump, uint32_t encoder, const uint64_t *clips, uint64_t n,
                      float *x, const atomic_bool *stop, struct err *e) WARN_UNUSED;
void source_close(struct source *s);
