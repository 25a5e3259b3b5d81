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
    const float *in; /* [n, d], of which something is learnt, or */
    float *x;        /* [n, d], to which something is done */
    uint64_t n;
    uint32_t d;
    double *sums;  /* [d], of columns */
    double *norms; /* [chunks] */
    double factor;
    const double *mean;
    double *covariance; /* [d, d], then the eigenvectors */
    double *block;      /* [threads, COVARIANCE_ROWS, d] */
    const struct normalize_directions *by;
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

/* Adds up a slice of the columns, in row order. */
static void add_slice(void *arg, uint64_t slice, unsigned worker)
{
    (void)worker;
    struct pass *s = arg;
    size_t first = slice * ROWS_SLICE;
    size_t width = s->d - first < ROWS_SLICE ? s->d - first : ROWS_SLICE;
    for (uint64_t i = 0; i < s->n; i++)
        rows_add(s->sums + first, s->in + i * s->d + first, width);
}

int normalize_add(const float *x, uint64_t n, uint32_t d, unsigned threads, const atomic_bool *stop,
                  double *sums, struct err *e)
{
    struct pass s = {.in = x, .n = n, .d = d, .sums = sums};
    return rows_run(threads, rows_chunks(d, ROWS_SLICE), stop, add_slice, &s) ? 0 : stopped(e);
}

int normalize_mean(const float *x, uint64_t n, uint32_t d, unsigned threads, const atomic_bool *stop,
                   double *mean, struct err *e)
{
    memset(mean, 0, d * sizeof *mean);
    int rc = normalize_add(x, n, d, threads, stop, mean, e);
    for (uint32_t j = 0; j < d; j++)
        mean[j] /= (double)n;
    return rc;
}

static void subtract_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    (void)worker;
    struct pass *s = arg;
    for (uint64_t i = chunk * ROWS_CHUNK; i < chunk_end(s, chunk); i++)
        for (uint32_t j = 0; j < s->d; j++)
            s->x[i * s->d + j] = (float)((double)s->x[i * s->d + j] - s->mean[j]);
}

int normalize_subtract(float *x, uint64_t n, uint32_t d, const double *mean, unsigned threads,
                       const atomic_bool *stop, struct err *e)
{
    struct pass s = {.x = x, .n = n, .d = d, .mean = mean};
    return rows_run(threads, rows_chunks(n, ROWS_CHUNK), stop, subtract_chunk, &s) ? 0 : stopped(e);
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
    for (uint64_t i = chunk * ROWS_CHUNK; i < chunk_end(s, chunk); i++)
        s->norms[chunk] += rows_norm(s->in + i * s->d, s->d);
}

int normalize_factor(const float *x, uint64_t n, uint32_t d, unsigned threads, const atomic_bool *stop,
                     double *out, struct err *e)
{
    uint64_t chunks = rows_chunks(n, ROWS_CHUNK);
    struct pass s = {.in = x, .n = n, .d = d, .norms = calloc(chunks ? chunks : 1, sizeof *s.norms)};
    if (!s.norms)
        return err_sys(e, ENOMEM, "normalize: variance of %llu rows", (unsigned long long)n);
    bool done = rows_run(threads, chunks, stop, norm_chunk, &s);
    double sum = 0;
    for (uint64_t i = 0; i < chunks; i++)
        sum += s.norms[i];
    free(s.norms);
    *out = sum > 0 ? 1.0 / sqrt(sum / (double)n) : 1;
    return done ? 0 : stopped(e);
}

static void multiply_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    (void)worker;
    struct pass *s = arg;
    for (uint64_t i = chunk * ROWS_CHUNK * s->d; i < chunk_end(s, chunk) * s->d; i++)
        s->x[i] = (float)((double)s->x[i] * s->factor);
}

int normalize_multiply(float *x, uint64_t n, uint32_t d, double factor, unsigned threads,
                       const atomic_bool *stop, struct err *e)
{
    struct pass s = {.x = x, .n = n, .d = d, .factor = factor};
    return rows_run(threads, rows_chunks(n, ROWS_CHUNK), stop, multiply_chunk, &s) ? 0 : stopped(e);
}

/* Rows [first, first + width) of X'X, right of the diagonal, in row order of X. */
static void covariance_slice(void *arg, uint64_t slice, unsigned worker)
{
    struct pass *s = arg;
    uint32_t d = s->d, first = (uint32_t)slice * ROWS_SLICE;
    uint32_t end = first + ROWS_SLICE < d ? first + ROWS_SLICE : d;
    double *block = s->block + (size_t)worker * COVARIANCE_ROWS * d;
    for (uint64_t row = 0; row < s->n; row += COVARIANCE_ROWS) {
        uint64_t rows = s->n - row < COVARIANCE_ROWS ? s->n - row : COVARIANCE_ROWS;
        for (uint64_t i = 0; i < rows * d; i++)
            block[i] = (double)s->in[row * d + i];
        memset(block + rows * d, 0, (COVARIANCE_ROWS - rows) * d * sizeof *block);
        for (uint32_t i = first; i < end; i++)
            for (uint32_t r = 0; r < COVARIANCE_ROWS; r += 4) {
                const double *b = block + (size_t)r * d;
                const double f[4] = {b[i], b[d + i], b[2 * (size_t)d + i], b[3 * (size_t)d + i]};
                rows_axpy4(s->covariance + (size_t)i * d + i, f, b + i, d, d - i);
            }
    }
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
            s->covariance[i * d + j] /= (double)s->n;
            s->covariance[j * d + i] = s->covariance[i * d + j];
        }
    return 0;
}

/* Keeps the first eigenvectors; out->scales holds the eigenvalues. */
static int choose_vectors(const struct pass *s, uint32_t wanted, struct normalize_directions *out,
                          struct err *e)
{
    uint64_t most = wanted < s->d ? wanted : s->d;
    most = s->n - 1 < most ? s->n - 1 : most;
    while (out->p < most && out->scales[out->p] > 0 && out->scales[out->p] > RANK_SHARE * out->scales[0])
        out->p++;
    if (out->p == 0)
        return err_set(e, XDC_EFORMAT, "normalize: all %llu rows are equal: there is nothing to whiten",
                       (unsigned long long)s->n);
    for (uint32_t j = 0; j < out->p; j++)
        out->scales[j] = 1.0 / sqrt(out->scales[j]);
    for (size_t i = 0; i < (size_t)out->p * s->d; i++)
        out->vectors[i] = (float)s->covariance[i];
    return 0;
}

int normalize_learn_directions(const float *x, uint64_t n, uint32_t d, uint32_t wanted, unsigned threads,
                               const atomic_bool *stop, struct normalize_directions *out, struct err *e)
{
    *out = (struct normalize_directions){.d = d};
    if (n < 2)
        return err_set(e, XDC_EFORMAT, "normalize: whitening needs at least 2 rows, there are %llu",
                       (unsigned long long)n);
    struct pass s = {.in = x, .n = n, .d = d};
    s.covariance = calloc((size_t)d * d, sizeof *s.covariance);
    out->scales = calloc(d, sizeof *out->scales);
    out->vectors = malloc((size_t)d * d * sizeof *out->vectors);
    int rc = 0;
    if (!s.covariance || !out->scales || !out->vectors)
        rc = err_sys(e, ENOMEM, "normalize: whitening of %u columns", d);
    if (rc == 0)
        rc = covariance(&s, threads, stop, e);
    if (rc == 0)
        rc = eigen_symmetric(s.covariance, out->scales, d, stop, e);
    if (rc == 0)
        rc = choose_vectors(&s, wanted, out, e);
    if (rc)
        normalize_directions_close(out);
    free(s.covariance);
    free(s.block);
    return rc;
}

void normalize_directions_close(struct normalize_directions *d)
{
    free(d->vectors);
    free(d->scales);
    *d = (struct normalize_directions){0};
}

/* Each chunk is packed at its own beginning; the chunks are joined afterwards. */
static void project_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    struct pass *s = arg;
    uint32_t p = s->by->p;
    uint64_t first = chunk * ROWS_CHUNK, rows = chunk_end(s, chunk) - first;
    float *x = s->x + first * s->d, *y = s->projected + (size_t)worker * ROWS_CHUNK * p;
    if (dnnl_sgemm('N', 'T', (dnnl_dim_t)rows, p, s->d, 1.0f, x, s->d, s->by->vectors, s->d, 0.0f, y, p) !=
        dnnl_success) {
        atomic_store(&s->failed, true);
        return;
    }
    for (uint64_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < p; j++)
            x[i * p + j] = (float)((double)y[i * p + j] * s->by->scales[j]);
}

int normalize_project(float *x, uint64_t n, const struct normalize_directions *by, unsigned threads,
                      const atomic_bool *stop, struct err *e)
{
    uint64_t chunks = rows_chunks(n, ROWS_CHUNK);
    struct pass s = {.x = x, .n = n, .d = by->d, .by = by};
    s.projected = malloc((size_t)threads * ROWS_CHUNK * by->p * sizeof *s.projected);
    int rc = 0;
    if (!s.projected)
        rc = err_sys(e, ENOMEM, "normalize: projection on %u directions", by->p);
    else if (!rows_run(threads, chunks, stop, project_chunk, &s))
        rc = stopped(e);
    else if (atomic_load(&s.failed))
        rc = err_set(e, -ENOMEM, "normalize: oneDNN refused a product of %u x %u x %u", ROWS_CHUNK, by->p,
                     by->d);
    for (uint64_t c = 1; rc == 0 && c < chunks; c++)
        memmove(x + c * ROWS_CHUNK * by->p, x + c * ROWS_CHUNK * by->d,
                (chunk_end(&s, c) - c * ROWS_CHUNK) * by->p * sizeof *x);
    free(s.projected);
    return rc;
}
