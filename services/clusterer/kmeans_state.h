/* kmeans_state: the file from which a k-means that was cut off goes on. Used by kmeans. Blocking; any thread;
 * owns nothing. Labels are not kept: they follow from rows and centroids. A file that is not sound, or of
 * another clustering, is as none. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

/* Where a restart stands, or how one ended. */
struct kmeans_point {
    uint64_t rng, empty_splits;
    double objective;
    uint32_t restart, iterations;
};

struct kmeans_state {
    uint64_t key; /* of the clustering: its rows, its options */
    size_t cells; /* of an array of centroids */
    struct kmeans_point now, best;
    float *centroids;      /* a loan, [cells] */
    float *best_centroids; /* a loan, [cells] */
    bool has_best;
};

/* 0, -ENOMEM or what writing gave; then the file before is still there. */
int kmeans_state_save(const char *path, const struct kmeans_state *s, struct err *e) WARN_UNUSED;
/* Fills all but key and cells, and the arrays. False: there is none. */
bool kmeans_state_load(const char *path, struct kmeans_state *s);
