#include "services/clusterer/kmeans.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CANDIDATES_MAX 16
/* Multiplications below which another thread costs more than it saves: there are k short passes. */
#define WORK_PER_THREAD 2000000

struct seeding {
    const float *x; /* [n, d] */
    uint64_t n;
    uint32_t d;
    unsigned candidates;
    uint64_t row[CANDIDATES_MAX];
    double *nearest; /* [n] squared distance to the nearest centroid so far */
    double *trial;   /* [candidates, n] the same with each candidate added */
    double *sums;    /* [candidates, chunks] of trial */
    uint64_t chunks;
};

static void try_candidates(void *arg, uint64_t chunk, unsigned worker)
{
    (void)worker;
    struct seeding *s = arg;
    uint64_t first = chunk * ROWS_CHUNK;
    uint64_t end = first + ROWS_CHUNK < s->n ? first + ROWS_CHUNK : s->n;
    double sum[CANDIDATES_MAX] = {0};
    for (uint64_t i = first; i < end; i++)
        for (unsigned c = 0; c < s->candidates; c++) {
            double dist = rows_distance(s->x + i * s->d, s->x + s->row[c] * s->d, s->d);
            if (dist > s->nearest[i])
                dist = s->nearest[i];
            s->trial[c * s->n + i] = dist;
            sum[c] += dist;
        }
    for (unsigned c = 0; c < s->candidates; c++)
        s->sums[c * s->chunks + chunk] = sum[c];
}

static double candidate_sum(const struct seeding *s, unsigned c)
{
    double sum = 0;
    for (uint64_t i = 0; i < s->chunks; i++)
        sum += s->sums[c * s->chunks + i];
    return sum;
}

/* The row at which the running sum of `nearest` passes u * total; only a row with a distance above 0. */
static uint64_t draw_row(const struct seeding *s, double total, double u)
{
    double at = u * total, sum = 0;
    uint64_t last = 0;
    for (uint64_t i = 0; i < s->n; i++) {
        if (s->nearest[i] <= 0)
            continue;
        sum += s->nearest[i];
        last = i;
        if (sum > at)
            break;
    }
    return last;
}

/* Draws the candidates, keeps the one that leaves the least distance; *total becomes that distance. */
static int seed_next(struct seeding *s, const struct kmeans_options *o, struct rng *r, double *total,
                     uint64_t *out_row)
{
    for (unsigned c = 0; c < s->candidates; c++)
        s->row[c] = *total > 0 ? draw_row(s, *total, rng_uniform(r)) : rng_below(r, s->n);
    uint64_t useful = 1 + s->n * s->d * s->candidates / WORK_PER_THREAD;
    unsigned threads = o->threads < useful ? o->threads : (unsigned)useful;
    if (!rows_run(threads, s->chunks, o->stop, try_candidates, s))
        return XDC_ESTOPPED;
    unsigned best = 0;
    double least = candidate_sum(s, 0);
    for (unsigned c = 1; c < s->candidates; c++) {
        double sum = candidate_sum(s, c);
        if (sum < least) {
            least = sum;
            best = c;
        }
    }
    memcpy(s->nearest, s->trial + best * s->n, s->n * sizeof *s->nearest);
    *total = least;
    *out_row = s->row[best];
    return 0;
}

static int seed_all(struct seeding *s, const struct kmeans_options *o, struct rng *r, float *centroids)
{
    unsigned candidates = 2 + (unsigned)log((double)o->k);
    double total = INFINITY;
    for (uint64_t i = 0; i < s->n; i++)
        s->nearest[i] = INFINITY;
    for (uint32_t c = 0; c < o->k; c++) {
        uint64_t row = 0;
        s->candidates = c == 0 ? 1 : candidates < CANDIDATES_MAX ? candidates : CANDIDATES_MAX;
        /* The first centroid is any row; afterwards the weights are distances. */
        double weight = c == 0 ? 0 : total;
        int rc = seed_next(s, o, r, &weight, &row);
        if (rc)
            return rc;
        total = weight;
        memcpy(centroids + (size_t)c * s->d, s->x + row * s->d, s->d * sizeof *centroids);
    }
    return 0;
}

/* Which rows to sample, and where they go. */
struct sampling {
    const uint64_t *row; /* [m], ascending */
    uint64_t m;
    uint32_t d;
    float *out; /* [m, d] */
};

static void sample_chunk(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker)
{
    (void)worker;
    const struct sampling *s = arg;
    uint64_t lo = 0, hi = s->m;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (s->row[mid] < first)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < s->m && s->row[lo] < first + rows; lo++)
        memcpy(s->out + lo * s->d, x + (s->row[lo] - first) * s->d, s->d * sizeof *x);
}

/* One row out of each of `m` equal stretches of the rows. */
static int sample_rows(struct feed *f, const struct kmeans_options *o, uint64_t m, struct rng *r, float *out,
                       struct err *e)
{
    uint64_t *row = malloc(m * sizeof *row);
    if (!row)
        return err_sys(e, ENOMEM, "sample %llu rows", (unsigned long long)m);
    for (uint64_t i = 0; i < m; i++) {
        uint64_t lo = (uint64_t)((__uint128_t)f->n * i / m);
        uint64_t hi = (uint64_t)((__uint128_t)f->n * (i + 1) / m);
        row[i] = m < f->n ? lo + rng_below(r, hi - lo) : i;
    }
    struct sampling s = {.row = row, .m = m, .d = f->d, .out = out};
    int rc = feed_run(f, o->threads, o->stop, FEED_STEP, sample_chunk, &s, e);
    free(row);
    return rc;
}

int kmeans_init(struct feed *f, const struct kmeans_options *o, struct rng *r, float *centroids,
                struct err *e)
{
    if (o->init) {
        memcpy(centroids, o->init, (size_t)o->k * f->d * sizeof *centroids);
        return 0;
    }
    uint64_t m = (uint64_t)o->k * KMEANS_INIT_ROWS_PER_CENTROID;
    m = m < KMEANS_INIT_ROWS_MIN ? KMEANS_INIT_ROWS_MIN : m;
    m = m < f->n ? m : f->n;
    struct seeding s = {.n = m, .d = f->d, .chunks = rows_chunks(m, ROWS_CHUNK)};
    bool whole = f->x && m == f->n;
    float *sample = whole ? NULL : malloc(m * f->d * sizeof *sample);
    s.nearest = malloc(m * sizeof *s.nearest);
    s.trial = malloc(m * CANDIDATES_MAX * sizeof *s.trial);
    s.sums = malloc(s.chunks * CANDIDATES_MAX * sizeof *s.sums);
    s.x = whole ? f->x : sample;
    int rc = 0;
    if (!s.x || !s.nearest || !s.trial || !s.sums)
        rc = err_sys(e, ENOMEM, "choose %u centroids of %llu rows", o->k, (unsigned long long)m);
    else if (!whole)
        rc = sample_rows(f, o, m, r, sample, e);
    if (rc == 0 && (rc = seed_all(&s, o, r, centroids)) != 0)
        err_set(e, rc, "asked to stop");
    free(sample);
    free(s.nearest);
    free(s.trial);
    free(s.sums);
    return rc;
}
