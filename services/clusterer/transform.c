#include "services/clusterer/transform.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void transform_close(struct transform *t)
{
    for (uint32_t i = 0; i < TRANSFORM_PARTS_MAX; i++)
        free(t->part[i].mean);
    free(t->mean);
    normalize_directions_close(&t->by);
    free(t->centroids);
    *t = (struct transform){0};
}

/* How rows go through a part whose mean has been subtracted and whose factor is known. */
static int scale_part(const struct transform_part *p, float *x, uint64_t n, unsigned threads,
                      const atomic_bool *stop, struct err *e)
{
    if (p->scale == SCALE_L2)
        return normalize_l2(x, n, p->dim, threads, stop, e);
    if (p->scale == SCALE_VARIANCE)
        return normalize_multiply(x, n, p->dim, p->factor, threads, stop, e);
    return 0;
}

int transform_part_fit(struct transform_part *p, float *x, uint64_t n, uint64_t fit, unsigned threads,
                       const atomic_bool *stop, struct err *e)
{
    p->mean = malloc(p->dim * sizeof *p->mean);
    p->factor = 1;
    int rc = p->mean ? normalize_mean(x, fit, p->dim, threads, stop, p->mean, e)
                     : err_sys(e, ENOMEM, "mean of %u columns", p->dim);
    if (rc == 0)
        rc = normalize_subtract(x, n, p->dim, p->mean, threads, stop, e);
    if (rc == 0 && p->scale == SCALE_VARIANCE)
        rc = normalize_factor(x, fit, p->dim, threads, stop, &p->factor, e);
    return rc ? rc : scale_part(p, x, n, threads, stop, e);
}

static int whiten(const struct transform *t, float *x, uint64_t n, unsigned threads, const atomic_bool *stop,
                  struct err *e)
{
    int rc = normalize_subtract(x, n, t->d, t->mean, threads, stop, e);
    return rc ? rc : normalize_project(x, n, &t->by, threads, stop, e);
}

/* What is learnt for whitening; the mean of centred parts is all but 0. */
static int learn_whitening(struct transform *t, float *x, uint64_t n, uint64_t fit, uint32_t pca_dim,
                           unsigned threads, const atomic_bool *stop, struct err *e)
{
    t->mean = malloc(t->d * sizeof *t->mean);
    int rc = t->mean ? normalize_mean(x, fit, t->d, threads, stop, t->mean, e)
                     : err_sys(e, ENOMEM, "mean of %u columns", t->d);
    if (rc == 0)
        rc = normalize_subtract(x, n, t->d, t->mean, threads, stop, e);
    if (rc == 0)
        rc = normalize_learn_directions(x, fit, t->d, pca_dim, threads, stop, &t->by, e);
    return rc ? rc : normalize_project(x, n, &t->by, threads, stop, e);
}

int transform_fit(struct transform *t, float *x, uint64_t n, uint64_t fit, enum conf_normalize normalize,
                  uint32_t pca_dim, unsigned threads, const atomic_bool *stop, struct err *e)
{
    int rc = 0;
    t->normalize = normalize;
    t->d = 0;
    for (uint32_t i = 0; i < t->parts; i++)
        t->d += t->part[i].dim;
    if (normalize == NORMALIZE_PCA_WHITEN_L2)
        rc = learn_whitening(t, x, n, fit, pca_dim, threads, stop, e);
    t->p = normalize == NORMALIZE_PCA_WHITEN_L2 ? t->by.p : t->d;
    return rc || normalize == NORMALIZE_NONE ? rc : normalize_l2(x, n, t->p, threads, stop, e);
}

int transform_row(const struct transform *t, const float *const features[], float *out, struct err *e)
{
    float *x = malloc(t->d * sizeof *x), *at = x;
    int rc = x ? 0 : err_sys(e, ENOMEM, "a row of %u columns", t->d);
    for (uint32_t i = 0; rc == 0 && i < t->parts; i++) {
        const struct transform_part *p = &t->part[i];
        memcpy(at, features[i], p->dim * sizeof *at);
        rc = normalize_subtract(at, 1, p->dim, p->mean, 1, NULL, e);
        if (rc == 0)
            rc = scale_part(p, at, 1, 1, NULL, e);
        at += p->dim;
    }
    if (rc == 0 && t->normalize == NORMALIZE_PCA_WHITEN_L2)
        rc = whiten(t, x, 1, 1, NULL, e);
    if (rc == 0 && t->normalize != NORMALIZE_NONE)
        rc = normalize_l2(x, 1, t->p, 1, NULL, e);
    if (rc == 0)
        memcpy(out, x, t->p * sizeof *out);
    free(x);
    return rc;
}
