#include "services/clusterer/kmeans.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

/* Columns of one matrix product; wider ones are slower. */
#define BLOCK 256

struct lloyd {
    const float *x; /* [n, d] */
    uint64_t n, chunks;
    uint32_t d, k,
        padded; /* centroids, rounded up to whole lanes; those beyond k are zero and infinitely far */
    const struct kmeans_options *o;
    float *centroids;   /* owned, [padded, d] */
    float *offsets;     /* owned, [padded] squared norms of the centroids */
    uint32_t *labels;   /* owned, [n] */
    uint64_t *counts;   /* owned, [k] */
    double *sums;       /* owned, [k, d] */
    double *objectives; /* owned, [chunks] */
    float *scratch;     /* owned, [threads, ROWS_CHUNK, block] */
    uint32_t block;
    atomic_bool failed; /* a matrix product was refused */
};

static void lloyd_close(struct lloyd *l)
{
    free(l->centroids);
    free(l->offsets);
    free(l->labels);
    free(l->counts);
    free(l->sums);
    free(l->objectives);
    free(l->scratch);
}

static int lloyd_init(struct lloyd *l, const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o,
                      struct err *e)
{
    *l = (struct lloyd){.x = x, .n = n, .d = d, .k = o->k, .o = o, .chunks = rows_chunks(n, ROWS_CHUNK)};
    l->padded = (o->k + ROWS_LANES - 1) / ROWS_LANES * ROWS_LANES;
    l->block = l->padded < BLOCK ? l->padded : BLOCK;
    l->centroids = calloc((size_t)l->padded * d, sizeof *l->centroids);
    l->offsets = malloc(l->padded * sizeof *l->offsets);
    l->labels = malloc(n * sizeof *l->labels);
    l->counts = malloc(l->k * sizeof *l->counts);
    l->sums = malloc((size_t)l->k * d * sizeof *l->sums);
    l->objectives = malloc(l->chunks * sizeof *l->objectives);
    l->scratch = malloc((size_t)o->threads * ROWS_CHUNK * l->block * sizeof *l->scratch);
    if (l->centroids && l->offsets && l->labels && l->counts && l->sums && l->objectives && l->scratch)
        return 0;
    lloyd_close(l);
    *l = (struct lloyd){0};
    return err_sys(e, ENOMEM, "k-means of %llu rows, k %u", (unsigned long long)n, o->k);
}

/* argmin over c of |c|^2 - 2 x.c, the part of |x - c|^2 that depends on c. */
static void assign_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    struct lloyd *l = arg;
    uint64_t first = chunk * ROWS_CHUNK;
    size_t rows = l->n - first < ROWS_CHUNK ? (size_t)(l->n - first) : ROWS_CHUNK;
    const float *x = l->x + first * l->d;
    uint32_t *labels = l->labels + first;
    float *scores = l->scratch + (size_t)worker * ROWS_CHUNK * l->block;
    float best[ROWS_CHUNK];
    for (size_t i = 0; i < rows; i++) {
        best[i] = INFINITY;
        labels[i] = 0;
    }
    for (uint32_t c = 0; c < l->padded; c += l->block) {
        uint32_t width = l->padded - c < l->block ? l->padded - c : l->block;
        if (dnnl_sgemm('N', 'T', (dnnl_dim_t)rows, width, l->d, -2.0f, x, l->d,
                       l->centroids + (size_t)c * l->d, l->d, 0.0f, scores, width) != dnnl_success) {
            atomic_store(&l->failed, true);
            return;
        }
        rows_nearest(scores, l->offsets + c, rows, width, c, best, labels);
    }
    double objective = 0;
    for (size_t i = 0; i < rows; i++)
        objective += rows_distance(x + i * l->d, l->centroids + (size_t)labels[i] * l->d, l->d);
    l->objectives[chunk] = objective;
    if (l->o->row_passes)
        atomic_fetch_add(l->o->row_passes, rows);
}

/* Labels and objective of the current centroids. */
static int lloyd_assign(struct lloyd *l, double *out_objective, struct err *e)
{
    for (uint32_t c = 0; c < l->padded; c++)
        l->offsets[c] = c < l->k ? (float)rows_norm(l->centroids + (size_t)c * l->d, l->d) : INFINITY;
    if (!rows_run(l->o->threads, l->chunks, l->o->stop, assign_chunk, l))
        return err_set(e, XDC_ESTOPPED, "k-means: asked to stop");
    if (atomic_load(&l->failed))
        return err_set(e, -ENOMEM, "k-means: oneDNN refused a product of %u x %u x %u", ROWS_CHUNK, l->block,
                       l->d);
    double sum = 0;
    for (uint64_t i = 0; i < l->chunks; i++)
        sum += l->objectives[i];
    *out_objective = sum;
    return 0;
}

/* Sums of a slice of the columns, in row order: no partial sums to keep, and no thread count in the result.
 */
static void sum_slice(void *arg, uint64_t slice, unsigned worker)
{
    (void)worker;
    struct lloyd *l = arg;
    size_t first = slice * ROWS_SLICE;
    size_t width = l->d - first < ROWS_SLICE ? l->d - first : ROWS_SLICE;
    for (uint32_t c = 0; c < l->k; c++)
        memset(l->sums + (size_t)c * l->d + first, 0, width * sizeof *l->sums);
    for (uint64_t i = 0; i < l->n; i++)
        rows_add(l->sums + (size_t)l->labels[i] * l->d + first, l->x + i * l->d + first, width);
}

static int lloyd_update(struct lloyd *l, struct rng *r, uint32_t *out_splits, struct err *e)
{
    if (!rows_run(l->o->threads, rows_chunks(l->d, ROWS_SLICE), l->o->stop, sum_slice, l))
        return err_set(e, XDC_ESTOPPED, "k-means: asked to stop");
    memset(l->counts, 0, l->k * sizeof *l->counts);
    for (uint64_t i = 0; i < l->n; i++)
        l->counts[l->labels[i]]++;
    for (uint32_t c = 0; c < l->k; c++)
        for (uint32_t j = 0; l->counts[c] && j < l->d; j++)
            l->centroids[(size_t)c * l->d + j] =
                (float)(l->sums[(size_t)c * l->d + j] / (double)l->counts[c]);
    *out_splits = kmeans_split_empty(l->centroids, l->counts, l->k, l->d, r);
    return 0;
}

/* Weight of a cluster as a donor. */
static uint64_t spare(const uint64_t *counts, const bool *used, uint32_t c)
{
    return counts[c] > 1 && !used[c] ? counts[c] - 1 : 0;
}

static uint32_t draw_donor(const uint64_t *counts, bool *used, uint32_t k, struct rng *r)
{
    uint64_t total = 0;
    for (uint32_t c = 0; c < k; c++)
        total += spare(counts, used, c);
    if (total == 0) { /* every donor has given once: begin again */
        memset(used, 0, k * sizeof *used);
        for (uint32_t c = 0; c < k; c++)
            total += spare(counts, used, c);
    }
    uint64_t at = rng_below(r, total);
    uint32_t c = 0;
    while (at >= spare(counts, used, c))
        at -= spare(counts, used, c++);
    return c;
}

uint32_t kmeans_split_empty(float *centroids, uint64_t *counts, uint32_t k, uint32_t d, struct rng *r)
{
    uint32_t filled = 0;
    bool *used = NULL;
    for (uint32_t c = 0; c < k; c++) {
        if (counts[c])
            continue;
        if (!used && !(used = calloc(k, sizeof *used)))
            return filled; /* an empty cluster stays for one more update */
        uint32_t donor = draw_donor(counts, used, k, r);
        used[donor] = used[c] = true;
        float *to = centroids + (size_t)c * d, *from = centroids + (size_t)donor * d;
        for (uint32_t j = 0; j < d; j++) {
            float v = from[j], up = v * (1.0f + 1.0f / 1024), down = v * (1.0f - 1.0f / 1024);
            to[j] = j % 2 ? down : up;
            from[j] = j % 2 ? up : down;
        }
        counts[c] = counts[donor] / 2;
        counts[donor] -= counts[c];
        filled++;
    }
    free(used);
    return filled;
}

/* One restart. `out` gets the figures; labels and centroids stay in `l`. */
static int lloyd_run(struct lloyd *l, uint32_t restart, struct kmeans_result *out, struct err *e)
{
    struct rng r;
    rng_init(&r, rng_key(l->o->seed, "kmeans", l->o->round, l->o->source, restart));
    *out = (struct kmeans_result){.restart = restart};
    int rc = kmeans_init(l->x, l->n, l->d, l->o, &r, l->centroids, e);
    if (rc == 0)
        rc = lloyd_assign(l, &out->objective, e);
    /* At 0 every row is its centroid: fewer rows than k are distinct, and splitting could only do harm. */
    while (rc == 0 && out->objective > 0 && out->iterations < l->o->iterations) {
        uint32_t splits = 0;
        double before = out->objective;
        rc = lloyd_update(l, &r, &splits, e);
        if (rc == 0)
            rc = lloyd_assign(l, &out->objective, e);
        out->iterations++;
        out->empty_splits += splits;
        if (!splits && before - out->objective <= l->o->tolerance * before)
            break;
    }
    return rc;
}

static int check_rows(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o, struct err *e)
{
    uint64_t bad = rows_first_bad(x, n, d, o->threads);
    if (bad != UINT64_MAX)
        return err_set(e, XDC_EFORMAT, "k-means: row %llu is not finite, or too large to square",
                       (unsigned long long)bad);
    return 0;
}

int kmeans_run(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o,
               struct kmeans_result *out, struct err *e)
{
    struct lloyd l = {0};
    struct kmeans_result best = {0}, run;
    *out = best;
    if (n < o->k)
        return err_set(e, XDC_EFORMAT, "k-means: %u clusters need at least as many rows, there are %llu",
                       o->k, (unsigned long long)n);
    int rc = check_rows(x, n, d, o, e);
    if (rc == 0)
        rc = lloyd_init(&l, x, n, d, o, e);
    for (uint32_t i = 0; rc == 0 && i < o->restarts; i++) {
        rc = lloyd_run(&l, i, &run, e);
        if (rc || (i > 0 && run.objective >= best.objective))
            continue;
        /* The best arrays are kept by swapping them with the working ones. */
        run.centroids = l.centroids;
        run.labels = l.labels;
        l.centroids = best.centroids;
        l.labels = best.labels;
        best = run;
        if (i + 1 == o->restarts)
            continue;
        if (!l.centroids)
            l.centroids = calloc((size_t)l.padded * d, sizeof *l.centroids);
        if (!l.labels)
            l.labels = malloc(n * sizeof *l.labels);
        if (!l.centroids || !l.labels)
            rc = err_sys(e, ENOMEM, "k-means of %llu rows, k %u", (unsigned long long)n, o->k);
    }
    lloyd_close(&l);
    if (rc)
        kmeans_result_close(&best);
    *out = best;
    return rc;
}

void kmeans_result_close(struct kmeans_result *r)
{
    free(r->centroids);
    free(r->labels);
    *r = (struct kmeans_result){0};
}

int kmeans_nearest(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o,
                   const float *centroids, uint32_t *labels, struct err *e)
{
    struct lloyd l = {0};
    double objective;
    if (n == 0)
        return 0;
    int rc = check_rows(x, n, d, o, e);
    if (rc == 0)
        rc = lloyd_init(&l, x, n, d, o, e);
    if (rc == 0) {
        memcpy(l.centroids, centroids, (size_t)o->k * d * sizeof *centroids);
        rc = lloyd_assign(&l, &objective, e);
    }
    if (rc == 0)
        memcpy(labels, l.labels, n * sizeof *labels);
    lloyd_close(&l);
    return rc;
}
