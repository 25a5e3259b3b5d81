/* The file of a transform: safetensors, f64 first so that all of it is aligned. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/fsutil.h"
#include "lib/tensor.h"
#include "services/clusterer/transform.h"

#define FORMAT "xdc-norm-1"
#define TENSORS_MAX (2 * TRANSFORM_PARTS_MAX + 4)

/* In the order of the enums of lib/conf.h. */
static const char *const normalizations[] = {"none", "l2", "pca-whiten-l2"};
static const char *const scales[] = {"none", "l2", "variance"};

int transform_path(const char *run_dir, uint32_t round, const char *source, char out[PATH_MAX], struct err *e)
{
    return fs_path(out, e, "%s/labels/round-%04u.%s.norm.safetensors", run_dir, round, source);
}

static void PRINTF_LIKE(6, 7) add(struct tensor *t, enum tensor_dtype dtype, uint64_t rows, uint64_t columns,
                                  const void *data, const char *name, ...)
{
    va_list ap;
    *t = (struct tensor){.dtype = dtype,
                         .ndim = rows ? 2 : 1,
                         .shape = {rows ? rows : columns, rows ? columns : 0},
                         .data = data};
    va_start(ap, name);
    vsnprintf(t->name, sizeof t->name, name, ap);
    va_end(ap);
}

int transform_write(const char *path, const struct transform *t, const struct feature_info *dump,
                    const char *source, struct err *e)
{
    struct tensor tensors[TENSORS_MAX];
    size_t n = 0;
    char text[4][32], encoders[TRANSFORM_PARTS_MAX * 33] = "";
    for (uint32_t i = 0; i < t->parts; i++) {
        const struct transform_part *p = &t->part[i];
        size_t used = strlen(encoders);
        snprintf(encoders + used, sizeof encoders - used, "%s%s", used ? "," : "", p->encoder);
        add(&tensors[n++], TENSOR_F64, 0, p->dim, p->mean, "%s.mean", p->encoder);
        add(&tensors[n++], TENSOR_F64, 0, 1, &p->factor, "%s.factor", p->encoder);
    }
    bool whitens = t->normalize == NORMALIZE_PCA_WHITEN_L2;
    if (whitens) {
        add(&tensors[n++], TENSOR_F64, 0, t->d, t->mean, "whiten.mean");
        add(&tensors[n++], TENSOR_F64, 0, t->p, t->by.scales, "whiten.scales");
        add(&tensors[n++], TENSOR_F32, t->p, t->d, t->by.vectors, "whiten.vectors");
    }
    add(&tensors[n++], TENSOR_F32, t->k, t->p, t->centroids, "centroids");
    snprintf(text[0], sizeof text[0], "%016" PRIx64, dump->run);
    snprintf(text[1], sizeof text[1], "%016" PRIx64, dump->manifest);
    snprintf(text[2], sizeof text[2], "%016" PRIx64, dump->hash);
    snprintf(text[3], sizeof text[3], "%u", dump->round);
    const char *const metadata[][2] = {
        {"format", FORMAT},
        {"run", text[0]},
        {"manifest", text[1]},
        {"features", text[2]},
        {"round", text[3]},
        {"source", source},
        {"encoders", encoders},
        {"normalize", normalizations[t->normalize]},
        {"scale", scales[t->part[0].scale]},
    };
    return safetensors_write(path, tensors, n, metadata, sizeof metadata / sizeof metadata[0], e);
}

/* Index of a metadata value among words, or -1. */
static int word_of(const struct safetensors *s, const char *key, const char *const words[3])
{
    const char *v = safetensors_metadata(s, key);
    for (int i = 0; v && i < 3; i++)
        if (strcmp(v, words[i]) == 0)
            return i;
    return -1;
}

/* A copy of a tensor of that dtype with `dims` dimensions; with *size not 0 the last one must be that, and
 * becomes it. NULL with *e set where there is none. */
static void *take(const struct safetensors *s, const char *name, enum tensor_dtype dtype, uint32_t dims,
                  uint64_t *size, uint64_t *rows, struct err *e)
{
    const struct tensor *t = safetensors_find(s, name);
    if (!t || t->dtype != dtype || t->ndim != dims || t->shape[dims - 1] == 0 ||
        t->shape[dims - 1] > INT32_MAX || t->shape[0] == 0 || t->shape[0] > INT32_MAX ||
        (*size && t->shape[dims - 1] != *size)) {
        err_set(e, XDC_EFORMAT, "no tensor %s of the right dtype and shape", name);
        return NULL;
    }
    uint64_t bytes = tensor_count(t) * tensor_dtype_size(dtype);
    void *copy = malloc(bytes);
    if (!copy) {
        err_sys(e, ENOMEM, "%s", name);
        return NULL;
    }
    *size = t->shape[dims - 1];
    if (rows)
        *rows = t->shape[0];
    return memcpy(copy, t->data, bytes);
}

static int read_part(const struct safetensors *s, struct transform_part *p, struct err *e)
{
    char name[64];
    uint64_t dim = 0, one = 1;
    snprintf(name, sizeof name, "%s.mean", p->encoder);
    p->mean = take(s, name, TENSOR_F64, 1, &dim, NULL, e);
    p->dim = (uint32_t)dim;
    snprintf(name, sizeof name, "%s.factor", p->encoder);
    double *factor = p->mean ? take(s, name, TENSOR_F64, 1, &one, NULL, e) : NULL;
    if (!factor)
        return e->code;
    p->factor = *factor;
    free(factor);
    return 0;
}

static int read_whitening(const struct safetensors *s, struct transform *t, struct err *e)
{
    uint64_t d = t->d, p = 0, rows = 0;
    t->mean = take(s, "whiten.mean", TENSOR_F64, 1, &d, NULL, e);
    if (t->mean)
        t->by.scales = take(s, "whiten.scales", TENSOR_F64, 1, &p, NULL, e);
    if (t->by.scales)
        t->by.vectors = take(s, "whiten.vectors", TENSOR_F32, 2, &d, &rows, e);
    if (t->by.vectors && rows != p)
        return err_set(e, XDC_EFORMAT, "%" PRIu64 " directions with %" PRIu64 " scales", rows, p);
    t->p = t->by.p = (uint32_t)p;
    t->by.d = t->d;
    return t->by.vectors ? 0 : e->code;
}

/* "video,audio" into the parts' names. */
static int split_names(const char *names, struct transform *t, struct err *e)
{
    for (const char *at = names; at && *at;) {
        size_t n = strcspn(at, ",");
        if (t->parts == TRANSFORM_PARTS_MAX || n == 0 || n >= sizeof t->part[0].encoder)
            break;
        memcpy(t->part[t->parts++].encoder, at, n);
        at += n + (at[n] == ',');
        if (!*at)
            return 0;
    }
    return err_set(e, XDC_EFORMAT, "it does not name one or two encoders");
}

static int parse(const struct safetensors *s, struct transform *t, uint64_t *out_dump, struct err *e)
{
    const char *format = safetensors_metadata(s, "format"), *dump = safetensors_metadata(s, "features");
    int normalize = word_of(s, "normalize", normalizations), scale = word_of(s, "scale", scales);
    char *end = NULL;
    if (!format || strcmp(format, FORMAT) != 0 || !dump || normalize < 0 || scale < 0)
        return err_set(e, XDC_EFORMAT, "its metadata is not of the format " FORMAT);
    *out_dump = strtoull(dump, &end, 16);
    if (!*dump || *end)
        return err_set(e, XDC_EFORMAT, "features is no hash");
    t->normalize = (enum conf_normalize)normalize;
    int rc = split_names(safetensors_metadata(s, "encoders"), t, e);
    for (uint32_t i = 0; rc == 0 && i < t->parts; i++) {
        t->part[i].scale = (enum conf_scale)scale;
        rc = read_part(s, &t->part[i], e);
        t->d += t->part[i].dim;
    }
    t->p = t->d;
    if (rc == 0 && t->normalize == NORMALIZE_PCA_WHITEN_L2)
        rc = read_whitening(s, t, e);
    uint64_t columns = t->p, k = 0;
    if (rc == 0 && !(t->centroids = take(s, "centroids", TENSOR_F32, 2, &columns, &k, e)))
        rc = e->code;
    t->k = (uint32_t)k;
    return rc;
}

int transform_read(const char *path, struct transform *out, uint64_t *out_dump, struct err *e)
{
    struct safetensors *s;
    struct err own;
    struct err *err = e ? e : &own;
    *out = (struct transform){0};
    int rc = safetensors_open(path, &s, err);
    if (rc)
        return rc;
    rc = parse(s, out, out_dump, err);
    safetensors_close(s);
    if (rc) {
        err_wrap(err, "%s", path);
        transform_close(out);
    }
    return rc;
}
