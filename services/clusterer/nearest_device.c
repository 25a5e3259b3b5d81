#include "services/clusterer/nearest_device.h"

#include <math.h>

/* Rows that the CPU decides at a time. */
#define BATCH 256

bool nearest_device_on(const struct nearest_device *g)
{
    return g && !atomic_load(&g->lost);
}

/* The first failure is the one to tell. */
static void lose(struct nearest_device *g, const struct err *e)
{
    if (!atomic_exchange(&g->lost, true))
        g->why = *e;
}

void nearest_device_pack(struct nearest_device *g, const struct nearest *n)
{
    struct err e = {0};
    if (nearest_device_on(g) && g->centroids(g->of, n->centroids, n->offset, n->k, n->d, &e) < 0)
        lose(g, &e);
}

/* Rows by nearest, results in their places: at[i] of the call. */
static void by_cpu(const struct nearest *n, const float *x, const uint32_t *pick, const uint32_t *at,
                   size_t count, const float *norms, struct nearest_scratch *s, uint32_t *labels,
                   float *upper, float *lower)
{
    uint32_t some[BATCH], label[BATCH];
    float up[BATCH], low[BATCH];
    for (size_t i = 0; i < count; i++)
        some[i] = pick[at[i]];
    nearest_rows(n, x, some, count, norms, s, label, up, low);
    for (size_t i = 0; i < count; i++) {
        labels[at[i]] = label[i];
        upper[at[i]] = up[i];
        lower[at[i]] = low[i];
    }
}

/* Labels and bounds in place of a row's scores, if they tell. */
static bool decide(const struct nearest *n, float norm32, uint32_t label, float *best_upper,
                   float *second_lower)
{
    struct nearest_found f = {(double)*best_upper, (double)*second_lower, label, false};
    double norm = nearest_norm(norm32);
    double error = nearest_error(n, norm) + n->d * ldexp(1, -124) * (1 + norm + n->norm);
    if (label >= n->k || !isfinite(f.best) || !(f.second > f.best + 2 * error))
        return false;
    nearest_bounds(&f, INFINITY, norm, error, best_upper, second_lower);
    return true;
}

void nearest_device_rows(struct nearest_device *g, unsigned worker, const struct nearest *n, const float *x,
                         const uint32_t *pick, size_t count, const float *norms, struct nearest_scratch *s,
                         uint32_t *labels, float *upper, float *lower)
{
    struct err e = {0};
    uint32_t rest[BATCH];
    size_t left = 0;
    bool scored = g->rows(g->of, worker, x, pick, (uint32_t)count, labels, upper, lower, &e) == 0;
    if (!scored)
        lose(g, &e);
    for (uint32_t i = 0; i < count; i++) {
        if (!scored || !decide(n, norms[pick[i]], labels[i], &upper[i], &lower[i]))
            rest[left++] = i;
        if (left == BATCH || (left > 0 && i + 1 == count)) {
            by_cpu(n, x, pick, rest, left, norms, s, labels, upper, lower);
            left = 0;
        }
    }
}
