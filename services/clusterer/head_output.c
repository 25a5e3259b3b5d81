#include "services/clusterer/head_output.h"

#include <errno.h>
#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NORM_EPS 1e-5

struct reading {
    const struct safetensors *file;
    const char *path, *encoder;
    unsigned number;
};

static void tensor_name(const struct reading *r, const char *part, char out[256])
{
    snprintf(out, 256, "%s.heads.%u.%s", r->encoder, r->number, part);
}

static bool has_shape(const struct tensor *t, uint32_t rows, uint32_t columns)
{
    return t->ndim == (columns ? 2 : 1) && t->shape[0] == rows && (!columns || t->shape[1] == columns);
}

static int check(const struct reading *r, const struct tensor *t, uint32_t rows, uint32_t columns,
                 struct err *e)
{
    if (t->dtype != TENSOR_F32)
        return err_set(e, XDC_EFORMAT, "%s: the tensor %s is not f32", r->path, t->name);
    if (has_shape(t, rows, columns))
        return 0;
    char want[64], is[128];
    size_t at = 0;
    snprintf(want, sizeof want, columns ? "[%u, %u]" : "[%u]", rows, columns);
    for (uint32_t i = 0; i < t->ndim && at < sizeof is; i++)
        at += (size_t)snprintf(is + at, sizeof is - at, "%s%llu", i ? ", " : "",
                               (unsigned long long)t->shape[i]);
    return err_set(e, XDC_EMISMATCH,
                   "%s: the tensor %s has the shape [%s], the dump's features and cluster.k make it %s",
                   r->path, t->name, t->ndim ? is : "", want);
}

/* A copy of a tensor; columns 0: it has one dimension. */
static int read_part(const struct reading *r, const char *part, uint32_t rows, uint32_t columns, float **out,
                     struct err *e)
{
    char name[256];
    tensor_name(r, part, name);
    const struct tensor *t = safetensors_find(r->file, name);
    if (!t)
        return err_set(e, XDC_EFORMAT, "%s has no tensor %s", r->path, name);
    int rc = check(r, t, rows, columns, e);
    if (rc)
        return rc;
    uint64_t n = tensor_count(t);
    *out = malloc(n * sizeof **out);
    if (!*out)
        return err_sys(e, ENOMEM, "%s of %s", name, r->path);
    memcpy(*out, t->data, n * sizeof **out);
    for (uint64_t i = 0; i < n; i++)
        if (!isfinite((*out)[i]))
            return err_set(e, XDC_EFORMAT, "%s: the tensor %s holds a value that is not finite", r->path,
                           name);
    return 0;
}

/* y = scale x + shift is what batch-norm does by its running statistics. */
static int read_norm(const struct reading *r, uint32_t dim, struct head *h, struct err *e)
{
    float *mean = NULL, *variance = NULL;
    int rc = read_part(r, "2.weight", dim, 0, &h->scale, e);
    if (rc == 0)
        rc = read_part(r, "2.bias", dim, 0, &h->shift, e);
    if (rc == 0)
        rc = read_part(r, "2.running_mean", dim, 0, &mean, e);
    if (rc == 0)
        rc = read_part(r, "2.running_var", dim, 0, &variance, e);
    for (uint32_t j = 0; rc == 0 && j < dim; j++) {
        if (variance[j] < 0)
            rc = err_set(e, XDC_EFORMAT, "%s: a variance of %s.heads.%u.2 is negative", r->path, r->encoder,
                         r->number);
        double scale = (double)h->scale[j] / sqrt((double)variance[j] + NORM_EPS);
        h->scale[j] = (float)scale;
        h->shift[j] = (float)((double)h->shift[j] - (double)mean[j] * scale);
    }
    free(mean);
    free(variance);
    return rc;
}

int head_load(const struct safetensors *file, const char *path, const char *encoder, unsigned number,
              uint32_t dim, uint32_t k, struct head *out, struct err *e)
{
    struct reading r = {file, path, encoder, number};
    char name[256];
    *out = (struct head){.dim = dim, .k = k};
    tensor_name(&r, "5.weight", name);
    bool mlp = safetensors_find(file, name) != NULL;
    int rc = mlp ? read_part(&r, "1.weight", dim, dim, &out->hidden, e) : 0;
    if (rc == 0 && mlp)
        rc = read_norm(&r, dim, out, e);
    if (rc == 0)
        rc = read_part(&r, mlp ? "5.weight" : "weight", k, dim, &out->weight, e);
    if (rc == 0)
        rc = read_part(&r, mlp ? "5.bias" : "bias", k, 0, &out->bias, e);
    if (rc)
        head_close(out);
    return rc;
}

void head_close(struct head *h)
{
    free(h->hidden);
    free(h->scale);
    free(h->shift);
    free(h->weight);
    free(h->bias);
    *h = (struct head){0};
}

int head_permute(struct head *h, const uint32_t *order, struct err *e)
{
    float *weight = malloc((size_t)h->k * h->dim * sizeof *weight), *bias = malloc(h->k * sizeof *bias);
    if (!weight || !bias) {
        free(weight);
        free(bias);
        return err_sys(e, ENOMEM, "permute %u outputs", h->k);
    }
    for (uint32_t j = 0; j < h->k; j++) {
        memcpy(weight + (size_t)j * h->dim, h->weight + (size_t)order[j] * h->dim, h->dim * sizeof *weight);
        bias[j] = h->bias[order[j]];
    }
    free(h->weight);
    free(h->bias);
    h->weight = weight;
    h->bias = bias;
    return 0;
}

/* out [n, rows] = x [n, dim] times weight [rows, dim] transposed */
static int product(const float *x, uint32_t n, uint32_t dim, const float *weight, uint32_t rows, float *out)
{
    return dnnl_sgemm('N', 'T', n, rows, dim, 1.0f, x, dim, weight, dim, 0.0f, out, rows) == dnnl_success
               ? 0
               : -ENOMEM;
}

int head_forward(const struct head *h, const float *x, uint32_t n, float *hidden, float *out)
{
    if (h->hidden) {
        if (product(x, n, h->dim, h->hidden, h->dim, hidden))
            return -ENOMEM;
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < h->dim; j++) {
                float *y = hidden + (size_t)i * h->dim + j;
                float v = *y * h->scale[j] + h->shift[j];
                *y = v > 0 ? v : 0;
            }
        x = hidden;
    }
    if (product(x, n, h->dim, h->weight, h->k, out))
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < h->k; j++)
            out[(size_t)i * h->k + j] += h->bias[j];
    return 0;
}
