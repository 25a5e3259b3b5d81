#include "services/trainer/health.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

bool health_loss_at_chance(double loss, uint32_t k, uint32_t epoch)
{
    return epoch > 0 && k > 1 && loss >= 0.99 * log(k);
}

bool health_collapsed(const uint64_t *counts, uint32_t k, uint64_t labelled, struct health_clusters *out)
{
    uint64_t largest = 0;
    *out = (struct health_clusters){0};
    for (uint32_t c = 0; c < k; c++) {
        largest = counts[c] > largest ? counts[c] : largest;
        out->used += counts[c] > 0;
    }
    if (labelled == 0)
        return false;
    out->largest = (double)largest / (double)labelled;
    return out->largest > fmax(0.5, 1.8 / k) || 2 * (uint64_t)out->used < k;
}

int health_range_init(struct health_range *r, uint32_t dim, struct err *e)
{
    *r = (struct health_range){.dim = dim};
    r->least = malloc(dim * sizeof *r->least);
    r->greatest = malloc(dim * sizeof *r->greatest);
    return r->least && r->greatest ? 0 : err_sys(e, ENOMEM, "ranges of features");
}

void health_range_add(struct health_range *r, const float *features, uint32_t n)
{
    for (uint32_t row = 0; row < n; row++) {
        const float *x = features + (size_t)row * r->dim;
        bool first = r->rows++ == 0;
        for (uint32_t i = 0; i < r->dim; i++) {
            if (first || x[i] < r->least[i])
                r->least[i] = x[i];
            if (first || x[i] > r->greatest[i])
                r->greatest[i] = x[i];
        }
    }
}

bool health_range_dead(const struct health_range *r, uint32_t *out_dead)
{
    *out_dead = 0;
    for (uint32_t i = 0; r->rows > 1 && i < r->dim; i++)
        *out_dead += r->least[i] == r->greatest[i];
    return 2 * (uint64_t)*out_dead > r->dim;
}

void health_range_close(struct health_range *r)
{
    free(r->least);
    free(r->greatest);
    *r = (struct health_range){0};
}
