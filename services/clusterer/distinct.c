#include "services/clusterer/distinct.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a over the words of a row; zeros of both signs are one. */
static uint64_t row_hash(const float *row, uint32_t d)
{
    uint64_t h = 14695981039346656037u;
    for (uint32_t j = 0; j < d; j++) {
        uint32_t word;
        memcpy(&word, &row[j], sizeof word);
        h = (h ^ (row[j] == 0 ? 0 : word)) * 1099511628211u;
    }
    return h ^ h >> 32;
}

static bool same_row(const float *a, const float *b, uint32_t d)
{
    uint32_t j = 0;
    while (j < d && a[j] == b[j])
        j++;
    return j == d;
}

int distinct_init(struct distinct *c, uint32_t d, uint32_t most, struct err *e)
{
    *c = (struct distinct){.d = d, .most = most, .size = 16};
    while (c->size < 2 * (size_t)most)
        c->size *= 2;
    c->slot = calloc(c->size, sizeof *c->slot);
    c->rows = malloc((size_t)most * d * sizeof *c->rows + 1);
    if (c->slot && c->rows)
        return 0;
    distinct_close(c);
    return err_sys(e, ENOMEM, "compare rows with %u others", most);
}

void distinct_close(struct distinct *c)
{
    free(c->slot);
    free(c->rows);
    *c = (struct distinct){.count = c->count};
}

void distinct_add(struct distinct *c, const float *x, uint64_t n)
{
    for (uint64_t i = 0; i < n && c->count < c->most; i++) {
        const float *row = x + i * c->d;
        size_t at = row_hash(row, c->d) & (c->size - 1);
        while (c->slot[at] && !same_row(c->rows + (size_t)(c->slot[at] - 1) * c->d, row, c->d))
            at = (at + 1) & (c->size - 1);
        if (c->slot[at])
            continue;
        memcpy(c->rows + (size_t)c->count * c->d, row, c->d * sizeof *row);
        c->slot[at] = ++c->count;
    }
}

int distinct_rows(const float *x, uint64_t n, uint32_t d, uint32_t most, uint32_t *out, struct err *e)
{
    struct distinct c;
    int rc = distinct_init(&c, d, most, e);
    if (rc == 0)
        distinct_add(&c, x, n);
    distinct_close(&c);
    *out = c.count;
    return rc;
}
