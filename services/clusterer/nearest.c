#include "services/clusterer/nearest.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_STEP 16 /* columns of a row that lie together in a packed group */
#define AHEAD 16      /* steps by which the kernels fetch centroids ahead */
/* Centroids of one block: half of a second-level cache of 1 MiB; the rows of a chunk pass through the rest.
 */
#define BLOCK_BYTES (512 * 1024)
#define UP (1 + 1e-6) /* pays for what is rounded in f64 */
/* From where on the first pass gains more than its fixed cost of a row. */
#define INT8_COLUMNS 96
#define INT8_CELLS 49152
/* Share of f32's work that the first pass may leave. */
#define INT8_GAIN 0.6

#if defined(__x86_64__)
#define TILE(name) name##_avx512
#define TILE_TARGET __attribute__((target("avx512f")))
#define TILE_LANES 16
#define TILE_ROWS 14
#include "services/clusterer/nearest_tile.h"
#define TILE(name) name##_avx2
#define TILE_TARGET __attribute__((target("avx2,fma")))
#define TILE_LANES 8
#define TILE_ROWS 6
#include "services/clusterer/nearest_tile.h"
#endif
#define TILE(name) name##_any
#define TILE_TARGET
#define TILE_LANES 4
#define TILE_ROWS 4
#include "services/clusterer/nearest_tile.h"

unsigned nearest_kernels(struct nearest_kernel out[NEAREST_KERNELS_MAX])
{
    unsigned n = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        out[n++] = (struct nearest_kernel){14, 16, pack_avx512, tile_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        out[n++] = (struct nearest_kernel){6, 8, pack_avx2, tile_avx2};
#endif
    out[n++] = (struct nearest_kernel){4, 4, pack_any, tile_any};
    return n;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* On a cache line; NULL for no memory. */
static void *lines(size_t n, size_t size)
{
    return aligned_alloc(64, round_up(n * size, 64));
}

int nearest_init(struct nearest *n, uint32_t k, uint32_t d, uint32_t block,
                 const struct nearest_kernel *kernel, enum nearest_first first, struct err *e)
{
    struct nearest_kernel able[NEAREST_KERNELS_MAX];
    if (!kernel && nearest_kernels(able) > 0)
        kernel = &able[0];
    *n = (struct nearest){.k = k, .d = d, .kernel = *kernel};
    uint32_t width = 2 * n->kernel.lanes;
    n->depth = (uint32_t)round_up(d, DEPTH_STEP);
    n->panels = (uint32_t)(round_up(k, width) / width);
    size_t fit = BLOCK_BYTES / (sizeof(float) * n->depth);
    n->block = (block ? block : (uint32_t)fit) / width;
    n->block = n->block < 1 ? 1 : n->block;
    n->panel = lines((size_t)n->panels * width * n->depth, sizeof *n->panel);
    n->offset = lines((size_t)n->panels * width, sizeof *n->offset);
    int rc = n->panel && n->offset ? 0 : err_sys(e, ENOMEM, "%u centroids of %u columns", k, d);
    bool wanted = first == NEAREST_INT8 ||
                  (first == NEAREST_AUTO && d >= INT8_COLUMNS && (uint64_t)k * d >= INT8_CELLS);
    if (rc == 0 && wanted && nearest_int8_able(d))
        rc = nearest_int8_init(&n->int8, k, d, e);
    if (rc)
        nearest_close(n);
    return rc;
}

void nearest_close(struct nearest *n)
{
    free(n->panel);
    free(n->offset);
    nearest_int8_close(&n->int8);
    n->panel = n->offset = NULL;
}

void nearest_pack(struct nearest *n, const float *centroids)
{
    size_t width = 2 * n->kernel.lanes, columns = n->panels * width;
    double most = 0;
    n->centroids = centroids;
    memset(n->panel, 0, columns * n->depth * sizeof *n->panel);
    for (size_t c = 0; c < columns; c++) {
        n->offset[c] = INFINITY;
        if (c >= n->k)
            continue;
        const float *from = centroids + c * n->d;
        float *to = n->panel + c / width * width * n->depth + c % width;
        for (size_t j = 0; j < n->d; j++)
            to[j * width] = -2.0f * from[j];
        double norm = rows_norm64(from, n->d);
        n->offset[c] = (float)norm;
        most = norm > most ? norm : most;
    }
    const double u = ldexp(1, -24), d = n->d, c = sqrt(most), g = d * u / (1 - d * u);
    n->norm = c;
    n->per_norm = 2 * (g + 2 * u) * c;
    n->per_square = 4 * d * ldexp(1, -53);
    n->constant = 3 * u * c * c + d * ldexp(1, -147) + n->per_square * c * c;
    if (n->int8.on)
        nearest_int8_pack(&n->int8, n);
}

int nearest_scratch_init(struct nearest_scratch *s, const struct nearest *n, size_t rows, struct err *e)
{
    size_t whole = round_up(rows, n->kernel.rows);
    s->rows = lines(whole * n->depth, sizeof *s->rows);
    s->lanes = lines(whole, sizeof *s->lanes);
    s->int8 = (struct nearest_int8_scratch){0};
    int rc = s->rows && s->lanes ? 0 : err_sys(e, ENOMEM, "%zu rows of %u columns", rows, n->d);
    if (rc == 0 && n->int8.on)
        rc = nearest_int8_scratch_init(&s->int8, &n->int8, rows, e);
    if (rc == 0)
        memset(s->rows, 0, whole * n->depth * sizeof *s->rows); /* what pads groups and depth */
    else
        nearest_scratch_close(s);
    return rc;
}

void nearest_scratch_close(struct nearest_scratch *s)
{
    free(s->rows);
    free(s->lanes);
    nearest_int8_scratch_close(&s->int8);
    *s = (struct nearest_scratch){0};
}

/* Lays a group of rows out as the kernel reads it: [depth / DEPTH_STEP, rows, DEPTH_STEP]. */
static void pack_group(const struct nearest *n, const float *x, const uint32_t *pick, size_t rows, float *out)
{
    size_t whole = n->d / DEPTH_STEP, rest = n->d % DEPTH_STEP, stride = n->kernel.rows * DEPTH_STEP;
    for (size_t i = 0; i < rows; i++) {
        const float *from = x + (size_t)pick[i] * n->d;
        n->kernel.pack(from, whole, out + i * DEPTH_STEP);
        if (rest)
            memcpy(out + i * DEPTH_STEP + whole * stride, from + whole * DEPTH_STEP, rest * sizeof *out);
    }
}

static void clear_lanes(struct nearest_lanes *lanes, size_t rows)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t l = 0; l < NEAREST_LANES; l++) {
            lanes[i].best[l] = lanes[i].second[l] = INFINITY;
            lanes[i].at[l] = 0;
        }
}

/* Fills the lanes of all rows. */
static void score_rows(const struct nearest *n, const float *x, const uint32_t *pick, size_t count,
                       struct nearest_scratch *s)
{
    size_t group = n->kernel.rows, width = 2 * n->kernel.lanes, blocks = n->depth / DEPTH_STEP;
    clear_lanes(s->lanes, round_up(count, group));
    for (size_t p = 0; p < n->panels; p += n->block) {
        size_t end = p + n->block < n->panels ? p + n->block : n->panels;
        for (size_t i = 0; i < count; i += group) {
            float *a = s->rows + i * n->depth;
            if (p == 0)
                pack_group(n, x, pick + i, count - i < group ? count - i : group, a);
            /* The rows to pack next come into the cache while the first panel is worked on. */
            bool ahead = p == 0 && i + group < count;
            const char *next = (const char *)(ahead ? x + (size_t)pick[i + group] * n->d : a);
            for (size_t q = p; q < end; q++)
                n->kernel.tile(a, n->panel + q * width * n->depth, blocks, n->offset + q * width,
                               (uint32_t)(q * width), s->lanes + i, next, ahead && q == p ? 64 : 0);
        }
    }
}

/* The nearest of the centroids that may be, by f64. */
static uint32_t decide(const struct nearest *n, const float *row, const struct nearest_lanes *l, float within)
{
    uint32_t lanes = n->kernel.lanes, label = UINT32_MAX;
    double least = INFINITY;
    for (uint32_t i = 0; i < lanes; i++) {
        if (!(l->best[i] <= within))
            continue;
        /* Of a lane's columns only the least is known; when its second may be nearest, all are looked at. */
        bool all = l->second[i] <= within;
        uint32_t first = all ? i : (uint32_t)l->at[i] + i, end = all ? n->k : first + 1;
        for (uint32_t c = first; c < end; c += lanes) {
            double dist = rows_distance64(row, n->centroids + (size_t)c * n->d, n->d);
            if (dist < least || (dist == least && c < label)) {
                least = dist;
                label = c;
            }
        }
    }
    return label;
}

static struct nearest_found reduce(const struct nearest_lanes *l, uint32_t lanes)
{
    struct nearest_found r = {(double)l->best[0], (double)l->second[0], 0, false};
    for (uint32_t i = 1; i < lanes; i++) {
        double first = (double)l->best[i], then = (double)l->second[i];
        bool less = first < r.best;
        double other = less ? r.best : first, own = less ? then : r.second;
        r.second = other < own ? other : own;
        r.label = less ? i : r.label;
        r.best = less ? first : r.best;
    }
    r.label += (uint32_t)l->at[r.label];
    return r;
}

double nearest_norm(float norm)
{
    return (double)norm * UP + ldexp(1, -149);
}

double nearest_error(const struct nearest *n, double norm)
{
    return (n->per_norm * norm + n->per_square * norm * norm + n->constant) * UP;
}

void nearest_bounds(const struct nearest_found *f, double others, double norm, double error, float *upper,
                    float *lower)
{
    double square = norm * norm, d1 = square + f->best + (f->by64 ? 3 : 1) * error;
    double rest = f->second - error < others ? f->second - error : others;
    double d2 = square * (1 - 4e-6) + rest;
    *upper = d1 > 0 ? (float)(sqrt(d1) * UP) : 0;
    *lower = !f->by64 && d2 > 0 ? (float)(sqrt(d2) * (1 - 1e-6)) : 0;
}

/* By f32 alone. Results are at at[i], or at i without `at`. */
static void rows_f32(const struct nearest *n, const float *x, const uint32_t *pick, const uint32_t *at,
                     size_t count, const float *norms, struct nearest_scratch *s, uint32_t *labels,
                     float *upper, float *lower)
{
    score_rows(n, x, pick, count, s);
    for (size_t i = 0; i < count; i++) {
        struct nearest_found f = reduce(&s->lanes[i], n->kernel.lanes);
        double norm = nearest_norm(norms[pick[i]]), error = nearest_error(n, norm);
        double within = f.best + 2 * error;
        size_t to = at ? at[i] : i;
        f.by64 = f.second <= within;
        if (f.by64)
            f.label =
                decide(n, x + (size_t)pick[i] * n->d, &s->lanes[i], nextafterf((float)within, INFINITY));
        labels[to] = f.label;
        nearest_bounds(&f, INFINITY, norm, error, &upper[to], &lower[to]);
    }
}

void nearest_rows(const struct nearest *n, const float *x, const uint32_t *pick, size_t count,
                  const float *norms, struct nearest_scratch *s, uint32_t *labels, float *upper, float *lower)
{
    if (!n->int8.on) {
        rows_f32(n, x, pick, NULL, count, norms, s, labels, upper, lower);
        return;
    }
    size_t rest = nearest_int8_rows(n, x, pick, count, norms, &s->int8, labels, upper, lower);
    for (size_t i = 0; i < rest; i++)
        s->int8.pick[i] = pick[s->int8.rest[i]];
    rows_f32(n, x, s->int8.pick, s->int8.rest, rest, norms, s, labels, upper, lower);
}

void nearest_weigh(struct nearest *n, struct nearest_scratch *scratch, unsigned count)
{
    double rows = 0, spent = 0;
    for (unsigned i = 0; i < count; i++) {
        rows += (double)scratch[i].int8.rows_in;
        spent += (double)scratch[i].int8.spent;
        scratch[i].int8.rows_in = scratch[i].int8.spent = 0;
    }
    if (spent > rows * n->k * INT8_GAIN)
        n->int8.on = false;
}
