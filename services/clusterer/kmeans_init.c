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

/* One row out of each of `m` equal stretches of the rows. */
static void sample_rows(const float *x, uint64_t n, uint32_t d, uint64_t m, struct rng *r, float *out)
{
    for (uint64_t i = 0; i < m; i++) {
        uint64_t lo = (uint64_t)((__uint128_t)n * i / m), hi = (uint64_t)((__uint128_t)n * (i + 1) / m);
        memcpy(out + i * d, x + (lo + rng_below(r, hi - lo)) * d, d * sizeof *out);
    }
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
        rc = err_sys(e, ENOMEM, "k-means: choose %u centroids of %llu rows", o->k, (unsigned long long)n);
    else if ((rc = seed_all(&s, o, r, centroids)))
        err_set(e, rc, "k-means: asked to stop");
    free(s.nearest);
    free(s.trial);
    free(s.sums);
    return rc;
}

static int sampled_plusplus(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o,
                            struct rng *r, float *centroids, struct err *e)
{
    uint64_t m = (uint64_t)o->k * KMEANS_INIT_ROWS_PER_CENTROID;
    m = m < KMEANS_INIT_ROWS_MIN ? KMEANS_INIT_ROWS_MIN : m;
    if (m >= n)
        return kmeans_plusplus(x, NULL, n, d, o, r, centroids, e);
    float *sample = malloc(m * d * sizeof *sample);
    if (!sample)
        return err_sys(e, ENOMEM, "k-means: choose %u centroids of %llu rows", o->k, (unsigned long long)m);
    sample_rows(x, n, d, m, r, sample);
    int rc = kmeans_plusplus(sample, NULL, m, d, o, r, centroids, e);
    free(sample);
    return rc;
}

/* Selection sampling (Knuth, algorithm S): each row is taken with the share that is still wanted of those
 * left. */
static void random_rows(const float *x, uint64_t n, uint32_t d, uint32_t k, struct rng *r, float *centroids)
{
    uint32_t taken = 0;
    for (uint64_t i = 0; taken < k; i++)
        if (rng_below(r, n - i) < k - taken)
            memcpy(centroids + (size_t)taken++ * d, x + i * d, d * sizeof *centroids);
}

static int choose(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o, struct rng *r,
                  float *centroids, struct err *e)
{
    bool enough = false;
    int rc = 0;
    switch (o->init) {
    case KMEANS_GIVEN:
        memcpy(centroids, o->given, (size_t)o->k * d * sizeof *centroids);
        return 0;
    case KMEANS_RANDOM:
        random_rows(x, n, d, o->k, r, centroids);
        return 0;
    case KMEANS_PARALLEL:
        rc = kmeans_parallel(x, n, d, o, r, centroids, &enough, e);
        break;
    case KMEANS_PLUSPLUS:
        break;
    }
    return rc || enough ? rc : sampled_plusplus(x, n, d, o, r, centroids, e);
}

int kmeans_init(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o, struct rng *r,
                float *centroids, struct err *e)
{
    double start = progress_now_s();
    int rc = choose(x, n, d, o, r, centroids, e);
    if (o->init_ns)
        atomic_fetch_add(o->init_ns, (uint64_t)((progress_now_s() - start) * 1e9));
    return rc;
}
