/* source_stream: one encoder's rows read from the dump anew for every pass, centred, where there is no memory
 * to hold them. Used by source. A reader belongs to one thread at a time, and the dump to it. Owns nothing.
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "lib/feature_dump.h"
#include "services/clusterer/feed.h"

struct source_stream {
    struct feature_dump *dump;
    uint32_t encoder, d;
    const uint64_t *clips; /* [n], ascending: whose rows */
    uint64_t n;
    const double *mean; /* [d], or NULL: rows are as they are stored */
    const atomic_bool *stop;
};

/* The mean row [d]; the same bits as normalize_mean. *out_bad: the first row that is not finite or too large
 * (rows_first_bad), or UINT64_MAX. */
int source_stream_mean(const struct source_stream *s, unsigned threads, double *mean, uint64_t *out_bad,
                       struct err *e) WARN_UNUSED;
/* A feed_read of the n rows; arg is the stream. */
int source_stream_read(void *arg, uint64_t first, uint64_t n, float *out, struct err *e);
/* As distinct_rows. */
int source_stream_distinct(const struct source_stream *s, uint32_t most, uint32_t *out,
                           struct err *e) WARN_UNUSED;
