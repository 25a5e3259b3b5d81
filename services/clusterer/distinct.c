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

int distinct_rows(const float *x, uint64_t n, uint32_t d, uint32_t most, uint32_t *out, struct err *e)
{
    uint64_t size = 16;
    uint32_t distinct = 0;
    while (size < 2 * (uint64_t)most)
        size *= 2;
    uint64_t *slot = calloc(size, sizeof *slot); /* row + 1 */
    if (!slot)
        return err_sys(e, ENOMEM, "compare %llu rows", (unsigned long long)n);
    for (uint64_t i = 0; i < n && distinct < most; i++) {
        uint64_t at = row_hash(x + i * d, d) & (size - 1);
        while (slot[at] && !same_row(x + (slot[at] - 1) * d, x + i * d, d))
            at = (at + 1) & (size - 1);
        distinct += slot[at] == 0;
        slot[at] = slot[at] ? slot[at] : i + 1;
    }
    free(slot);
    *out = distinct;
    return 0;
}
