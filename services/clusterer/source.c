#include "services/clusterer/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/clip.h"
#include "services/clusterer/normalize.h"
#include "services/clusterer/rows.h"

static bool present(const struct feature_dump *dump, const uint32_t *encoders, uint32_t n, uint64_t row)
{
    for (uint32_t i = 0; i < n; i++)
        if (!feature_dump_has(dump, encoders[i], row))
            return false;
    return true;
}

static int list_clips(struct source *s, const struct feature_dump *dump, const uint32_t *encoders, uint32_t n,
                      const struct conf *c, struct err *e)
{
    uint64_t rows = feature_dump_info(dump)->rows, all = 0, at[2] = {0};
    uint64_t per_video = (uint64_t)c->data.clips_per_video;
    struct clip_holdout holdout;
    clip_holdout_init(&holdout, (uint64_t)c->run.seed, c->train.holdout, (uint64_t)c->train.holdout_min_clips,
                      rows / per_video, (uint32_t)per_video);
    for (uint64_t i = 0; i < rows; i++) {
        bool there = present(dump, encoders, n, i);
        all += there;
        s->held += there && clip_holdout_has(&holdout, i / per_video);
    }
    s->n = at[1] = all - s->held;
    s->clips = malloc((all + 1) * sizeof *s->clips);
    if (!s->clips)
        return err_sys(e, ENOMEM, "list %llu clips", (unsigned long long)all);
    for (uint64_t i = 0; i < rows; i++)
        if (present(dump, encoders, n, i))
            s->clips[at[clip_holdout_has(&holdout, i / per_video)]++] = i;
    return 0;
}

/* The rows of `n` clips, which ascend, of one encoder as x [n, dim], straight from the dump's pages. */
static int read_clips(struct feature_dump *dump, uint32_t encoder, const uint64_t *clips, uint64_t n,
                      float *x, const atomic_bool *stop, struct err *e)
{
    for (uint64_t at = 0; at < n;) {
        struct feature_block b;
        if (stop && atomic_load(stop))
            return err_set(e, XDC_ESTOPPED, "asked to stop while reading features");
        int rc = feature_dump_block(dump, encoder, clips[at], &b, e);
        if (rc < 0)
            return rc;
        size_t row = b.dim * feature_value_bytes(b.dtype);
        while (at < n && clips[at] < b.first + b.rows) {
            uint64_t from = clips[at] - b.first, rows = 1; /* neighbours at once */
            while (at + rows < n && clips[at + rows] == clips[at] + rows && from + rows < b.rows)
                rows++;
            feature_values_to_float(b.dtype, (const char *)b.values + from * row, x + at * b.dim,
                                    rows * b.dim);
            at += rows;
        }
    }
    return 0;
}

/* All rows of one encoder as x [n + held, dim], centred. */
static int read_rows(const struct source *s, struct feature_dump *dump, uint32_t encoder, float *x,
                     unsigned threads, const atomic_bool *stop, struct err *e)
{
    const struct feature_encoder *enc = &feature_dump_info(dump)->encoder[encoder];
    uint64_t all = s->n + s->held;
    int rc = read_clips(dump, encoder, s->clips, s->n, x, stop, e);
    if (rc == 0)
        rc = read_clips(dump, encoder, s->clips + s->n, s->held, x + s->n * enc->dim, stop, e);
    if (rc)
        return rc;
    /* before the mean of all rows spreads what is wrong with one */
    uint64_t bad = rows_first_bad(x, all, enc->dim, threads);
    if (bad != UINT64_MAX)
        return err_set(e, XDC_EFORMAT,
                       "the features of clip %llu by the encoder %s are not finite, or too large",
                       (unsigned long long)s->clips[bad], enc->name);
    return normalize_centre(x, all, s->n, enc->dim, threads, stop, e);
}

static int scale(const struct source *s, float *x, uint32_t d, const struct conf *c, const atomic_bool *stop,
                 struct err *e)
{
    unsigned threads = rows_threads(c->cluster.threads);
    if (c->cluster.scale == SCALE_L2)
        return normalize_l2(x, s->n + s->held, d, threads, stop, e);
    if (c->cluster.scale == SCALE_VARIANCE)
        return normalize_variance(x, s->n + s->held, s->n, d, threads, stop, e);
    return 0;
}

/* One encoder's rows, scaled, into the columns from `column` on. */
static int read_part(struct source *s, struct feature_dump *dump, uint32_t encoder, uint32_t column,
                     const struct conf *c, const atomic_bool *stop, struct err *e)
{
    uint32_t dim = feature_dump_info(dump)->encoder[encoder].dim;
    uint64_t all = s->n + s->held;
    struct row_store part;
    int rc = row_store_open(&part, all, dim, row_store_cap(c->cluster.memory_mib), c->run.dir,
                            (uint64_t)c->limits.disk_reserve_mib, e);
    if (rc == 0)
        rc = read_rows(s, dump, encoder, part.x, rows_threads(c->cluster.threads), stop, e);
    if (rc == 0)
        rc = scale(s, part.x, dim, c, stop, e);
    for (uint64_t i = 0; rc == 0 && i < all; i++)
        memcpy(s->x + i * s->d + column, part.x + i * dim, dim * sizeof *part.x);
    row_store_close(&part);
    return rc;
}

int source_read(struct source *s, struct feature_dump *dump, const uint32_t *encoders, uint32_t n_encoders,
                const struct conf *c, const atomic_bool *stop, struct err *e)
{
    const struct feature_info *info = feature_dump_info(dump);
    *s = (struct source){.split = info->encoder[encoders[0]].dim};
    for (uint32_t i = 0; i < n_encoders; i++)
        s->d += info->encoder[encoders[i]].dim;
    int rc = list_clips(s, dump, encoders, n_encoders, c, e);
    uint64_t all = s->n + s->held;
    if (rc == 0)
        rc = row_store_open(&s->store, all, s->d, row_store_cap(c->cluster.memory_mib), c->run.dir,
                            (uint64_t)c->limits.disk_reserve_mib, e);
    s->x = s->store.x;
    if (rc == 0 && n_encoders == 1)
        rc = read_rows(s, dump, encoders[0], s->x, rows_threads(c->cluster.threads), stop, e);
    uint32_t column = 0;
    for (uint32_t i = 0; rc == 0 && n_encoders > 1 && i < n_encoders; i++) {
        rc = read_part(s, dump, encoders[i], column, c, stop, e);
        column += info->encoder[encoders[i]].dim;
    }
    if (rc)
        source_close(s);
    return rc;
}

int source_normalize(struct source *s, const struct conf *c, const atomic_bool *stop, struct err *e)
{
    unsigned threads = rows_threads(c->cluster.threads);
    int rc = 0;
    if (c->cluster.normalize == NORMALIZE_PCA_WHITEN_L2)
        rc = normalize_pca_whiten(s->x, s->n + s->held, s->n, s->d, (uint32_t)c->cluster.pca_dim, threads,
                                  stop, &s->d, e);
    if (rc == 0 && c->cluster.normalize != NORMALIZE_NONE)
        rc = normalize_l2(s->x, s->n + s->held, s->d, threads, stop, e);
    s->store.d = s->d;
    return rc;
}

void source_close(struct source *s)
{
    row_store_close(&s->store);
    free(s->clips);
    *s = (struct source){0};
}
