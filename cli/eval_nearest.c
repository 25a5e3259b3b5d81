/* The nearest rows: products in f32 find candidates, distances in f64 decide. */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "cli/eval_neighbours.h"
#include "services/clusterer/rows.h"

#define QUERIES 32 /* of a block */

struct found {
    double square;
    uint64_t row;
};

struct search {
    const float *q, *g;
    uint64_t nq, ng;
    uint32_t d, k;
    double *norms;   /* owned, [ng]: squared */
    double largest;  /* of the norms, not squared */
    float *products; /* owned, [threads, QUERIES, ng] */
    double *least;   /* owned, [threads, k] */
    uint64_t *out;   /* [nq, k] */
    double *squares; /* [nq, k] */
    atomic_bool refused, no_memory;
};

/* Puts x into the rising `least` [k], whose first `n` are there, unless it is no less than all k. */
static uint32_t keep_least(double *least, uint32_t n, uint32_t k, double x)
{
    if (n == k && x >= least[k - 1])
        return n;
    uint32_t i = n < k ? n : k - 1;
    for (; i > 0 && least[i - 1] > x; i--)
        least[i] = least[i - 1];
    least[i] = x;
    return n < k ? n + 1 : k;
}

static int compare_found(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->square != y->square)
        return x->square < y->square ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* A product of f32 rows is off by at most d u / (1 - d u) |q| |g|, u = 2^-24, in whatever order it is summed
 * (Higham 2002, 3.1), and by what underflows; a score |g|^2 - 2 q g by twice that. What is among the k
 * nearest thus scores no more than four times that above the k-th least score. The second half is for f64's
 * rounding. */
static double slack(const struct search *s, double norm)
{
    double du = (double)s->d * 0x1p-24, gamma = du < 0.5 ? du / (1 - du) : (double)INFINITY;
    double products = norm * s->largest;
    return 4 * (gamma * products + s->d * 0x1p-120) + 0x1p-40 * (products + s->largest * s->largest);
}

static void search_query(struct search *s, uint64_t query, const float *products, double *least)
{
    const float *q = s->q + query * s->d;
    uint32_t n = 0;
    uint64_t candidates = 0;
    for (uint64_t i = 0; i < s->ng; i++)
        n = keep_least(least, n, s->k, s->norms[i] - 2 * (double)products[i]);
    double most = least[s->k - 1] + slack(s, sqrt(rows_norm64(q, s->d)));
    for (uint64_t i = 0; i < s->ng; i++)
        candidates += s->norms[i] - 2 * (double)products[i] <= most;
    struct found *found = malloc(candidates * sizeof *found);
    if (!found) {
        atomic_store(&s->no_memory, true);
        return;
    }
    candidates = 0;
    for (uint64_t i = 0; i < s->ng; i++)
        if (s->norms[i] - 2 * (double)products[i] <= most)
            found[candidates++] =
                (struct found){.square = rows_distance64(q, s->g + i * s->d, s->d), .row = i};
    qsort(found, candidates, sizeof *found, compare_found);
    for (uint32_t i = 0; i < s->k; i++) {
        s->out[query * s->k + i] = found[i].row;
        s->squares[query * s->k + i] = found[i].square;
    }
    free(found);
}

static void search_block(void *arg, uint64_t block, unsigned worker)
{
    struct search *s = arg;
    uint64_t first = block * QUERIES, n = s->nq - first < QUERIES ? s->nq - first : QUERIES;
    float *products = s->products + (size_t)worker * QUERIES * s->ng;
    dnnl_dim_t d = s->d, ng = (dnnl_dim_t)s->ng;
    if (dnnl_sgemm('N', 'T', (dnnl_dim_t)n, ng, d, 1.0f, s->q + first * s->d, d, s->g, d, 0.0f, products,
                   ng) != dnnl_success) {
        atomic_store(&s->refused, true);
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        search_query(s, first + i, products + i * s->ng, s->least + (size_t)worker * s->k);
}

int eval_nearest(const float *q, uint64_t nq, const float *g, uint64_t ng, uint32_t d, uint32_t k,
                 unsigned threads, uint64_t *out, double *squares, struct err *e)
{
    struct search s = {.q = q, .g = g, .nq = nq, .ng = ng, .d = d, .k = k, .out = out, .squares = squares};
    s.norms = malloc(ng * sizeof *s.norms);
    s.products = malloc((size_t)threads * QUERIES * ng * sizeof *s.products);
    s.least = malloc((size_t)threads * k * sizeof *s.least);
    int rc = s.norms && s.products && s.least
                 ? 0
                 : err_sys(e, ENOMEM, "neighbours among %llu videos", (unsigned long long)ng);
    for (uint64_t i = 0; rc == 0 && i < ng; i++) {
        s.norms[i] = rows_norm64(g + i * d, d);
        s.largest = fmax(s.largest, sqrt(s.norms[i]));
    }
    if (rc == 0)
        rows_run(threads, rows_chunks(nq, QUERIES), NULL, search_block, &s);
    if (rc == 0 && atomic_load(&s.no_memory))
        rc = err_sys(e, ENOMEM, "neighbours among %llu videos", (unsigned long long)ng);
    if (rc == 0 && atomic_load(&s.refused))
        rc = err_set(e, -ENOMEM, "oneDNN refused a product of %u x %llu x %u", QUERIES,
                     (unsigned long long)ng, d);
    free(s.norms);
    free(s.products);
    free(s.least);
    return rc;
}
