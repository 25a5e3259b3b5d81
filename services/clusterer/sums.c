#include "services/clusterer/sums.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Memory that all parts may take; workers share one when there would be more. */
#define PARTS_BYTES (512ull << 20)

static void part_close(struct sums_part *p)
{
    pthread_mutex_destroy(&p->lock);
    free(p->sum);
    free(p->count);
}

void sums_close(struct sums *s)
{
    for (unsigned i = 0; i < s->parts; i++)
        part_close(&s->part[i]);
    free(s->part);
    free(s->sum);
    free(s->count);
    *s = (struct sums){0};
}

int sums_init(struct sums *s, uint64_t n, uint32_t k, uint32_t d, float most, unsigned threads, struct err *e)
{
    size_t cells = (size_t)k * d;
    uint64_t fit = PARTS_BYTES / (cells * sizeof *s->sum + 1);
    unsigned parts = fit < 1 ? 1 : fit < threads ? (unsigned)fit : threads;
    int exponent, bits = 0;
    while (n >> bits)
        bits++;
    bits = 62 - bits < 50 ? 62 - bits : 50;
    frexp((double)most, &exponent);
    *s = (struct sums){.k = k, .d = d, .scale = ldexp(1, bits - exponent)};
    s->sum = calloc(cells, sizeof *s->sum);
    s->count = calloc(k, sizeof *s->count);
    s->part = calloc(parts, sizeof *s->part);
    bool made = s->sum && s->count && s->part;
    for (; made && s->parts < parts; s->parts++) {
        struct sums_part *p = &s->part[s->parts];
        pthread_mutex_init(&p->lock, NULL);
        p->sum = calloc(cells, sizeof *p->sum);
        p->count = calloc(k, sizeof *p->count);
        made = p->sum && p->count;
    }
    if (made)
        return 0;
    sums_close(s);
    return err_sys(e, ENOMEM, "sums of %u clusters of %u columns", k, d);
}

void sums_clear(struct sums *s)
{
    memset(s->sum, 0, (size_t)s->k * s->d * sizeof *s->sum);
    memset(s->count, 0, s->k * sizeof *s->count);
}

uint64_t sums_move(struct sums *s, unsigned worker, const float *x, const uint32_t *pick, size_t count,
                   const uint32_t *from, const uint32_t *to)
{
    struct sums_part *p = &s->part[worker % s->parts];
    uint64_t moved = 0;
    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < count; i++) {
        if (from[i] == to[i])
            continue;
        const float *row = x + (size_t)pick[i] * s->d;
        uint64_t *sum = p->sum + (size_t)to[i] * s->d;
        if (from[i] == SUMS_NONE) {
            rows_fixed_add(sum, row, s->scale, s->d);
        } else {
            rows_fixed_move(p->sum + (size_t)from[i] * s->d, sum, row, s->scale, s->d);
            p->count[from[i]]--;
        }
        p->count[to[i]]++;
        moved++;
    }
    pthread_mutex_unlock(&p->lock);
    return moved;
}

void sums_join(struct sums *s)
{
    size_t cells = (size_t)s->k * s->d;
    for (unsigned i = 0; i < s->parts; i++) {
        struct sums_part *p = &s->part[i];
        for (size_t j = 0; j < cells; j++)
            s->sum[j] += p->sum[j];
        for (uint32_t c = 0; c < s->k; c++)
            s->count[c] += p->count[c];
        memset(p->sum, 0, cells * sizeof *p->sum);
        memset(p->count, 0, s->k * sizeof *p->count);
    }
}

double sums_at(const struct sums *s, uint32_t c, uint32_t j)
{
    const double zero = ROWS_FIXED_ZERO;
    uint64_t bits;
    memcpy(&bits, &zero, sizeof bits);
    bits = s->sum[(size_t)c * s->d + j] - (uint64_t)s->count[c] * bits;
    return (double)(int64_t)bits / s->scale;
}
