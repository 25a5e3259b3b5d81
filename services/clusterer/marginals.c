#include "services/clusterer/marginals.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "lib/rng.h"

void marginals_draw(const struct marginals *m, uint32_t k, double *sizes)
{
    struct rng r;
    double sum = 0;
    rng_init(&r, rng_key(m->seed, "marginals", m->head, 0, 0));
    for (uint32_t j = 0; j < k; j++) {
        double size = 1;
        if (m->kind == MARGINALS_GAUSSIAN)
            size = fmax(1 + m->sd * rng_normal(&r), MARGINALS_LEAST);
        else if (m->kind == MARGINALS_ZIPF)
            size = pow((double)j + 1, -m->exponent);
        sum += sizes[j] = size;
    }
    for (uint32_t j = 0; j < k; j++)
        sizes[j] /= sum;
}

struct ranked {
    double value;
    uint32_t at;
};

static int compare(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return (a->at > b->at) - (a->at < b->at);
}

int marginals_pair(double *sizes, const double *mass, uint32_t k, bool inverse, struct err *e)
{
    struct ranked *size = malloc(k * sizeof *size), *cluster = malloc(k * sizeof *cluster);
    int rc = size && cluster ? 0 : err_sys(e, ENOMEM, "sizes of %u clusters", k);
    for (uint32_t j = 0; rc == 0 && j < k; j++) {
        size[j] = (struct ranked){sizes[j], j};
        cluster[j] = (struct ranked){mass[j], j};
    }
    if (rc == 0) {
        qsort(size, k, sizeof *size, compare);
        qsort(cluster, k, sizeof *cluster, compare);
    }
    for (uint32_t j = 0; rc == 0 && j < k; j++)
        sizes[cluster[j].at] = size[inverse ? k - 1 - j : j].value;
    free(size);
    free(cluster);
    return rc;
}
