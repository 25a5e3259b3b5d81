#include "services/clusterer/normalize.h"
#include "services/clusterer/eigen.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

/* Rows of the covariance's inner block: they stay in the nearest cache as f64. */
#define COVARIANCE_ROWS 64
/* Eigenvalues below this share of the first are rounding of f32 data, not directions. */
#define RANK_SHARE 1e-11

struct pass {
    float *x;        /* [n, d] */
    uint64_t n, fit; /* the first `fit` rows count */
    uint32_t d, p;   /* p: directions kept */
    double *sums;    /* [d], of columns */
    double *norms;   /* [chunks] */
    double factor;
    double *covariance; /* [d, d], then the eigenvectors */
    double *scales;     /* [d]: the eigenvalues, then what directions are multiplied by */
    float *vectors;     /* [p, d] */
    double *block;      /* [threads, COVARIANCE_ROWS, d] */
    float *projected;   /* [threads, ROWS_CHUNK, p] */
    atomic_bool failed; /* a matrix product was refused */
};

static int stopped(struct err *e)
{
    return err_set(e, XDC_ESTOPPED, "normalize: asked to stop");
}

static uint64_t chunk_end(const struct pass *s, uint64_t chunk)
{
    return (chunk + 1) * ROWS_CHUNK < s->n ? (chunk + 1) * ROWS_CHUNK : s->n;
}

/* Mean of a slice of the columns, summed in row order, then subtracted. */
static void centre_slice(void *arg, uint64_t slice, unsigned worker)
{
    (void)worker;
    struct pass *s = arg;
    size_t first = slice * ROWS_SLICE;
    size_t width = s->d - first < ROWS_SLICE ? s->d - first : ROWS_SLICE;
    for (uint64_t i = 0; i < s->fit; i++)
        rows_add(s->sums + first, s->x + i * s->d + first, width);
    for (size_t j = 0; j < width; j++)
        s->sums[first + j] /= (double)s->fit;
    for (uint64_t i = 0; i < s->n; i++)
        for (size_t j = first; j < first + width; j++)
            s->x[i * s->d + j] = (float)((double)s->x[i * s->d + j] - s->sums[j]);
}

int normalize_centre(float *x, uint64_t n, uint64_t fit, uint32_t d, unsigned threads,
                     const atomic_bool *stop, struct err *e)
{
    struct pass s = {.x = x, .n = n, .fit = fit, .d = d, .sums = calloc(d, sizeof *s.sums)};
    if (!s.sums)
        return err_sys(e, ENOMEM, "normalize: mean of %u columns", d);
    bool done = rows_run(threads, rows_chunks(d, ROWS_SLICE), stop, centre_slice, &s);
    free(s.sums);
    return done ? 0 : stopped(e);
}

static void l2_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    (void)worker;
    struct pass *s = arg;
    for (uint64_t i = chunk * ROWS_CHUNK; i < chunk_end(s, chunk); i++) {
        float *row = s->x + i * s->d;
        double sum = 0; /* f64: neither tiny nor huge rows lose their norm */
        for (uint32_t j = 0; j < s->d; j++)
            sum += (double)row[j] * (double)row[j];
        double norm = sqrt(sum);
        for (uint32_t j = 0; norm > 0 && j < s->d; j++)
            row[j] = (float)((double)row[j] / norm);
    }
}

int normalize_l2(float *x, uint64_t n, uint32_t d, unsigned threads, const atomic_bool *stop, struct err *e)
{
    struct pass s = {.x = x, .n = n, .d = d};
    return rows_run(threads, rows_chunks(n, ROWS_CHUNK), stop, l2_chunk, &s) ? 0 : stopped(e);
}

static void norm_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    (void)worker;
    struct pass *s = arg;
    s->norms[chunk] = 0;
    for (uint64_t i = chunk * ROWS_CHUNK; i < chunk_end(s, chunk) && i < s->fit; i++)
        s->norms[chunk] += rows_norm(s->x + i * s->d, s->d);
}

static void scale_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    (void)worker;
    struct pass *s = arg;
    for (uint64_t i = chunk * ROWS_CHUNK * s->d; i < chunk_end(s, chunk) * s->d; i++)
        s->x[i] = (float)((double)s->x[i] * s->factor);
}

int normalize_variance(float *x, uint64_t n, uint64_t fit, uint32_t d, unsigned threads,
                       const atomic_bool *stop, struct err *e)
{
    uint64_t chunks = rows_chunks(n, ROWS_CHUNK);
    struct pass s = {
        .x = x, .n = n, .fit = fit, .d = d, .norms = calloc(chunks ? chunks : 1, sizeof *s.norms)};
    if (!s.norms)
        return err_sys(e, ENOMEM, "normalize: variance of %llu rows", (unsigned long long)n);
    bool done = rows_run(threads, chunks, stop, norm_chunk, &s);
    double sum = 0;
    for (uint64_t i = 0; i < chunks; i++)
        sum += s.norms[i];
    free(s.norms);
    s.norms = NULL;
    if (done && sum > 0) {
        s.factor = 1.0 / sqrt(sum / (double)fit);
        done = rows_run(threads, chunks, stop, scale_chunk, &s);
    }
    return done ? 0 : stopped(e);
}

/* Rows [first, first + width) of X'X, right of the diagonal, in row order of X. */
static void covariance_slice(void *arg, uint64_t slice, unsigned worker)
{
    struct pass *s = arg;
    uint32_t d = s->d, first = (uint32_t)slice * ROWS_SLICE;
    uint32_t end = first + ROWS_SLICE < d ? first + ROWS_SLICE : d;
    double *block = s->block + (size_t)worker * COVARIANCE_ROWS * d;
    for (uint64_t row = 0; row < s->fit; row += COVARIANCE_ROWS) {
        uint64_t rows = s->fit - row < COVARIANCE_ROWS ? s->fit - row : COVARIANCE_ROWS;
        for (uint64_t i = 0; i < rows * d; i++)
            block[i] = (double)s->x[row * d + i];
        memset(block + rows * d, 0, (COVARIANCE_ROWS - rows) * d * sizeof *block);
        for (uint32_t i = first; i < end; i++)
            for (uint32_t r = 0; r < COVARIANCE_ROWS; r += 4) {
                const double *b = block + (size_t)r * d;
                const double f[4] = {b[i], b[d + i], b[2 * (size_t)d + i], b[3 * (size_t)d + i]};
                rows_axpy4(s->covariance + (size_t)i * d + i, f, b + i, d, d - i);
            }
    }
}

/* Each chunk is packed at its own beginning; the chunks are joined afterwards. */
static void project_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    struct pass *s = arg;
    uint64_t first = chunk * ROWS_CHUNK, rows = chunk_end(s, chunk) - first;
    float *x = s->x + first * s->d, *y = s->projected + (size_t)worker * ROWS_CHUNK * s->p;
    if (dnnl_sgemm('N', 'T', (dnnl_dim_t)rows, s->p, s->d, 1.0f, x, s->d, s->vectors, s->d, 0.0f, y, s->p) !=
        dnnl_success) {
        atomic_store(&s->failed, true);
        return;
    }
    for (uint64_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < s->p; j++)
            x[i * s->p + j] = (float)((double)y[i * s->p + j] * s->scales[j]);
}

/* The covariance of centred rows, whole and symmetric, in s->covariance. */
static int covariance(struct pass *s, unsigned threads, const atomic_bool *stop, struct err *e)
{
    size_t d = s->d;
    s->block = malloc(threads * COVARIANCE_ROWS * d * sizeof *s->block);
    if (!s->block)
        return err_sys(e, ENOMEM, "normalize: covariance of %u columns", s->d);
    if (!rows_run(threads, rows_chunks(d, ROWS_SLICE), stop, covariance_slice, s))
        return stopped(e);
    for (size_t i = 0; i < d; i++)
        for (size_t j = i; j < d; j++) {
            s->covariance[i * d + j] /= (double)s->fit;
            s->covariance[j * d + i] = s->covariance[i * d + j];
        }
    return 0;
}

/* Keeps the first eigenvectors: s->p of them, their scales, and the vectors as f32. */
static int choose_vectors(struct pass *s, uint32_t wanted, struct err *e)
{
    uint64_t most = wanted < s->d ? wanted : s->d;
    most = s->fit - 1 < most ? s->fit - 1 : most;
    while (s->p < most && s->scales[s->p] > 0 && s->scales[s->p] > RANK_SHARE * s->scales[0])
        s->p++;
    if (s->p == 0)
        return err_set(e, XDC_EFORMAT, "normalize: all %llu rows are equal: there is nothing to whiten",
                       (unsigned long long)s->fit);
    for (uint32_t j = 0; j < s->p; j++)
        s->scales[j] = 1.0 / sqrt(s->scales[j]);
    for (size_t i = 0; i < (size_t)s->p * s->d; i++)
        s->vectors[i] = (float)s->covariance[i];
    return 0;
}

static int project(struct pass *s, unsigned threads, const atomic_bool *stop, struct err *e)
{
    uint64_t chunks = rows_chunks(s->n, ROWS_CHUNK);
    s->projected = malloc((size_t)threads * ROWS_CHUNK * s->p * sizeof *s->projected);
    if (!s->projected)
        return err_sys(e, ENOMEM, "normalize: projection on %u directions", s->p);
    if (!rows_run(threads, chunks, stop, project_chunk, s))
        return stopped(e);
    if (atomic_load(&s->failed))
        return err_set(e, -ENOMEM, "normalize: oneDNN refused a product of %u x %u x %u", ROWS_CHUNK, s->p,
                       s->d);
    for (uint64_t c = 1; c < chunks; c++)
        memmove(s->x + c * ROWS_CHUNK * s->p, s->x + c * ROWS_CHUNK * s->d,
                (chunk_end(s, c) - c * ROWS_CHUNK) * s->p * sizeof *s->x);
    return 0;
}

int normalize_pca_whiten(float *x, uint64_t n, uint64_t fit, uint32_t d, uint32_t wanted, unsigned threads,
                         const atomic_bool *stop, uint32_t *out_dim, struct err *e)
{
    int rc = fit < 2 ? err_set(e, XDC_EFORMAT, "normalize: whitening needs at least 2 rows, there are %llu",
                               (unsigned long long)fit)
                     : normalize_centre(x, n, fit, d, threads, stop, e);
    if (rc)
        return rc;
    struct pass s = {.x = x, .n = n, .fit = fit, .d = d};
    s.covariance = calloc((size_t)d * d, sizeof *s.covariance);
    s.scales = calloc(d, sizeof *s.scales);
    s.vectors = malloc((size_t)d * d * sizeof *s.vectors);
    if (!s.covariance || !s.scales || !s.vectors)
        rc = err_sys(e, ENOMEM, "normalize: whitening of %u columns", d);
    if (rc == 0)
        rc = covariance(&s, threads, stop, e);
    if (rc == 0)
        rc = eigen_symmetric(s.covariance, s.scales, d, stop, e);
    if (rc == 0)
        rc = choose_vectors(&s, wanted, e);
    if (rc == 0)
        rc = project(&s, threads, stop, e);
    *out_dim = s.p;
    free(s.covariance);
    free(s.scales);
    free(s.vectors);
    free(s.block);
    free(s.projected);
    return rc;
}
