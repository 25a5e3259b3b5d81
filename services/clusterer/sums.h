/* sums: of the rows of every cluster, kept up to date by what moves between clusters. Used by kmeans. Workers
 * move rows at the same time; the other calls are one thread's. Fails only for memory.
 *
 * A sum is of integers (rows_fixed_add), so it does not depend on the order of the rows, nor on threads, nor
 * on how often a row came and went. An element is rounded to 2^-36 of the greatest |x| for 2^26 rows, a bit
 * better for every halving of the rows, 2^-50 at the best. */
#pragma once
#include <pthread.h>
#include <stdint.h>
#include "lib/err.h"

#define SUMS_NONE UINT32_MAX /* no cluster */

struct sums_part {
    pthread_mutex_t lock;
    uint64_t *sum;  /* owned, [k, d] */
    int64_t *count; /* owned, [k] */
};

struct sums {
    uint32_t k, d;
    double scale;           /* a power of two */
    uint64_t *sum;          /* owned, [k, d] */
    int64_t *count;         /* owned, [k]: rows */
    struct sums_part *part; /* owned, [parts]: what moved since the last sums_join */
    unsigned parts;
};

/* For up to n rows of which no element's magnitude is above `most`. -ENOMEM. */
int sums_init(struct sums *s, uint64_t n, uint32_t k, uint32_t d, float most, unsigned threads,
              struct err *e) WARN_UNUSED;
void sums_close(struct sums *s);
/* Back to no rows. */
void sums_clear(struct sums *s);

/* Moves rows x[pick[i]] [d], i < count, from cluster from[i] (or SUMS_NONE) to to[i]; any thread. Returns how
 * many changed theirs. */
uint64_t sums_move(struct sums *s, unsigned worker, const float *x, const uint32_t *pick, size_t count,
                   const uint32_t *from, const uint32_t *to);
/* Takes what the workers moved into sum and count. */
void sums_join(struct sums *s);

/* Element j of the sum of cluster c. */
double sums_at(const struct sums *s, uint32_t c, uint32_t j);
