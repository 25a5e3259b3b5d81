#include "services/clusterer/kmeans.h"
#include "lib/progress.h"
#include "services/clusterer/feed.h"
#include "services/clusterer/kmeans_state.h"
#include "services/clusterer/nearest.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/sums.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* Rows of a chunk: whole groups of every kernel; packed, they take half of a second-level cache at 512
 * columns. */
#define CHUNK 252
#define CHUNK_MAX NEAREST_DEVICE_ROWS
/* The objective is made of sums over clusters unless so much of it cancels. */
#define CANCELLED 1e-4
/* What pays for rounding in f32. */
#define UP (1 + 1e-6f)
#define DOWN (1 - 1e-6f)

struct lloyd {
    struct feed *feed;
    uint64_t n, checks;
    uint32_t d, k;
    size_t chunk;
    const struct kmeans_options *o;
    float *centroids; /* owned, [k, d] */
    float *before;    /* owned, [k, d]: of the assignment before */
    float *drift;     /* owned, [k]: how far each moved since then, rounded up */
    float far[2];     /* the two greatest drifts */
    uint32_t fastest; /* the centroid of the greatest */
    bool bounded;     /* labels and bounds are of `before` */
    uint32_t *labels; /* owned, [n] */
    float *norms;     /* owned, [n] */
    float *upper;     /* owned, [n]: at least the distance to the centroid of the label */
    float *lower;     /* owned, [n]: at most the distance to any other one */
    double *partial;  /* owned, [checks] */
    double squares;   /* sum of all rows' squared norms */
    struct nearest nearest;
    struct sums sums;
    struct nearest_scratch *scratch; /* owned, [threads] */
    uint64_t *counts;                /* owned, [k] */
    uint64_t key;                    /* of the checkpoint */
    double saved_s;                  /* when it was written */
    _Atomic uint64_t moved, bad;     /* rows that changed their label; the first unsound row */
    _Atomic uint32_t most;           /* bits of the greatest magnitude of an element */
};

static void lloyd_close(struct lloyd *l)
{
    free(l->centroids);
    free(l->before);
    free(l->drift);
    free(l->labels);
    free(l->norms);
    free(l->upper);
    free(l->lower);
    free(l->partial);
    free(l->counts);
    nearest_close(&l->nearest);
    sums_close(&l->sums);
    for (unsigned i = 0; l->scratch && i < l->o->threads; i++)
        nearest_scratch_close(&l->scratch[i]);
    free(l->scratch);
}

/* Greatest of the values so far; bits of floats that are not negative are ordered as they are. */
static void raise_to(_Atomic uint32_t *most, float x)
{
    uint32_t bits, seen = atomic_load(most);
    memcpy(&bits, &x, sizeof bits);
    while (bits > seen && !atomic_compare_exchange_weak(most, &seen, bits))
        ;
}

static void check_chunk(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker)
{
    (void)worker;
    struct lloyd *l = arg;
    double sum = 0;
    float most = 0;
    for (size_t i = 0; i < rows; i++) {
        double square = rows_norm64(x + i * l->d, l->d);
        if (!(square < ROWS_NORM_MAX)) { /* true for NaN */
            uint64_t seen = atomic_load(&l->bad);
            while (first + i < seen && !atomic_compare_exchange_weak(&l->bad, &seen, first + i))
                ;
            return;
        }
        sum += square;
        l->norms[first + i] = (float)sqrt(square);
        most = l->norms[first + i] > most ? l->norms[first + i] : most;
    }
    l->partial[first / FEED_STEP] = sum;
    raise_to(&l->most, most);
}

static double partial_sum(const struct lloyd *l)
{
    double sum = 0;
    for (uint64_t i = 0; i < l->checks; i++)
        sum += l->partial[i];
    return sum;
}

/* Norms of all rows; refuses what is not finite. */
static int check_rows(struct lloyd *l, struct err *e)
{
    atomic_store(&l->bad, UINT64_MAX);
    int rc = feed_run(l->feed, l->o->threads, l->o->stop, FEED_STEP, check_chunk, l, e);
    if (rc)
        return rc;
    if (l->bad != UINT64_MAX)
        return err_set(e, XDC_EFORMAT, "row %llu is not finite, or too large to square",
                       (unsigned long long)l->bad);
    l->squares = partial_sum(l);
    return 0;
}

static int lloyd_init(struct lloyd *l, struct feed *f, const struct kmeans_options *o, struct err *e)
{
    *l = (struct lloyd){.feed = f, .n = f->n, .d = f->d, .k = o->k, .o = o};
    size_t cells = (size_t)l->k * l->d;
    l->checks = rows_chunks(l->n, FEED_STEP);
    l->chunk = o->block_rows ? o->block_rows : nearest_device_on(o->device) ? CHUNK_MAX : CHUNK;
    l->chunk = l->chunk > CHUNK_MAX ? CHUNK_MAX : l->chunk;
    l->centroids = malloc(cells * sizeof *l->centroids);
    l->before = malloc(cells * sizeof *l->before);
    l->drift = malloc(l->k * sizeof *l->drift);
    l->counts = malloc(l->k * sizeof *l->counts);
    l->labels = malloc(l->n * sizeof *l->labels);
    l->norms = malloc(l->n * sizeof *l->norms);
    l->upper = malloc(l->n * sizeof *l->upper);
    l->lower = malloc(l->n * sizeof *l->lower);
    l->partial = malloc(l->checks * sizeof *l->partial);
    l->scratch = calloc(o->threads, sizeof *l->scratch);
    int rc = 0;
    if (!l->centroids || !l->before || !l->drift || !l->counts || !l->labels || !l->norms || !l->upper ||
        !l->lower || !l->partial || !l->scratch)
        rc = err_sys(e, ENOMEM, "%llu rows, k %u", (unsigned long long)l->n, l->k);
    if (rc == 0)
        rc = nearest_init(&l->nearest, l->k, l->d, o->block_columns, NULL, o->first, e);
    for (unsigned i = 0; rc == 0 && i < o->threads; i++)
        rc = nearest_scratch_init(&l->scratch[i], &l->nearest, l->chunk, e);
    if (rc == 0)
        rc = check_rows(l, e);
    if (rc)
        lloyd_close(l);
    return rc;
}

/* Lists the rows of a chunk whose label may have changed. Where bounds show that no other centroid can be as
 * near, they are carried over to the new centroids instead. */
static size_t pick_rows(struct lloyd *l, uint64_t first, size_t rows, uint32_t *pick)
{
    size_t count = 0;
    for (uint32_t i = 0; i < rows; i++) {
        uint64_t at = first + i;
        if (l->bounded) {
            uint32_t own = l->labels[at];
            float upper = (l->upper[at] + l->drift[own]) * UP;
            float lower = (l->lower[at] - l->far[own == l->fastest]) * DOWN;
            if (upper * UP < lower) {
                l->upper[at] = upper;
                l->lower[at] = lower;
                continue;
            }
        }
        pick[count++] = i;
    }
    return count;
}

static void assign_chunk(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker)
{
    struct lloyd *l = arg;
    uint32_t pick[CHUNK_MAX], old[CHUNK_MAX], now[CHUNK_MAX];
    float upper[CHUNK_MAX], lower[CHUNK_MAX];
    size_t count = pick_rows(l, first, rows, pick);
    if (count > 0 && nearest_device_on(l->o->device))
        nearest_device_rows(l->o->device, worker, &l->nearest, x, pick, count, l->norms + first,
                            &l->scratch[worker], now, upper, lower);
    else if (count > 0)
        nearest_rows(&l->nearest, x, pick, count, l->norms + first, &l->scratch[worker], now, upper, lower);
    for (size_t i = 0; i < count; i++) {
        uint64_t at = first + pick[i];
        old[i] = l->bounded ? l->labels[at] : SUMS_NONE;
        l->labels[at] = now[i];
        l->upper[at] = upper[i];
        l->lower[at] = lower[i];
    }
    if (l->sums.sum)
        atomic_fetch_add(&l->moved, sums_move(&l->sums, worker, x, pick, count, old, now));
    if (l->o->row_passes)
        atomic_fetch_add(l->o->row_passes, rows);
}

static void distance_chunk(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker)
{
    (void)worker;
    struct lloyd *l = arg;
    double sum = 0;
    for (size_t i = 0; i < rows; i++)
        sum += rows_distance64(x + i * l->d, l->centroids + (size_t)l->labels[first + i] * l->d, l->d);
    l->partial[first / FEED_STEP] = sum;
}

/* sum |x|^2 - 2 sum over clusters of (sum of its rows).c + sum of count |c|^2. */
static int objective(struct lloyd *l, double *out, struct err *e)
{
    double sum = l->squares;
    for (uint32_t c = 0; c < l->k; c++) {
        const float *v = l->centroids + (size_t)c * l->d;
        double dot = 0;
        for (uint32_t j = 0; j < l->d; j++)
            dot += sums_at(&l->sums, c, j) * (double)v[j];
        sum += (double)l->sums.count[c] * rows_norm64(v, l->d) - 2 * dot;
    }
    *out = sum;
    if (sum > CANCELLED * l->squares)
        return 0;
    int rc = feed_run(l->feed, l->o->threads, l->o->stop, FEED_STEP, distance_chunk, l, e);
    *out = partial_sum(l);
    return rc;
}

/* How far the centroids are from those that labels and bounds are of. */
static void measure_drift(struct lloyd *l)
{
    l->far[0] = l->far[1] = 0;
    l->fastest = 0;
    for (uint32_t c = 0; c < l->k; c++) {
        size_t at = (size_t)c * l->d;
        float drift = (float)(sqrt(rows_distance64(l->centroids + at, l->before + at, l->d)) * (double)UP);
        l->drift[c] = drift;
        if (drift > l->far[0]) {
            l->far[1] = l->far[0];
            l->far[0] = drift;
            l->fastest = c;
        } else if (drift > l->far[1]) {
            l->far[1] = drift;
        }
    }
}

/* Labels of the current centroids, and what follows from them. */
static int lloyd_assign(struct lloyd *l, struct err *e)
{
    if (l->bounded)
        measure_drift(l);
    nearest_pack(&l->nearest, l->centroids);
    nearest_device_pack(l->o->device, &l->nearest);
    atomic_store(&l->moved, 0);
    int rc = feed_run(l->feed, l->o->threads, l->o->stop, l->chunk, assign_chunk, l, e);
    nearest_weigh(&l->nearest, l->scratch, l->o->threads);
    l->bounded = rc == 0;
    memcpy(l->before, l->centroids, (size_t)l->k * l->d * sizeof *l->before);
    if (rc == 0 && l->sums.sum)
        sums_join(&l->sums);
    return rc;
}

/* Means of the clusters as centroids. Returns how many empty ones were filled. */
static uint32_t lloyd_update(struct lloyd *l, struct rng *r)
{
    for (uint32_t c = 0; c < l->k; c++) {
        l->counts[c] = (uint64_t)l->sums.count[c];
        for (uint32_t j = 0; l->counts[c] && j < l->d; j++)
            l->centroids[(size_t)c * l->d + j] = (float)(sums_at(&l->sums, c, j) / (double)l->counts[c]);
    }
    return kmeans_split_empty(l->centroids, l->counts, l->k, l->d, r);
}

static struct kmeans_point point_of(const struct kmeans_result *r, const struct rng *rng)
{
    return (struct kmeans_point){rng->state, r->empty_splits, r->objective, r->restart, r->iterations};
}

/* Writes the checkpoint when it is due. */
static int save(struct lloyd *l, const struct kmeans_result *now, const struct rng *r,
                const struct kmeans_result *best, struct err *e)
{
    if (!l->o->checkpoint || progress_now_s() - l->saved_s < l->o->checkpoint_s)
        return 0;
    const struct rng none = {0};
    struct kmeans_state s = {.key = l->key,
                             .cells = (size_t)l->k * l->d,
                             .now = point_of(now, r),
                             .best = point_of(best, &none),
                             .centroids = l->centroids,
                             .best_centroids = best->centroids,
                             .has_best = best->centroids != NULL};
    int rc = kmeans_state_save(l->o->checkpoint, &s, e);
    l->saved_s = progress_now_s();
    return rc;
}

/* Updates until the end of a restart whose labels and objective are there. */
static int lloyd_iterate(struct lloyd *l, struct rng *r, struct kmeans_result *out,
                         const struct kmeans_result *best, struct err *e)
{
    int rc = 0;
    /* At 0 every row is its centroid: fewer rows than k are distinct, and splitting could only do harm. */
    while (rc == 0 && out->objective > 0 && out->iterations < l->o->iterations) {
        double before = out->objective;
        uint32_t splits = lloyd_update(l, r);
        rc = lloyd_assign(l, e);
        if (rc == 0)
            rc = objective(l, &out->objective, e);
        out->iterations++;
        out->empty_splits += splits;
        bool settled =
            l->moved == 0 || (l->o->tolerance > 0 && before - out->objective <= l->o->tolerance * before);
        if (!splits && settled)
            break;
        if (rc == 0)
            rc = save(l, out, r, best, e);
    }
    return rc;
}

/* One restart, from its beginning or from where `from` stands. `out` gets the figures; labels and centroids
 * stay in `l`. */
static int lloyd_run(struct lloyd *l, uint32_t restart, const struct kmeans_point *from,
                     struct kmeans_result *out, const struct kmeans_result *best, struct err *e)
{
    struct rng r;
    rng_init(&r, rng_key(l->o->seed, "kmeans", l->o->round, l->o->source, restart));
    *out = (struct kmeans_result){.restart = restart};
    l->bounded = false;
    sums_clear(&l->sums);
    int rc = 0;
    if (from) {
        r.state = from->rng;
        out->iterations = from->iterations;
        out->empty_splits = from->empty_splits;
    } else {
        rc = kmeans_init(l->feed, l->o, &r, l->centroids, e);
    }
    if (rc == 0)
        rc = lloyd_assign(l, e);
    if (rc == 0)
        rc = objective(l, &out->objective, e);
    return rc ? rc : lloyd_iterate(l, &r, out, best, e);
}

/* Keeps the better run by swapping its arrays with the working ones. */
static int keep(struct lloyd *l, const struct kmeans_result *run, struct kmeans_result *best, struct err *e)
{
    float *centroids = best->centroids;
    uint32_t *labels = best->labels;
    *best = *run;
    best->centroids = l->centroids;
    best->labels = l->labels;
    l->centroids = centroids ? centroids : malloc((size_t)l->k * l->d * sizeof *centroids);
    l->labels = labels ? labels : malloc(l->n * sizeof *labels);
    return l->centroids && l->labels ? 0 : err_sys(e, ENOMEM, "%llu rows", (unsigned long long)l->n);
}

/* What a checkpoint must be of. */
static uint64_t key_of(const struct lloyd *l)
{
    const struct kmeans_options *o = l->o;
    const uint64_t of[] = {l->n,    l->d,     o->k,      o->restarts, o->iterations,
                           o->seed, o->round, o->source, o->init};
    const double also[] = {l->squares, o->tolerance};
    return XXH3_64bits_withSeed(also, sizeof also, XXH3_64bits(of, sizeof of));
}

/* Takes up a checkpoint: the best restart is there again, and the centroids of the one that was cut off. */
static int resume(struct lloyd *l, struct kmeans_point *out_from, bool *out_found, struct kmeans_result *best,
                  struct err *e)
{
    struct kmeans_state s = {
        .key = l->key, .cells = (size_t)l->k * l->d, .centroids = l->before, .best_centroids = l->centroids};
    *out_found = l->o->checkpoint && kmeans_state_load(l->o->checkpoint, &s);
    if (!*out_found)
        return 0;
    *out_from = s.now;
    float *current = malloc(s.cells * sizeof *current);
    if (!current)
        return err_sys(e, ENOMEM, "%u centroids", l->k);
    memcpy(current, l->before, s.cells * sizeof *current);
    int rc = s.has_best ? lloyd_assign(l, e) : 0;
    if (rc == 0 && s.has_best) {
        struct kmeans_result run = {.objective = s.best.objective,
                                    .iterations = s.best.iterations,
                                    .restart = s.best.restart,
                                    .empty_splits = s.best.empty_splits};
        rc = keep(l, &run, best, e);
    }
    if (rc == 0)
        memcpy(l->centroids, current, s.cells * sizeof *current);
    free(current);
    return rc;
}

static int run_restarts(struct lloyd *l, struct kmeans_result *best, struct err *e)
{
    struct kmeans_point from = {0};
    struct kmeans_result run;
    bool found;
    l->key = key_of(l);
    l->saved_s = progress_now_s();
    int rc = resume(l, &from, &found, best, e);
    for (uint32_t i = from.restart; rc == 0 && i < l->o->restarts; i++) {
        rc = lloyd_run(l, i, found && i == from.restart ? &from : NULL, &run, best, e);
        if (rc == 0 && (!best->labels || run.objective < best->objective))
            rc = keep(l, &run, best, e);
    }
    if (rc == 0 && l->o->checkpoint)
        unlink(l->o->checkpoint);
    return rc;
}

int kmeans_run_feed(struct feed *f, const struct kmeans_options *o, struct kmeans_result *out, struct err *e)
{
    struct lloyd l;
    struct kmeans_result best = {0};
    *out = best;
    if (f->n < o->k)
        return err_set(e, XDC_EFORMAT, "k-means: %u clusters need at least as many rows, there are %llu",
                       o->k, (unsigned long long)f->n);
    int rc = lloyd_init(&l, f, o, e);
    if (rc) {
        err_wrap(e, "k-means");
        return rc;
    }
    float most;
    uint32_t bits = l.most;
    memcpy(&most, &bits, sizeof most);
    rc = sums_init(&l.sums, f->n, o->k, f->d, most * UP, o->threads, e);
    if (rc == 0)
        rc = run_restarts(&l, &best, e);
    lloyd_close(&l);
    if (rc) {
        err_wrap(e, "k-means");
        kmeans_result_close(&best);
    }
    *out = best;
    return rc;
}

int kmeans_run(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o,
               struct kmeans_result *out, struct err *e)
{
    struct feed f;
    feed_array(&f, x, n, d);
    return kmeans_run_feed(&f, o, out, e);
}

void kmeans_result_close(struct kmeans_result *r)
{
    free(r->centroids);
    free(r->labels);
    *r = (struct kmeans_result){0};
}

int kmeans_nearest_feed(struct feed *f, const struct kmeans_options *o, const float *centroids,
                        uint32_t *labels, struct err *e)
{
    struct lloyd l;
    if (f->n == 0)
        return 0;
    int rc = lloyd_init(&l, f, o, e);
    if (rc == 0) {
        memcpy(l.centroids, centroids, (size_t)o->k * f->d * sizeof *centroids);
        rc = lloyd_assign(&l, e);
        if (rc == 0)
            memcpy(labels, l.labels, f->n * sizeof *labels);
        lloyd_close(&l);
    }
    if (rc)
        err_wrap(e, "k-means");
    return rc;
}

int kmeans_nearest(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o,
                   const float *centroids, uint32_t *labels, struct err *e)
{
    struct feed f;
    feed_array(&f, x, n, d);
    return kmeans_nearest_feed(&f, o, centroids, labels, e);
}
