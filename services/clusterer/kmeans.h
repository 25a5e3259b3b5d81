/* kmeans: exact Lloyd k-means with squared L2 distance over f32 rows (algorithms.md 1.8, empty clusters as in
 * its section 5). Used by cluster_job and `xdc cluster`. Blocking; any thread; runs on threads of its own.
 * The result owns its arrays. Labels are exact (nearest.h) and sums have no order (sums.h): labels, centroids
 * and objective are the same bits on any number of threads and any CPU, with blocks of any shape, from memory
 * or from a reader. Rows should be centred on their mean (normalize_subtract), or more of them take the
 * slower, f64 path. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/rng.h"
#include "services/clusterer/feed.h"
#include "services/clusterer/nearest.h"
#include "services/clusterer/nearest_device.h"

/* Rows of which k-means++ chooses the first centroids: all, or a seeded sample of this many when there are
 * more. */
#define KMEANS_INIT_ROWS_PER_CENTROID 64
#define KMEANS_INIT_ROWS_MIN 16384

/* In the order of the choices of cluster.init, which has no file of centroids. */
enum kmeans_start { KMEANS_PLUSPLUS, KMEANS_PARALLEL, KMEANS_RANDOM, KMEANS_GIVEN };

struct kmeans_options {
    uint32_t k;
    uint32_t restarts;   /* at least 1 */
    uint32_t iterations; /* Lloyd updates at most, of each restart */
    double tolerance;    /* above 0: stop when the objective falls by no more than this share; labels that
                            stay as they are always stop */
    unsigned threads;    /* at least 1 */
    uint64_t seed;       /* with round, source and restart the key of all randomness */
    uint32_t round, source;
    enum kmeans_start init; /* how the first centroids are chosen */
    const float *given;     /* [k, d] with KMEANS_GIVEN, in the space of the rows */
    const char
        *checkpoint;     /* NULL, or a file from which a run that was cut off goes on, with the same result */
    double checkpoint_s; /* between iterations it is written when it is so old; gone after success */
    uint32_t block_rows, block_columns; /* shape of what is worked on at a time; 0: the fastest. For tests */
    enum nearest_first first;           /* for tests: labels are the same */
    struct nearest_device *device;      /* NULL, or where distances are computed: labels are the same */
    const atomic_bool *stop;            /* may be NULL; abandons within milliseconds */
    _Atomic uint64_t *row_passes;       /* may be NULL; counts rows assigned */
    _Atomic uint64_t *init_ns;          /* may be NULL; adds up the time that choosing first centroids took */
};

struct kmeans_result {
    float *centroids;      /* owned, [k, d] */
    uint32_t *labels;      /* owned, [n]: nearest centroid, the lowest of equal ones */
    double objective;      /* sum over rows of the squared distance to their centroid */
    uint32_t iterations;   /* updates made by the best restart */
    uint32_t restart;      /* the best one */
    uint64_t empty_splits; /* empty clusters that the best restart filled by splitting another one */
};

/* Clusters x [n, d], n >= k. 0; XDC_EFORMAT for n < k or a row that is not finite (named); XDC_ESTOPPED;
 * -ENOMEM. On failure *out is empty. */
int kmeans_run(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o,
               struct kmeans_result *out, struct err *e) WARN_UNUSED;
/* The same of the rows of a feed, which are gone through once for every pass; also what its reader returned.
 */
int kmeans_run_feed(struct feed *f, const struct kmeans_options *o, struct kmeans_result *out,
                    struct err *e) WARN_UNUSED;
void kmeans_result_close(struct kmeans_result *r);

/* labels [n]: for every row of x [n, d] the nearest of the k centroids, the lowest of equal ones; as for the
 * rows of kmeans_run. Uses only k, threads, device, stop and row_passes of the options. XDC_EFORMAT,
 * XDC_ESTOPPED or -ENOMEM. */
int kmeans_nearest(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o,
                   const float *centroids, uint32_t *labels, struct err *e) WARN_UNUSED;
/* The same of the rows of a feed; also what its reader returned. */
int kmeans_nearest_feed(struct feed *f, const struct kmeans_options *o, const float *centroids,
                        uint32_t *labels, struct err *e) WARN_UNUSED;

/* The first centroids [k, d], by o->init:
 * KMEANS_PLUSPLUS: greedy k-means++ (Arthur and Vassilvitskii 2007, with 2 + ln k candidates a step) over a
 * sample of the rows; where fewer rows than k are distinct the rest are copies. KMEANS_PARALLEL: k-means||
 * (Bahmani et al. 2012) over all rows: five passes that each draw about 2 k rows, of which weighted k-means++
 * chooses. KMEANS_RANDOM: k different rows, all choices equally likely. KMEANS_GIVEN: o->given.
 * Drawn from `r`. 0, XDC_ESTOPPED, -ENOMEM or what the feed's reader returned. */
int kmeans_init(struct feed *f, const struct kmeans_options *o, struct rng *r, float *centroids,
                struct err *e) WARN_UNUSED;

/* Fills every cluster without rows: a donor drawn with weight (rows - 1), no donor twice while another is
 * left; both take the donor's centroid times 1 +- 1/1024, alternating over coordinates, and half its count
 * each. n >= k rows in all. Returns how many were filled. */
uint32_t kmeans_split_empty(float *centroids, uint64_t *counts, uint32_t k, uint32_t d, struct rng *r);
