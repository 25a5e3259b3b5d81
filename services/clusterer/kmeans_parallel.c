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
    const float *x; /* [n, d] */
    uint64_t n, chunks;
    uint32_t d;
    const struct kmeans_options *o;
    float *candidates; /* owned, [room, d] */
    uint32_t count, room;
    uint32_t before;  /* candidates that `nearest` knows already */
    double *nearest;  /* owned, [n]: squared distance to the nearest candidate */
    double *sums;     /* owned, [chunks] of it */
    uint32_t *owner;  /* owned, [n]: that candidate */
    uint32_t *labels; /* owned, [n]: the nearest of the new ones */
};

static int no_memory(const struct parallel *p, struct err *e)
{
    return err_sys(e, ENOMEM, "k-means||: choose %u centroids of %llu rows", p->o->k,
                   (unsigned long long)p->n);
}

static int add_candidate(struct parallel *p, uint64_t row, struct err *e)
{
    if (p->count == p->room) {
        uint32_t room = p->room ? 2 * p->room : 1024;
        float *candidates = realloc(p->candidates, (size_t)room * p->d * sizeof *candidates);
        if (!candidates)
            return no_memory(p, e);
        p->candidates = candidates;
        p->room = room;
    }
    memcpy(p->candidates + (size_t)p->count++ * p->d, p->x + row * p->d, p->d * sizeof *p->x);
    return 0;
}

static void take_nearer(void *arg, uint64_t chunk, unsigned worker)
{
    (void)worker;
    struct parallel *p = arg;
    uint64_t end = (chunk + 1) * ROWS_CHUNK < p->n ? (chunk + 1) * ROWS_CHUNK : p->n;
    double sum = 0;
    for (uint64_t i = chunk * ROWS_CHUNK; i < end; i++) {
        uint32_t candidate = p->before + p->labels[i];
        double distance = rows_distance(p->x + i * p->d, p->candidates + (size_t)candidate * p->d, p->d);
        if (distance < p->nearest[i]) {
            p->nearest[i] = distance;
            p->owner[i] = candidate;
        }
        sum += p->nearest[i];
    }
    p->sums[chunk] = sum;
}

/* Holds all rows against the new candidates; *out_total: the sum of the distances. */
static int take_candidates(struct parallel *p, double *out_total, struct err *e)
{
    struct kmeans_options o = *p->o;
    o.k = p->count - p->before;
    o.row_passes = NULL;
    int rc = kmeans_nearest(p->x, p->n, p->d, &o, p->candidates + (size_t)p->before * p->d, p->labels, e);
    if (rc == 0 && !rows_run(o.threads, p->chunks, o.stop, take_nearer, p))
        rc = err_set(e, XDC_ESTOPPED, "k-means: asked to stop");
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
    int rc = add_candidate(p, rng_below(r, p->n), e);
    if (rc == 0)
        rc = take_candidates(p, &total, e);
    for (unsigned pass = 0; rc == 0 && pass < PASSES && total > 0; pass++) {
        for (uint64_t i = 0; rc == 0 && i < p->n; i++)
            if (rng_uniform(r) * total < wanted * p->nearest[i])
                rc = add_candidate(p, i, e);
        if (rc == 0 && p->count > p->before)
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

int kmeans_parallel(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o, struct rng *r,
                    float *centroids, bool *out_enough, struct err *e)
{
    struct parallel p = {.x = x, .n = n, .d = d, .o = o, .chunks = rows_chunks(n, ROWS_CHUNK)};
    p.nearest = malloc(n * sizeof *p.nearest);
    p.sums = malloc(p.chunks * sizeof *p.sums);
    p.owner = malloc(n * sizeof *p.owner);
    p.labels = malloc(n * sizeof *p.labels);
    int rc = p.nearest && p.sums && p.owner && p.labels ? draw_candidates(&p, r, e) : no_memory(&p, e);
    *out_enough = rc == 0 && p.count >= o->k;
    if (*out_enough)
        rc = choose(&p, r, centroids, e);
    free(p.candidates);
    free(p.nearest);
    free(p.sums);
    free(p.owner);
    free(p.labels);
    return rc;
}
