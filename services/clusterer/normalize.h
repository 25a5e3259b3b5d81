/* normalize: what is done to features before k-means: centring, L2, PCA with whitening (algorithms.md 5), in
 * two halves: what is learnt of rows, and what is done to rows with it. Used by transform and `xdc cluster`.
 * Blocking; any thread; runs on threads of its own. Works in place; owns nothing but what a struct says. The
 * same bits on any number of threads. On failure the rows are in no defined state; out-parameters are empty.
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "lib/err.h"

/* sums [d] += the rows of x [n, d], one after another. */
int normalize_add(const float *x, uint64_t n, uint32_t d, unsigned threads, const atomic_bool *stop,
                  double *sums, struct err *e) WARN_UNUSED;
/* The mean row [d] of x [n, d]. */
int normalize_mean(const float *x, uint64_t n, uint32_t d, unsigned threads, const atomic_bool *stop,
                   double *mean, struct err *e) WARN_UNUSED;
/* Subtracts it; a translation changes no clustering and saves f32 precision. */
int normalize_subtract(float *x, uint64_t n, uint32_t d, const double *mean, unsigned threads,
                       const atomic_bool *stop, struct err *e) WARN_UNUSED;

/* Divides every row by its L2 norm; rows of zeros stay. */
int normalize_l2(float *x, uint64_t n, uint32_t d, unsigned threads, const atomic_bool *stop,
                 struct err *e) WARN_UNUSED;

/* 1 / sqrt(mean squared norm of a row): of centred rows the inverse root of their total variance. 1 where all
 * are zero. */
int normalize_factor(const float *x, uint64_t n, uint32_t d, unsigned threads, const atomic_bool *stop,
                     double *out, struct err *e) WARN_UNUSED;
int normalize_multiply(float *x, uint64_t n, uint32_t d, double factor, unsigned threads,
                       const atomic_bool *stop, struct err *e) WARN_UNUSED;

/* The first eigenvectors of a covariance, and one over the roots of the eigenvalues. */
struct normalize_directions {
    uint32_t d, p;
    float *vectors; /* owned, [p, d] */
    double *scales; /* owned, [p] */
};
/* Of centred rows; p = min(wanted, d, n - 1, rank). XDC_EFORMAT when all rows are equal. */
int normalize_learn_directions(const float *x, uint64_t n, uint32_t d, uint32_t wanted, unsigned threads,
                               const atomic_bool *stop, struct normalize_directions *out,
                               struct err *e) WARN_UNUSED;
/* x [n, d] becomes x [n, p], packed: projected and scaled, which whitens centred rows. */
int normalize_project(float *x, uint64_t n, const struct normalize_directions *by, unsigned threads,
                      const atomic_bool *stop, struct err *e) WARN_UNUSED;
void normalize_directions_close(struct normalize_directions *d);
