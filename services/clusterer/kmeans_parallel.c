/* k-means|| (Bahmani et al. 2012): a few passes over the rows, each drawing many candidates at once with the
 * square of their distance to those drawn so far; each then counts as often as it is a row's nearest, and
 * k-means++ chooses among them. */
#include "services/clusterer/kmeans_init.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PASSES 5
#define OVERSAMPLING 2 /* candidates of a pass, in k */

struct parallel {
    struct feed *feed;
    uint64_t n, chunks;
    uint32_t d;
    const struct kmeans_options *o;
    float *candidates; /* owned, [count, d] */
    uint64_t *drawn;   /* owned, [room]: rows of the newest pass */
    uint64_t newest, room;
    uint32_t count, before; /* candidates, and those that `nearest` knows already */
    double *nearest;        /* owned, [n]: squared distance to the nearest candidate */
    double *sums;           /* owned, [chunks] of it */
    uint32_t *owner;        /* owned, [n]: that candidate */
    uint32_t *labels;       /* owned, [n]: the nearest of the new ones */
};

static int no_memory(const struct parallel *p, struct err *e)
{
    return err_sys(e, ENOMEM, "k-means||: choose %u centroids of %llu rows", p->o->k,
                   (unsigned long long)p->n);
}

static int draw(struct parallel *p, uint64_t row, struct err *e)
{
    if (p->newest == p->room) {
        uint64_t room = p->room ? 2 * p->room : 1024;
        uint64_t *drawn = realloc(p->drawn, room * sizeof *drawn);
        if (!drawn)
            return no_memory(p, e);
        p->drawn = drawn;
        p->room = room;
    }
    p->drawn[p->newest++] = row;
    return 0;
}

/* The rows that were drawn become candidates. */
static int add_candidates(struct parallel *p, struct err *e)
{
    float *candidates = realloc(p->candidates, (size_t)(p->count + p->newest) * p->d * sizeof *candidates);
    if (!candidates)
        return no_memory(p, e);
    p->candidates = candidates;
    int rc = kmeans_take_rows(p->feed, p->o, p->drawn, p->newest, candidates + (size_t)p->count * p->d, e);
    p->count += (uint32_t)p->newest;
    p->newest = 0;
    return rc;
}

static void take_nearer(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker)
{
    (void)worker;
    struct parallel *p = arg;
    double sum = 0;
    for (size_t i = 0; i < rows; i++) {
        uint32_t candidate = p->before + p->labels[first + i];
        double distance = rows_distance(x + i * p->d, p->candidates + (size_t)candidate * p->d, p->d);
        if (distance < p->nearest[first + i]) {
            p->nearest[first + i] = distance;
            p->owner[first + i] = candidate;
        }
        sum += p->nearest[first + i];
    }
    p->sums[first / FEED_STEP] = sum;
}

/* Takes what was drawn and holds all rows against it; *out_total: the sum of the distances. */
static int take_candidates(struct parallel *p, double *out_total, struct err *e)
{
    struct kmeans_options o = *p->o;
    int rc = add_candidates(p, e);
    o.k = p->count - p->before;
    o.row_passes = NULL;
    if (rc == 0)
        rc = kmeans_nearest_feed(p->feed, &o, p->candidates + (size_t)p->before * p->d, p->labels, e);
    if (rc == 0)
        rc = feed_run(p->feed, o.threads, o.stop, FEED_STEP, take_nearer, p, e);
    p->before = p->count;
    *out_total = 0;
    for (uint64_t i = 0; rc == 0 && i < p->chunks; i++)
        *out_total += p->sums[i];
    return rc;
}

static int draw_candidates(struct parallel *p, struct rng *r, struct err *e)
{
    double total, wanted = OVERSAMPLING * (double)p->o->k;
    for (uint64_t i = 0; i < p->n; i++)
        p->nearest[i] = INFINITY;
    int rc = draw(p, rng_below(r, p->n), e);
    if (rc == 0)
        rc = take_candidates(p, &total, e);
    for (unsigned pass = 0; rc == 0 && pass < PASSES && total > 0; pass++) {
        for (uint64_t i = 0; rc == 0 && i < p->n; i++)
            if (rng_uniform(r) * total < wanted * p->nearest[i])
                rc = draw(p, i, e);
        if (rc == 0 && p->newest > 0)
            rc = take_candidates(p, &total, e);
    }
    return rc;
}

static int choose(struct parallel *p, struct rng *r, float *centroids, struct err *e)
{
    double *weight = calloc(p->count, sizeof *weight);
    if (!weight)
        return no_memory(p, e);
    for (uint64_t i = 0; i < p->n; i++)
        weight[p->owner[i]]++;
    int rc = kmeans_plusplus(p->candidates, weight, p->count, p->d, p->o, r, centroids, e);
    free(weight);
    return rc;
}

int kmeans_parallel(struct feed *f, const struct kmeans_options *o, struct rng *r, float *centroids,
                    bool *out_enough, struct err *e)
{
    struct parallel p = {.feed = f, .n = f->n, .d = f->d, .o = o, .chunks = rows_chunks(f->n, FEED_STEP)};
    p.nearest = malloc(p.n * sizeof *p.nearest);
    p.sums = malloc(p.chunks * sizeof *p.sums);
    p.owner = malloc(p.n * sizeof *p.owner);
    p.labels = malloc(p.n * sizeof *p.labels);
    int rc = p.nearest && p.sums && p.owner && p.labels ? draw_candidates(&p, r, e) : no_memory(&p, e);
    *out_enough = rc == 0 && p.count >= o->k;
    if (*out_enough)
        rc = choose(&p, r, centroids, e);
    free(p.candidates);
    free(p.drawn);
    free(p.nearest);
    free(p.sums);
    free(p.owner);
    free(p.labels);
    return rc;
}
