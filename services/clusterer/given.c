#include "services/clusterer/given.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/half.h"
#include "lib/label_table.h"

#define READ_ELEMENTS 65536

bool given_labels(const struct conf *c, uint32_t round)
{
    return round == 0 && c->init.labels[0];
}

bool given_features(const struct conf *c, uint32_t round)
{
    return round == 0 && c->init.features[0];
}

static int too_large(const struct conf *c, long long label, uint64_t clip, struct err *e)
{
    return err_set(e, XDC_EMISMATCH,
                   "init.labels: %s: label %lld of clip %llu is not below cluster.k %lld; number the labels "
                   "from 0, or raise cluster.k",
                   c->init.labels, label, (unsigned long long)clip, (long long)c->cluster.k);
}

/* The column of a label table that serves the source. */
static int find_column(const struct conf *c, const struct feature_info *dump, const struct label_table *t,
                       const char *name, uint32_t *out, struct err *e)
{
    const struct label_info *i = label_table_info(t);
    int column = label_table_source(t, name);
    if (i->manifest != dump->manifest)
        return err_set(e, XDC_EMISMATCH,
                       "init.labels: %s is of manifest %016llx, this run of %016llx; take a table that was "
                       "made with this manifest",
                       c->init.labels, (unsigned long long)i->manifest, (unsigned long long)dump->manifest);
    if (i->clips != dump->rows)
        return err_set(e, XDC_EMISMATCH,
                       "init.labels: %s has labels of %llu clips, this run has %llu; take one with the same "
                       "data.clips_per_video",
                       c->init.labels, (unsigned long long)i->clips, (unsigned long long)dump->rows);
    if (column < 0 && i->sources > 1)
        return err_set(e, XDC_EMISMATCH,
                       "init.labels: %s has %u sources, none of them called %s, which the method asks for; "
                       "take a table of the same method, or of one source, which serves all",
                       c->init.labels, i->sources, name);
    *out = column < 0 ? 0 : (uint32_t)column;
    return 0;
}

static int read_table(const struct conf *c, const struct feature_info *dump, const char *name,
                      uint32_t *labels, struct err *e)
{
    struct label_table *t = NULL;
    uint32_t column = 0;
    int rc = label_table_open(c->init.labels, &t, e);
    if (rc)
        err_wrap(e, "init.labels");
    else
        rc = find_column(c, dump, t, name, &column, e);
    for (uint64_t i = 0; rc == 0 && i < dump->rows; i++) {
        labels[i] = label_table_get(t, column, i);
        if (labels[i] != LABEL_NONE && labels[i] >= (uint64_t)c->cluster.k)
            rc = too_large(c, labels[i], i, e);
    }
    label_table_close(t);
    return rc;
}

/* Shape and dtype of an array of labels, which is open. */
static int check_array(const struct npy_file *f, const struct feature_info *dump, uint32_t sources,
                       struct err *e)
{
    const struct tensor *t = &f->t;
    char shape[200];
    uint64_t rows = t->ndim == 2 ? t->shape[0] : 1, clips = t->ndim ? t->shape[t->ndim - 1] : 0;
    if (t->dtype != TENSOR_U8 && t->dtype != TENSOR_I32 && t->dtype != TENSOR_U32 && t->dtype != TENSOR_I64)
        return err_set(e, XDC_EFORMAT,
                       "init.labels: %s is of dtype %s, whole numbers are needed; save it again with "
                       ".astype(numpy.int64)",
                       f->path, tensor_dtype_name(t->dtype));
    if (t->ndim < 1 || t->ndim > 2)
        return err_set(e, XDC_EFORMAT,
                       "init.labels: %s has the shape %s; [clips] or [sources, clips] is needed", f->path,
                       tensor_shape_text(t, shape, sizeof shape));
    if (rows != 1 && rows != sources)
        return err_set(
            e, XDC_EMISMATCH,
            "init.labels: %s has the shape %s; the method has %u source%s: give one row for each, or "
            "one for all",
            f->path, tensor_shape_text(t, shape, sizeof shape), sources, sources > 1 ? "s" : "");
    if (clips != dump->rows)
        return err_set(e, XDC_EMISMATCH,
                       "init.labels: %s has the shape %s, this run has %llu clips; give a label for each, -1 "
                       "for none",
                       f->path, tensor_shape_text(t, shape, sizeof shape), (unsigned long long)dump->rows);
    return 0;
}

/* The i-th of integers of some dtype; what no int64 holds is none that could be right either. */
static int64_t whole(enum tensor_dtype d, const void *data, uint64_t i)
{
    if (d == TENSOR_U8)
        return ((const uint8_t *)data)[i];
    if (d == TENSOR_I32)
        return ((const int32_t *)data)[i];
    return d == TENSOR_U32 ? (int64_t)((const uint32_t *)data)[i] : ((const int64_t *)data)[i];
}

static int read_array(const struct conf *c, const struct feature_info *dump, uint32_t s, uint32_t sources,
                      uint32_t *labels, struct err *e)
{
    struct npy_file f;
    int rc = npy_open(c->init.labels, &f, e);
    if (rc) {
        err_wrap(e, "init.labels");
        return rc;
    }
    int64_t *part = malloc(READ_ELEMENTS * sizeof *part);
    rc = part ? check_array(&f, dump, sources, e) : err_sys(e, ENOMEM, "labels of %s", f.path);
    uint64_t row = rc == 0 && f.t.ndim == 2 && f.t.shape[0] > 1 ? s : 0, n;
    for (uint64_t at = 0; rc == 0 && at < dump->rows; at += n) {
        n = dump->rows - at < READ_ELEMENTS ? dump->rows - at : READ_ELEMENTS;
        rc = npy_read_at(&f, row * dump->rows + at, n, part, e);
        for (uint64_t i = 0; rc == 0 && i < n; i++) {
            int64_t v = whole(f.t.dtype, part, i);
            labels[at + i] = v < 0 ? LABEL_NONE : (uint32_t)v;
            if (v >= c->cluster.k)
                rc = too_large(c, v, at + i, e);
        }
    }
    free(part);
    npy_close(&f);
    return rc;
}

static bool has_features(const struct feature_dump *dump, const struct given_source *of, uint64_t clip)
{
    for (uint32_t i = 0; i < of->n_encoders; i++)
        if (!feature_dump_has(dump, of->encoders[i], clip))
            return false;
    return true;
}

int given_labels_read(const struct conf *c, const struct feature_dump *dump, const struct given_source *of,
                      uint32_t *labels, uint64_t *out_n, struct err *e)
{
    const struct feature_info *info = feature_dump_info(dump);
    size_t n = strlen(c->init.labels);
    bool table = n > 5 && strcmp(c->init.labels + n - 5, ".xdcl") == 0;
    int rc =
        table ? read_table(c, info, of->name, labels, e) : read_array(c, info, of->s, of->sources, labels, e);
    *out_n = 0;
    for (uint64_t i = 0; rc == 0 && i < info->rows; i++) {
        if (!has_features(dump, of, i))
            labels[i] = LABEL_NONE;
        *out_n += labels[i] != LABEL_NONE;
    }
    if (rc == 0 && *out_n == 0)
        rc = err_set(e, XDC_EMISMATCH, "init.labels: %s has no label of any clip with features",
                     c->init.labels);
    return rc;
}

int given_features_open(const struct conf *c, const struct feature_info *dump, struct npy_file *out,
                        struct err *e)
{
    const struct tensor *t = &out->t;
    char shape[200];
    int rc = npy_open(c->init.features, out, e);
    if (rc) {
        err_wrap(e, "init.features");
        return rc;
    }
    if (t->dtype != TENSOR_F32 && t->dtype != TENSOR_F16)
        rc = err_set(e, XDC_EFORMAT,
                     "init.features: %s is of dtype %s, f32 or f16 is needed; save it again with "
                     ".astype(numpy.float32)",
                     out->path, tensor_dtype_name(t->dtype));
    else if (t->ndim != 2 || t->shape[1] == 0 || t->shape[1] > INT32_MAX)
        rc = err_set(e, XDC_EFORMAT, "init.features: %s has the shape %s; [clips, dim] is needed", out->path,
                     tensor_shape_text(t, shape, sizeof shape));
    else if (t->shape[0] != dump->rows)
        rc = err_set(e, XDC_EMISMATCH,
                     "init.features: %s has the shape %s, this run has %llu clips; give a row for each",
                     out->path, tensor_shape_text(t, shape, sizeof shape), (unsigned long long)dump->rows);
    if (rc)
        npy_close(out);
    return rc;
}

int given_features_read(const struct npy_file *f, uint64_t first, uint64_t n, float *out, struct err *e)
{
    uint64_t d = f->t.shape[1], elements = n * d;
    if (f->t.dtype == TENSOR_F32)
        return npy_read_at(f, first * d, elements, out, e);
    uint16_t *half = malloc(elements * sizeof *half);
    int rc = half ? npy_read_at(f, first * d, elements, half, e) : err_sys(e, ENOMEM, "read %s", f->path);
    if (rc == 0)
        half_to_float(half, out, elements);
    free(half);
    return rc;
}
