/* kmeans_init: the parts of choosing first centroids that lie in files of their own. Used by kmeans_init.c
 * and kmeans_parallel.c alone. Blocking; any thread. Owns nothing. Fails with XDC_ESTOPPED or -ENOMEM. */
#pragma once
#include <stdbool.h>
#include "services/clusterer/kmeans.h"

/* Greedy k-means++ over all rows of x [n, d], which count `weight` [n] times; NULL: once. */
int kmeans_plusplus(const float *x, const double *weight, uint64_t n, uint32_t d,
                    const struct kmeans_options *o, struct rng *r, float *centroids,
                    struct err *e) WARN_UNUSED;

/* k-means||. *out_enough is false, and nothing chosen, where its passes drew fewer than k rows. */
int kmeans_parallel(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o, struct rng *r,
                    float *centroids, bool *out_enough, struct err *e) WARN_UNUSED;
