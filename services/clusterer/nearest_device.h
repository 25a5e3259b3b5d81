/* nearest_device: nearest's rows on a device that has matrix products of f32, a GPU as a rule. Used by
 * kmeans; made by assign_device. Rows that the products cannot tell apart are nearest's, so labels are the
 * same. Any thread, each with a worker's number of its own. Cannot fail: what the device fails at the CPU
 * does, for good.
 *
 * The bound is E(x) of nearest.h, which holds for sums in any order, and for arithmetic that takes what is
 * less than 2^-126 for zero (as GPUs may) d 2^-124 (1 + |x| + C) beside it. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"
#include "services/clusterer/nearest.h"

/* Rows of a call at most. */
#define NEAREST_DEVICE_ROWS 4096

struct nearest_device {
    const char *name; /* a loan: "cuda:0" */
    void *of; /* the first argument of both: as scores_centroids and scores_rows of lib/torch/scores.h */
    int (*centroids)(void *of, const float *centroids, const float *offset, uint32_t k, uint32_t d,
                     struct err *e);
    int (*rows)(void *of, unsigned worker, const float *x, const uint32_t *pick, uint32_t n, uint32_t *label,
                float *best, float *second, struct err *e);
    atomic_bool lost; /* it has failed */
    struct err why;   /* of that; to be read while no call is under way */
};

/* Whether it takes rows. NULL is none. */
bool nearest_device_on(const struct nearest_device *g);
/* Takes the centroids of `n`, which have been packed. */
void nearest_device_pack(struct nearest_device *g, const struct nearest *n);
/* As nearest_rows, on a device that is on. count is at most NEAREST_DEVICE_ROWS. */
void nearest_device_rows(struct nearest_device *g, unsigned worker, const struct nearest *n, const float *x,
                         const uint32_t *pick, size_t count, const float *norms, struct nearest_scratch *s,
                         uint32_t *labels, float *upper, float *lower);
