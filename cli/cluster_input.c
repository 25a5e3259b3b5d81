#include "cli/cluster_input.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/half.h"
#include "lib/label_table.h"
#include "lib/tensor.h"
#include "services/clusterer/distinct.h"
#include "services/clusterer/rows.h"

#define BAD_ROWS_NAMED 5

static int check_table(const char *path, const struct tensor *t, struct err *e)
{
    char shape[200];
    if (t->dtype != TENSOR_F32 && t->dtype != TENSOR_F16)
        return err_set(e, XDC_EFORMAT,
                       "%s is of dtype %s, f32 or f16 is needed; save it again with .astype(numpy.float32)",
                       path, tensor_dtype_name(t->dtype));
    if (t->ndim != 2 || t->shape[0] == 0 || t->shape[1] == 0 || t->shape[1] > INT32_MAX)
        return err_set(e, XDC_EFORMAT,
                       "%s has the shape %s, a table [rows, columns] is needed; numpy's reshape makes one",
                       path, tensor_shape_text(t, shape, sizeof shape));
    return 0;
}

int cluster_read_table(const char *path, uint64_t extra, float **out, uint64_t *out_rows,
                       uint32_t *out_columns, struct err *e)
{
    struct tensor t;
    void *data;
    *out = NULL;
    int rc = npy_read(path, &t, &data, e);
    if (rc == 0)
        rc = check_table(path, &t, e);
    if (rc) {
        free(data);
        return rc;
    }
    size_t row = t.shape[1] * sizeof(float), bytes = (t.shape[0] + extra) * row;
    *out_rows = t.shape[0];
    *out_columns = (uint32_t)t.shape[1];
    if (t.dtype == TENSOR_F32) {
        *out = realloc(data, bytes);
    } else {
        *out = malloc(bytes);
        if (*out)
            half_to_float(data, *out, t.shape[0] * t.shape[1]);
    }
    if (!*out || t.dtype != TENSOR_F32)
        free(data);
    return *out ? 0 : err_sys(e, ENOMEM, "%zu bytes of %s", bytes, path);
}

int cluster_check_finite(const char *path, const float *x, uint64_t n, uint32_t d, unsigned threads,
                         struct err *e)
{
    char rows[BAD_ROWS_NAMED * 24] = "";
    uint64_t first = 0, bad;
    unsigned found = 0;
    size_t at = 0;
    while (first < n && found <= BAD_ROWS_NAMED &&
           (bad = rows_first_bad(x + first * d, n - first, d, threads)) != UINT64_MAX) {
        if (found++ < BAD_ROWS_NAMED)
            at += (size_t)snprintf(rows + at, sizeof rows - at, "%s%llu", at ? ", " : "",
                                   (unsigned long long)(first + bad));
        first += bad + 1;
    }
    if (!found)
        return 0;
    return err_set(e, XDC_EFORMAT,
                   "%s: row%s %s%s %s not finite, or too large to square; leave such rows out: "
                   "f[numpy.isfinite(f).all(axis=1)] (clips without features are rows of NaN)",
                   path, found > 1 ? "s" : "", rows, found > BAD_ROWS_NAMED ? " and more" : "",
                   found > 1 ? "are" : "is");
}

int cluster_check_distinct(const char *path, const float *x, uint64_t n, uint32_t d, uint32_t k,
                           struct err *e)
{
    uint32_t distinct;
    int rc = distinct_rows(x, n, d, k, &distinct, e);
    if (rc || distinct == k)
        return rc;
    return err_set(
        e, XDC_EFORMAT,
        "%s: only %u of the %llu rows differ as they are clustered, too few for %u clusters; ask for "
        "--k %u or less",
        path, distinct, (unsigned long long)n, k, distinct);
}

bool cluster_whole(const struct tensor *t, uint64_t i, int64_t *out)
{
    switch (t->dtype) {
    case TENSOR_U8:
        *out = ((const uint8_t *)t->data)[i];
        return true;
    case TENSOR_I32:
        *out = ((const int32_t *)t->data)[i];
        return true;
    case TENSOR_U32:
        *out = ((const uint32_t *)t->data)[i];
        return true;
    case TENSOR_I64:
        *out = ((const int64_t *)t->data)[i];
        return true;
    default:
        return false;
    }
}

static int fill_truth(const char *path, const struct tensor *t, uint64_t n, uint32_t *out, struct err *e)
{
    char shape[200];
    uint64_t known = 0;
    int64_t v = 0;
    if (t->ndim < 1 || t->ndim > 2 || (t->ndim == 2 && t->shape[1] != 1))
        return err_set(e, XDC_EFORMAT, "%s has the shape %s, one class a row is needed: [rows]", path,
                       tensor_shape_text(t, shape, sizeof shape));
    if (t->shape[0] != n)
        return err_set(
            e, XDC_EFORMAT,
            "%s has %llu classes where there are %llu rows; give one for every row, -1 for unknown", path,
            (unsigned long long)t->shape[0], (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++) {
        if (!cluster_whole(t, i, &v))
            return err_set(
                e, XDC_EFORMAT,
                "%s is of dtype %s, whole numbers are needed; save it again with .astype(numpy.int64)", path,
                tensor_dtype_name(t->dtype));
        if (v >= LABEL_NONE)
            return err_set(e, XDC_EFORMAT, "%s: class %lld of row %llu is too large; number them from 0",
                           path, (long long)v, (unsigned long long)i);
        out[i] = v < 0 ? LABEL_NONE : (uint32_t)v;
        known += v >= 0;
    }
    return known ? 0 : err_set(e, XDC_EFORMAT, "%s has no class, all are negative; leave --truth out", path);
}

int cluster_read_truth(const char *path, uint64_t n, uint32_t **out, struct err *e)
{
    struct tensor t;
    void *data;
    *out = NULL;
    int rc = npy_read(path, &t, &data, e);
    if (rc == 0 && !(*out = malloc((n + 1) * sizeof **out)))
        rc = err_sys(e, ENOMEM, "%s", path);
    if (rc == 0)
        rc = fill_truth(path, &t, n, *out, e);
    if (rc) {
        free(*out);
        *out = NULL;
    }
    free(data);
    return rc;
}
