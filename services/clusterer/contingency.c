#include "services/clusterer/contingency.h"
#include "lib/label_table.h"

#include <errno.h>
#include <stdlib.h>

#define DIGITS 256

/* Sorts pairs [n] by their bytes, the lowest first; bytes that are all the same are passed over. Returns
 * where the result is: `pairs` or `scratch`. */
static uint64_t *sort_pairs(uint64_t *pairs, uint64_t *scratch, uint64_t n)
{
    uint64_t varies = 0;
    for (uint64_t i = 1; i < n; i++)
        varies |= pairs[i] ^ pairs[0];
    for (unsigned shift = 0; shift < 64; shift += 8) {
        uint64_t at[DIGITS] = {0}, sum = 0;
        if ((varies >> shift & (DIGITS - 1)) == 0)
            continue;
        for (uint64_t i = 0; i < n; i++)
            at[pairs[i] >> shift & (DIGITS - 1)]++;
        for (unsigned digit = 0; digit < DIGITS; digit++) {
            uint64_t count = at[digit];
            at[digit] = sum;
            sum += count;
        }
        for (uint64_t i = 0; i < n; i++)
            scratch[at[pairs[i] >> shift & (DIGITS - 1)]++] = pairs[i];
        uint64_t *sorted = scratch;
        scratch = pairs;
        pairs = sorted;
    }
    return pairs;
}

void contingency_close(struct contingency *t)
{
    free(t->cell);
    free(t->row_size);
    free(t->column_size);
    free(t->row_label);
    free(t->column_label);
}

static int compare_u32(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return (a > b) - (a < b);
}

static uint64_t column_of(const struct contingency *t, uint32_t label)
{
    uint64_t lo = 0, hi = t->columns;
    while (lo + 1 < hi) {
        uint64_t mid = (lo + hi) / 2;
        if (t->column_label[mid] <= label)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* Fills cells, rows and columns from the sorted pairs (a << 32 | b). Cells then name rows and columns by
 * index. */
static int contingency_fill(struct contingency *t, const uint64_t *pairs)
{
    for (uint64_t i = 0; i < t->n; i++) {
        t->cells += i == 0 || pairs[i] != pairs[i - 1];
        t->rows += i == 0 || pairs[i] >> 32 != pairs[i - 1] >> 32;
    }
    t->cell = calloc(t->cells + 1, sizeof *t->cell);
    t->row_size = calloc(t->rows + 1, sizeof *t->row_size);
    t->row_label = calloc(t->rows + 1, sizeof *t->row_label);
    t->column_label = calloc(t->cells + 1, sizeof *t->column_label);
    if (!t->cell || !t->row_size || !t->row_label || !t->column_label)
        return -ENOMEM;
    uint64_t cell = 0, row = 0;
    for (uint64_t i = 0; i < t->n; i++) {
        row += i > 0 && pairs[i] >> 32 != pairs[i - 1] >> 32;
        cell += i > 0 && pairs[i] != pairs[i - 1];
        t->cell[cell].row = (uint32_t)row;
        t->cell[cell].column = (uint32_t)pairs[i];
        t->cell[cell].weight++;
        t->row_size[row]++;
        t->row_label[row] = (uint32_t)(pairs[i] >> 32);
        t->column_label[cell] = (uint32_t)pairs[i];
    }
    qsort(t->column_label, t->cells, sizeof *t->column_label, compare_u32);
    for (uint64_t i = 0; i < t->cells; i++)
        if (i == 0 || t->column_label[i] != t->column_label[t->columns - 1])
            t->column_label[t->columns++] = t->column_label[i];
    t->column_size = calloc(t->columns + 1, sizeof *t->column_size);
    if (!t->column_size)
        return -ENOMEM;
    for (uint64_t i = 0; i < t->cells; i++) {
        t->cell[i].column = (uint32_t)column_of(t, t->cell[i].column);
        t->column_size[t->cell[i].column] += t->cell[i].weight;
    }
    return 0;
}

int contingency_init(struct contingency *t, const uint32_t *a, const uint32_t *b, uint64_t n, struct err *e)
{
    *t = (struct contingency){0};
    for (uint64_t i = 0; i < n; i++)
        t->n += a[i] != LABEL_NONE && b[i] != LABEL_NONE;
    uint64_t *pairs = malloc((t->n + 1) * sizeof *pairs), *scratch = malloc((t->n + 1) * sizeof *scratch);
    int rc = pairs && scratch ? 0 : -ENOMEM;
    uint64_t at = 0;
    for (uint64_t i = 0; rc == 0 && i < n; i++)
        if (a[i] != LABEL_NONE && b[i] != LABEL_NONE)
            pairs[at++] = (uint64_t)a[i] << 32 | b[i];
    if (rc == 0)
        rc = contingency_fill(t, sort_pairs(pairs, scratch, t->n));
    free(pairs);
    free(scratch);
    return rc ? err_sys(e, ENOMEM, "two labelings of %llu clips", (unsigned long long)n) : 0;
}
