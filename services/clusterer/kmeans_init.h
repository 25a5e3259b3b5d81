/* kmeans_init: the parts of choosing first centroids that lie in files of their own. Used by kmeans_init.c
 * and kmeans_parallel.c alone. Blocking; any thread. Owns nothing. Fails with XDC_ESTOPPED or -ENOMEM. */
#pragma once
#include <stdbool.h>
#include "services/clusterer/kmeans.h"

/* Greedy k-means++ over all rows of x [n, d], which count `weight` [n] times; NULL: once. */
int kmeans_plusplus(const float *x, const double *weight, uint64_t n, uint32_t d,
                    const struct kmeans_options *o, struct rng *r, float *centroids,
                    struct err *e) WARN_UNUSED;

/* Rows row[0] < row[1] < ... of the feed: out [m, d]. One pass. Also what the feed's reader returned. */
int kmeans_take_rows(struct feed *f, const struct kmeans_options *o, const uint64_t *row, uint64_t m,
                     float *out, struct err *e) WARN_UNUSED;

/* k-means||. *out_enough is false, and nothing chosen, where its passes drew fewer than k rows. */
int kmeans_parallel(struct feed *f, const struct kmeans_options *o, struct rng *r, float *centroids,
                    bool *out_enough, struct err *e) WARN_UNUSED;
