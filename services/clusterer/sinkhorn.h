/* sinkhorn: labels of given cluster sizes by Sinkhorn-Knopp in the log domain (algorithms.md 4.2). Used by
 * selavi_job and `xdc cluster`. Blocking; runs on threads of its own; any thread may set *stop. Rows are
 * those of a feed, [n, k] f32: lambda / 2 (log p_video + log p_audio), at most 0. The result owns its arrays.
 * All bits are the same on any number of threads, and whether rows lie in memory or in a file: sums over rows
 * are integers. On failure the result is empty. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"
#include "services/clusterer/feed.h"

/* Rows may hold values down to minus this. */
#define SINKHORN_MAX 1e9f

struct sinkhorn_options {
    double lambda, tolerance;
    uint32_t iterations; /* at most */
    bool compat;         /* stop by the published code's rule: sum over rows of |b / b' - 1| <= 0.1, every 10
                            iterations */
    unsigned threads;
    const atomic_bool *stop;      /* or NULL */
    _Atomic uint64_t *row_passes; /* or NULL: counts rows that were gone through */
};

struct sinkhorn_result {
    uint32_t *labels;  /* owned, [n]: where log_alpha + row is largest, the lowest of several */
    double *log_alpha; /* owned, [k] */
    double cost;       /* -1 / lambda times the mean of the rows at their labels */
    double error;      /* largest |mass of a cluster / what it should be - 1| at the end */
    uint32_t iterations;
    bool converged; /* by the rule, not by running out of iterations */
};

/* mass [k]: the share that each column has of the sum of the p_video p_audio. 0, XDC_EFORMAT (a row that is
 * not finite, above 0 or below -SINKHORN_MAX; named), XDC_ESTOPPED, -ENOMEM or what the feed gave. */
int sinkhorn_mass(struct feed *rows, const struct sinkhorn_options *o, double *mass,
                  struct err *e) WARN_UNUSED;

/* sizes [k]: above 0, with sum 1: what share of the rows each cluster gets. Errors as above. */
int sinkhorn_run(struct feed *rows, const double *sizes, const struct sinkhorn_options *o,
                 struct sinkhorn_result *out, struct err *e) WARN_UNUSED;
void sinkhorn_result_close(struct sinkhorn_result *r);

/* Labels of other rows x [n, k], which took no part. */
void sinkhorn_labels(const float *x, uint64_t n, uint32_t k, const double *log_alpha, unsigned threads,
                     uint32_t *labels);
