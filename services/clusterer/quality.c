#include "services/clusterer/quality.h"
#include "lib/label_table.h"
#include "services/clusterer/contingency.h"
#include "services/clusterer/match.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
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
        double c = (double)t->cell[i].weight;
        mi += c / n *
              (log(n * c) - log((double)t->row_size[t->cell[i].row]) -
               log((double)t->column_size[t->cell[i].column]));
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
static int expected_information(struct contingency *t, double *out, struct err *e)
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
    int rc = row_times && column_times ? 0 : err_sys(e, ENOMEM, "sizes of clusters");
    free(row_times);
    free(column_times);
    return rc;
}

int quality_agreement(const uint32_t *a, const uint32_t *b, uint64_t n, struct quality_agreement *out,
                      struct err *e)
{
    struct contingency t;
    double expected = 0;
    *out = (struct quality_agreement){.nmi = 1, .ami = 1};
    int rc = contingency_init(&t, a, b, n, e);
    out->both = t.n;
    if (rc == 0 && (t.rows > 1 || t.columns > 1)) {
        double mean = (entropy(t.row_size, t.rows, t.n) + entropy(t.column_size, t.columns, t.n)) / 2;
        out->mi = mutual_information(&t);
        rc = expected_information(&t, &expected, e);
        double above = mean - expected;
        if (fabs(above) < DBL_EPSILON)
            above = above < 0 ? -DBL_EPSILON : DBL_EPSILON;
        /* equal labelings may miss 1 by rounding */
        out->nmi = out->mi > DBL_EPSILON ? fmin(out->mi / mean, 1) : 0;
        out->ami = fmin((out->mi - expected) / above, 1);
    }
    contingency_close(&t);
    return rc;
}

double quality_churn(const uint32_t *labels, const uint32_t *previous, uint64_t n)
{
    uint64_t both = 0, moved = 0;
    for (uint64_t i = 0; i < n; i++) {
        bool counts = labels[i] != LABEL_NONE && previous[i] != LABEL_NONE;
        both += counts;
        moved += counts && labels[i] != previous[i];
    }
    return both ? (double)moved / (double)both : 0;
}

static uint64_t pairs(uint64_t n)
{
    return n ? n % 2 ? (n - 1) / 2 * n : n / 2 * (n - 1) : 0;
}

/* Adjusted Rand index out of pairs of clips: together in both labelings, in one, in neither. 128 bits: exact
 * up to the division. */
static double rand_index(const struct contingency *t)
{
    __int128_t both = 0, a = 0, b = 0;
    for (uint64_t i = 0; i < t->cells; i++)
        both += pairs(t->cell[i].weight);
    for (uint64_t i = 0; i < t->rows; i++)
        a += pairs(t->row_size[i]);
    for (uint64_t i = 0; i < t->columns; i++)
        b += pairs(t->column_size[i]);
    __int128_t only_a = a - both, only_b = b - both, neither = pairs(t->n) - a - b + both;
    if (only_a == 0 && only_b == 0)
        return 1;
    return 2 * (double)(both * neither - only_a * only_b) /
           ((double)((both + only_a) * (only_a + neither)) + (double)((both + only_b) * (only_b + neither)));
}

/* The share of clips that a one-to-one naming of clusters by classes puts right, at its best. */
static int accuracy(const struct contingency *t, double *out, struct err *e)
{
    uint64_t right = 0;
    uint32_t *column = malloc((t->rows + 1) * sizeof *column);
    int rc = column ? match_maximum(t->cell, t->cells, (uint32_t)t->rows, (uint32_t)t->columns, column, e)
                    : err_sys(e, ENOMEM, "assignment of %llu clusters", (unsigned long long)t->rows);
    for (uint64_t i = 0; rc == 0 && i < t->cells; i++)
        right += column[t->cell[i].row] == t->cell[i].column ? t->cell[i].weight : 0;
    *out = t->n ? (double)right / (double)t->n : 0;
    free(column);
    return rc;
}

int quality_truth(const uint32_t *labels, const uint32_t *truth, uint64_t n, struct quality_truth *out,
                  struct err *e)
{
    struct contingency t;
    *out = (struct quality_truth){.ari = 1};
    int rc = contingency_init(&t, labels, truth, n, e);
    out->both = t.n;
    if (rc == 0 && t.n) {
        out->ari = rand_index(&t);
        rc = accuracy(&t, &out->accuracy, e);
    }
    for (uint64_t i = 0, row = 0; rc == 0 && row < t.rows; row++) {
        uint64_t most = 0;
        for (; i < t.cells && t.cell[i].row == row; i++) {
            out->entropy += plogp(t.cell[i].weight, t.row_size[row]);
            most = t.cell[i].weight > most ? t.cell[i].weight : most;
        }
        out->purity += (double)most / (double)t.row_size[row];
    }
    if (t.rows) {
        out->entropy /= (double)t.rows;
        out->purity /= (double)t.rows;
    }
    contingency_close(&t);
    return rc;
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
