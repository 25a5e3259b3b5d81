#include "services/trainer/probe.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#define LANES 16

struct neighbour {
    float cosine;
    uint32_t class;
};

/* Rows of length 1, in columns rounded up to whole lanes. */
static void normalise(const float *x, uint64_t n, uint32_t d, uint32_t padded, float *out)
{
    for (uint64_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < d; j++)
            sum += (double)x[i * d + j] * (double)x[i * d + j];
        double factor = sum > 0 ? 1 / sqrt(sum) : 0;
        for (uint32_t j = 0; j < padded; j++)
            out[i * padded + j] = j < d ? (float)((double)x[i * d + j] * factor) : 0;
    }
}

static float dot(const float *a, const float *b, uint32_t padded)
{
    float lane[LANES] = {0}, sum = 0;
    for (uint32_t j = 0; j < padded; j += LANES)
        for (uint32_t l = 0; l < LANES; l++)
            lane[l] += a[j + l] * b[j + l];
    for (uint32_t l = 0; l < LANES; l++)
        sum += lane[l];
    return sum;
}

/* Keeps the k nearest, the nearest first; rows come in ascending order. */
static void insert(struct neighbour *near, uint32_t *n, uint32_t k, struct neighbour one)
{
    uint32_t at = *n;
    if (*n == k && !(one.cosine > near[k - 1].cosine))
        return;
    if (*n < k)
        ++*n;
    else
        at--;
    for (; at > 0 && one.cosine > near[at - 1].cosine; at--)
        near[at] = near[at - 1];
    near[at] = one;
}

static uint32_t vote(const struct neighbour *near, uint32_t n)
{
    uint32_t best = 0, most = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t count = 0;
        for (uint32_t j = 0; j < n; j++)
            count += near[j].class == near[i].class;
        if (count > most) {
            most = count;
            best = near[i].class;
        }
    }
    return best;
}

int probe_knn(const float *x, uint64_t n, uint32_t d, const uint32_t *class_of, const uint64_t *group,
              uint32_t k, double *out, struct err *e)
{
    uint32_t padded = (d + LANES - 1) / LANES * LANES;
    uint64_t right = 0, counted = 0;
    float *unit = malloc((n * padded + 1) * sizeof *unit);
    struct neighbour *near = malloc((size_t)k * sizeof *near);
    int rc = unit && near ? 0 : err_sys(e, ENOMEM, "nearest neighbours of %llu clips", (unsigned long long)n);
    if (rc == 0)
        normalise(x, n, d, padded, unit);
    for (uint64_t i = 0; rc == 0 && i < n; i++) {
        uint32_t found = 0;
        for (uint64_t j = 0; j < n; j++)
            if (group[j] != group[i])
                insert(near, &found, k,
                       (struct neighbour){dot(unit + i * padded, unit + j * padded, padded), class_of[j]});
        counted += found > 0;
        right += found > 0 && vote(near, found) == class_of[i];
    }
    *out = counted ? (double)right / (double)counted : 0;
    free(unit);
    free(near);
    return rc;
}
