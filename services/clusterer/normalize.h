/* normalize: what is done to features before k-means: centring, L2, PCA with whitening (algorithms.md 5).
 * Used by cluster_job and `xdc cluster`. Blocking; any thread; runs on threads of its own. Works in place;
 * owns nothing. The same bits on any number of threads. On failure the rows are in no defined state. Means
 * and directions are those of the first `fit` rows of x [n, d], fit <= n; all n are changed by them. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "lib/err.h"

/* Subtracts the mean row; a translation changes no clustering and saves f32 precision. */
int normalize_centre(float *x, uint64_t n, uint64_t fit, uint32_t d, unsigned threads,
                     const atomic_bool *stop, struct err *e) WARN_UNUSED;

/* Divides every row by its L2 norm; rows of zeros stay. */
int normalize_l2(float *x, uint64_t n, uint32_t d, unsigned threads, const atomic_bool *stop,
                 struct err *e) WARN_UNUSED;

/* Divides everything by sqrt(mean squared norm of a row): of centred rows the square root of their total
 * variance. */
int normalize_variance(float *x, uint64_t n, uint64_t fit, uint32_t d, unsigned threads,
                       const atomic_bool *stop, struct err *e) WARN_UNUSED;

/* Centres, projects on the `wanted` first eigenvectors of the covariance, divides by the square root of the
 * eigenvalue. x [n, d] becomes x [n, *out_dim], packed; *out_dim = min(wanted, d, fit - 1, rank). XDC_EFORMAT
 * when all rows are equal. */
int normalize_pca_whiten(float *x, uint64_t n, uint64_t fit, uint32_t d, uint32_t wanted, unsigned threads,
                         const atomic_bool *stop, uint32_t *out_dim, struct err *e) WARN_UNUSED;
