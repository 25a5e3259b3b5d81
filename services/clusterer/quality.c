#include "services/clusterer/quality.h"
#include "lib/label_table.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_u64(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

static double plogp(uint64_t count, uint64_t n)
{
    double p = (double)count / (double)n;
    return count ? -p * log(p) : 0;
}

int quality_sizes(const uint32_t *labels, uint64_t n, uint32_t k, struct quality_sizes *out, struct err *e)
{
    *out = (struct quality_sizes){0};
    uint64_t *counts = calloc(k, sizeof *counts);
    if (!counts)
        return err_sys(e, ENOMEM, "sizes of %u clusters", k);
    for (uint64_t i = 0; i < n; i++)
        if (labels[i] < k) {
            counts[labels[i]]++;
            out->labelled++;
        }
    for (uint32_t c = 0; c < k && out->labelled; c++) {
        double share = (double)counts[c] / (double)out->labelled;
        out->entropy += plogp(counts[c], out->labelled);
        out->imbalance += (double)k * share * share;
        out->empty += counts[c] == 0;
    }
    qsort(counts, k, sizeof *counts, compare_u64);
    out->min = counts[0];
    out->max = counts[k - 1];
    out->median = ((double)counts[(k - 1) / 2] + (double)counts[k / 2]) / 2;
    free(counts);
    return 0;
}

/* A cell of the contingency table, or a marginal (then only count and one of the keys mean something). */
struct cell {
    uint32_t a, b;
    uint64_t count;
};

/* Both labelings as sorted cells and the sizes of their clusters, in the order of the labels. */
struct contingency {
    uint64_t n;
    uint64_t cells, rows, columns;
    struct cell *cell;      /* owned, by (a, b) */
    uint64_t *row_size;     /* owned */
    uint64_t *column_size;  /* owned */
    uint32_t *column_label; /* owned, ascending */
};

static void contingency_close(struct contingency *t)
{
    free(t->cell);
    free(t->row_size);
    free(t->column_size);
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
    t->column_label = calloc(t->cells + 1, sizeof *t->column_label);
    if (!t->cell || !t->row_size || !t->column_label)
        return -ENOMEM;
    uint64_t cell = 0, row = 0;
    for (uint64_t i = 0; i < t->n; i++) {
        row += i > 0 && pairs[i] >> 32 != pairs[i - 1] >> 32;
        cell += i > 0 && pairs[i] != pairs[i - 1];
        t->cell[cell].a = (uint32_t)row;
        t->cell[cell].b = (uint32_t)pairs[i];
        t->cell[cell].count++;
        t->row_size[row]++;
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
        t->cell[i].b = (uint32_t)column_of(t, t->cell[i].b);
        t->column_size[t->cell[i].b] += t->cell[i].count;
    }
    return 0;
}

static int contingency_init(struct contingency *t, const uint32_t *a, const uint32_t *b, uint64_t n)
{
    *t = (struct contingency){0};
    for (uint64_t i = 0; i < n; i++)
        t->n += a[i] != LABEL_NONE && b[i] != LABEL_NONE;
    uint64_t *pairs = malloc((t->n + 1) * sizeof *pairs);
    if (!pairs)
        return -ENOMEM;
    uint64_t at = 0;
    for (uint64_t i = 0; i < n; i++)
        if (a[i] != LABEL_NONE && b[i] != LABEL_NONE)
            pairs[at++] = (uint64_t)a[i] << 32 | b[i];
    qsort(pairs, t->n, sizeof *pairs, compare_u64);
    int rc = contingency_fill(t, pairs);
    free(pairs);
    return rc;
}

static double entropy(const uint64_t *sizes, uint64_t count, uint64_t n)
{
    double h = 0;
    for (uint64_t i = 0; i < count; i++)
        h += plogp(sizes[i], n);
    return h;
}

static double mutual_information(const struct contingency *t)
{
    double mi = 0, n = (double)t->n;
    for (uint64_t i = 0; i < t->cells; i++) {
        double c = (double)t->cell[i].count;
        mi +=
            c / n *
            (log(n * c) - log((double)t->row_size[t->cell[i].a]) - log((double)t->column_size[t->cell[i].b]));
    }
    return mi < 0 ? 0 : mi;
}

/* E[nij/N log(N nij / (a b))] of one cell under random labelings of these sizes: nij is hypergeometric. The
 * sum runs from its mode outwards by the ratio of neighbours and ends where terms no longer count: exact to
 * rounding at any size. */
static double expected_cell(uint64_t a, uint64_t b, uint64_t n)
{
    double da = (double)a, db = (double)b, dn = (double)n, sum = 0;
    uint64_t lo = a + b > n ? a + b - n : 0, hi = a < b ? a : b;
    uint64_t mode = (uint64_t)((da + 1) * (db + 1) / (dn + 2));
    mode = mode < lo ? lo : mode > hi ? hi : mode;
    double dm = (double)mode;
    double top =
        exp(lgamma(da + 1) + lgamma(db + 1) + lgamma(dn - da + 1) + lgamma(dn - db + 1) - lgamma(dn + 1) -
            lgamma(dm + 1) - lgamma(da - dm + 1) - lgamma(db - dm + 1) - lgamma(dn - da - db + dm + 1));
    double p = top;
    for (uint64_t i = mode; i <= hi && p > top * 1e-18; i++) {
        double x = (double)i;
        sum += i ? x / dn * log(dn * x / (da * db)) * p : 0;
        p *= (da - x) * (db - x) / ((x + 1) * (dn - da - db + x + 1));
    }
    p = top;
    for (uint64_t i = mode; i > lo && p > top * 1e-18; i--) {
        double x = (double)i;
        p *= x * (dn - da - db + x) / ((da - x + 1) * (db - x + 1));
        sum += i > 1 ? (x - 1) / dn * log(dn * (x - 1) / (da * db)) * p : 0;
    }
    return sum;
}

/* Equal sizes are taken once and counted. `sizes` is sorted in place; returns the number of distinct ones. */
static uint64_t distinct(uint64_t *sizes, uint64_t count, uint64_t *times)
{
    uint64_t m = 0;
    qsort(sizes, count, sizeof *sizes, compare_u64);
    for (uint64_t i = 0; i < count; i++) {
        if (m && sizes[m - 1] == sizes[i]) {
            times[m - 1]++;
            continue;
        }
        sizes[m] = sizes[i];
        times[m++] = 1;
    }
    return m;
}

/* Spoils the sizes of `t`. */
static int expected_information(struct contingency *t, double *out)
{
    uint64_t *row_times = malloc((t->rows + 1) * sizeof *row_times);
    uint64_t *column_times = malloc((t->columns + 1) * sizeof *column_times);
    *out = 0;
    if (row_times && column_times) {
        uint64_t rows = distinct(t->row_size, t->rows, row_times);
        uint64_t columns = distinct(t->column_size, t->columns, column_times);
        for (uint64_t i = 0; i < rows; i++)
            for (uint64_t j = 0; j < columns; j++)
                *out += (double)row_times[i] * (double)column_times[j] *
                        expected_cell(t->row_size[i], t->column_size[j], t->n);
    }
    int rc = row_times && column_times ? 0 : -ENOMEM;
    free(row_times);
    free(column_times);
    return rc;
}

static int compare_overlap(const void *x, const void *y)
{
    const struct cell *a = x, *b = y;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    if (a->a != b->a)
        return a->a < b->a ? -1 : 1;
    return (a->b > b->b) - (a->b < b->b);
}

/* Spoils the order of the cells of `t`. */
static int churn(struct contingency *t, double *out)
{
    bool *row_used = calloc(t->rows + 1, sizeof *row_used),
         *column_used = calloc(t->columns + 1, sizeof *column_used);
    uint64_t kept = 0;
    int rc = row_used && column_used ? 0 : -ENOMEM;
    qsort(t->cell, t->cells, sizeof *t->cell, compare_overlap);
    for (uint64_t i = 0; rc == 0 && i < t->cells; i++) {
        const struct cell *c = &t->cell[i];
        if (row_used[c->a] || column_used[c->b])
            continue;
        row_used[c->a] = column_used[c->b] = true;
        kept += c->count;
    }
    free(row_used);
    free(column_used);
    *out = t->n ? (double)(t->n - kept) / (double)t->n : 0;
    return rc;
}

int quality_agreement(const uint32_t *a, const uint32_t *b, uint64_t n, struct quality_agreement *out,
                      struct err *e)
{
    struct contingency t;
    double expected = 0;
    *out = (struct quality_agreement){.nmi = 1, .ami = 1};
    int rc = contingency_init(&t, a, b, n);
    out->both = t.n;
    if (rc == 0 && t.n)
        rc = churn(&t, &out->churn);
    if (rc == 0 && (t.rows > 1 || t.columns > 1)) {
        double mean = (entropy(t.row_size, t.rows, t.n) + entropy(t.column_size, t.columns, t.n)) / 2;
        out->mi = mutual_information(&t);
        rc = expected_information(&t, &expected);
        double above = mean - expected;
        if (fabs(above) < DBL_EPSILON)
            above = above < 0 ? -DBL_EPSILON : DBL_EPSILON;
        /* equal labelings may miss 1 by rounding */
        out->nmi = out->mi > DBL_EPSILON ? fmin(out->mi / mean, 1) : 0;
        out->ami = fmin((out->mi - expected) / above, 1);
    }
    contingency_close(&t);
    return rc ? err_sys(e, -rc, "agreement of two labelings of %llu clips", (unsigned long long)n) : 0;
}

int quality_inertia_share(const float *x, uint64_t n, uint32_t d, const uint32_t *labels, uint32_t k,
                          uint32_t split, double *out, struct err *e)
{
    *out = 0;
    double *sums = calloc((size_t)(k + 1) * d, sizeof *sums); /* the last row: of all */
    uint64_t *counts = calloc(k, sizeof *counts);
    double part[2] = {0, 0};
    if (!sums || !counts) {
        free(sums);
        free(counts);
        return err_sys(e, ENOMEM, "inertia of %u clusters", k);
    }
    double *all = sums + (size_t)k * d;
    for (uint64_t i = 0; i < n; i++) {
        rows_add(sums + (size_t)labels[i] * d, x + i * d, d);
        rows_add(all, x + i * d, d);
        counts[labels[i]]++;
    }
    for (uint32_t c = 0; c < k; c++)
        for (uint32_t j = 0; counts[c] && j < d; j++) {
            double diff = sums[(size_t)c * d + j] / (double)counts[c] - all[j] / (double)n;
            part[j >= split] += (double)counts[c] * diff * diff;
        }
    if (part[0] + part[1] > 0)
        *out = part[0] / (part[0] + part[1]);
    free(sums);
    free(counts);
    return 0;
}
