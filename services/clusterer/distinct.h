/* distinct: how many rows differ from each other. Fewer than there are to be clusters would make some of them
 * copies. Used by kmeans_source, source_stream and `xdc cluster`. Pure; any thread. A count owns copies of
 * the rows that differ. Fails on memory alone. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

struct distinct {
    uint32_t d, count, most;
    size_t size;    /* slots, a power of two */
    uint32_t *slot; /* owned, [size]: a row's place among the rows plus 1 */
    float *rows;    /* owned, [most, d] */
};

/* Counts up to `most`. -ENOMEM. */
int distinct_init(struct distinct *c, uint32_t d, uint32_t most, struct err *e) WARN_UNUSED;
void distinct_close(struct distinct *c);
/* Looks at x [n, d]. */
void distinct_add(struct distinct *c, const float *x, uint64_t n);

/* *out: the number of different rows of x [n, d], or `most` where there are as many: it looks no further.
 * 0 or -ENOMEM. */
int distinct_rows(const float *x, uint64_t n, uint32_t d, uint32_t most, uint32_t *out,
                  struct err *e) WARN_UNUSED;
