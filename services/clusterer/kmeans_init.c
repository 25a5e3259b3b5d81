#include "services/clusterer/kmeans_init.h"
#include "lib/progress.h"
#include "services/clusterer/kmeans.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CANDIDATES_MAX 16
/* Multiplications below which another thread costs more than it saves: there are k short passes. */
#define WORK_PER_THREAD 2000000

struct seeding {
    const float *x;       /* [n, d] */
    const double *weight; /* [n], or NULL: all 1 */
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
            sum[c] += s->weight ? s->weight[i] * dist : dist;
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

/* The row at which the running sum of weighted `nearest` passes u * total; only one with a distance above 0.
 */
static uint64_t draw_row(const struct seeding *s, double total, double u)
{
    double at = u * total, sum = 0;
    uint64_t last = 0;
    for (uint64_t i = 0; i < s->n; i++) {
        if (s->nearest[i] <= 0)
            continue;
        sum += s->weight ? s->weight[i] * s->nearest[i] : s->nearest[i];
        last = i;
        if (sum > at)
            break;
    }
    return last;
}

/* Any row, as likely as its weight. */
static uint64_t draw_any(const struct seeding *s, struct rng *r)
{
    if (!s->weight)
        return rng_below(r, s->n);
    double total = 0;
    for (uint64_t i = 0; i < s->n; i++)
        total += s->weight[i];
    double at = rng_uniform(r) * total;
    uint64_t i = 0;
    while (i + 1 < s->n && at >= s->weight[i])
        at -= s->weight[i++];
    return i;
}

/* Draws the candidates, keeps the one that leaves the least distance; *total becomes that distance. */
static int seed_next(struct seeding *s, const struct kmeans_options *o, struct rng *r, double *total,
                     uint64_t *out_row)
{
    for (unsigned c = 0; c < s->candidates; c++)
        s->row[c] = *total > 0 ? draw_row(s, *total, rng_uniform(r)) : draw_any(s, r);
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

int kmeans_take_rows(struct feed *f, const struct kmeans_options *o, const uint64_t *row, uint64_t m,
                     float *out, struct err *e)
{
    struct sampling s = {.row = row, .m = m, .d = f->d, .out = out};
    return feed_run(f, o->threads, o->stop, FEED_STEP, sample_chunk, &s, e);
}

int kmeans_plusplus(const float *x, const double *weight, uint64_t n, uint32_t d,
                    const struct kmeans_options *o, struct rng *r, float *centroids, struct err *e)
{
    struct seeding s = {.x = x, .weight = weight, .n = n, .d = d, .chunks = rows_chunks(n, ROWS_CHUNK)};
    s.nearest = malloc(n * sizeof *s.nearest);
    s.trial = malloc(n * CANDIDATES_MAX * sizeof *s.trial);
    s.sums = malloc(s.chunks * CANDIDATES_MAX * sizeof *s.sums);
    int rc;
    if (!s.nearest || !s.trial || !s.sums)
        rc = err_sys(e, ENOMEM, "choose %u centroids of %llu rows", o->k, (unsigned long long)n);
    else if ((rc = seed_all(&s, o, r, centroids)))
        err_set(e, rc, "asked to stop");
    free(s.nearest);
    free(s.trial);
    free(s.sums);
    return rc;
}

/* k-means++ over all rows, or over one out of each of so many equal stretches of them. */
static int sampled_plusplus(struct feed *f, const struct kmeans_options *o, struct rng *r, float *centroids,
                            struct err *e)
{
    uint64_t m = (uint64_t)o->k * KMEANS_INIT_ROWS_PER_CENTROID;
    m = m < KMEANS_INIT_ROWS_MIN ? KMEANS_INIT_ROWS_MIN : m;
    if (m >= f->n && f->x)
        return kmeans_plusplus(f->x, NULL, f->n, f->d, o, r, centroids, e);
    m = m < f->n ? m : f->n;
    uint64_t *row = malloc(m * sizeof *row);
    float *sample = malloc(m * f->d * sizeof *sample);
    int rc = row && sample ? 0 : err_sys(e, ENOMEM, "sample %llu rows", (unsigned long long)m);
    for (uint64_t i = 0; rc == 0 && i < m; i++) {
        uint64_t lo = (uint64_t)((__uint128_t)f->n * i / m);
        uint64_t hi = (uint64_t)((__uint128_t)f->n * (i + 1) / m);
        row[i] = m < f->n ? lo + rng_below(r, hi - lo) : i;
    }
    if (rc == 0)
        rc = kmeans_take_rows(f, o, row, m, sample, e);
    if (rc == 0)
        rc = kmeans_plusplus(sample, NULL, m, f->d, o, r, centroids, e);
    free(row);
    free(sample);
    return rc;
}

/* Selection sampling (Knuth, algorithm S): each row is taken with the share that is still wanted of those
 * left. */
static int random_rows(struct feed *f, const struct kmeans_options *o, struct rng *r, float *centroids,
                       struct err *e)
{
    uint64_t *row = malloc(o->k * sizeof *row);
    uint32_t taken = 0;
    if (!row)
        return err_sys(e, ENOMEM, "choose %u centroids", o->k);
    for (uint64_t i = 0; taken < o->k; i++)
        if (rng_below(r, f->n - i) < o->k - taken)
            row[taken++] = i;
    int rc = kmeans_take_rows(f, o, row, o->k, centroids, e);
    free(row);
    return rc;
}

static int choose(struct feed *f, const struct kmeans_options *o, struct rng *r, float *centroids,
                  struct err *e)
{
    bool enough = false;
    int rc = 0;
    switch (o->init) {
    case KMEANS_GIVEN:
        memcpy(centroids, o->given, (size_t)o->k * f->d * sizeof *centroids);
        return 0;
    case KMEANS_RANDOM:
        return random_rows(f, o, r, centroids, e);
    case KMEANS_PARALLEL:
        rc = kmeans_parallel(f, o, r, centroids, &enough, e);
        break;
    case KMEANS_PLUSPLUS:
        break;
    }
    return rc || enough ? rc : sampled_plusplus(f, o, r, centroids, e);
}

int kmeans_init(struct feed *f, const struct kmeans_options *o, struct rng *r, float *centroids,
                struct err *e)
{
    double start = progress_now_s();
    int rc = choose(f, o, r, centroids, e);
    if (o->init_ns)
        atomic_fetch_add(o->init_ns, (uint64_t)((progress_now_s() - start) * 1e9));
    return rc;
}
