#include "services/clusterer/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
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
                      struct err *e)
{
    uint64_t rows = feature_dump_info(dump)->rows;
    for (uint64_t i = 0; i < rows; i++)
        s->n += present(dump, encoders, n, i);
    s->clips = malloc((s->n + 1) * sizeof *s->clips);
    if (!s->clips)
        return err_sys(e, ENOMEM, "list %llu clips", (unsigned long long)s->n);
    uint64_t at = 0;
    for (uint64_t i = 0; i < rows; i++)
        if (present(dump, encoders, n, i))
            s->clips[at++] = i;
    return 0;
}

/* The listed rows of one encoder as x [n, dim]. */
static int read_rows(const struct source *s, struct feature_dump *dump, uint32_t encoder, float *x,
                     unsigned threads, const atomic_bool *stop, struct err *e)
{
    const struct feature_info *info = feature_dump_info(dump);
    uint32_t dim = info->encoder[encoder].dim;
    float *block = malloc((size_t)FEATURE_BLOCK_ROWS * dim * sizeof *block);
    int rc = block ? 0 : err_sys(e, ENOMEM, "read features");
    uint64_t at = 0;
    for (uint64_t first = 0; rc == 0 && at < s->n; first += FEATURE_BLOCK_ROWS) {
        uint64_t rows = info->rows - first < FEATURE_BLOCK_ROWS ? info->rows - first : FEATURE_BLOCK_ROWS;
        if (s->clips[at] >= first + rows)
            continue;
        if (stop && atomic_load(stop))
            rc = err_set(e, XDC_ESTOPPED, "asked to stop while reading features");
        else
            rc = feature_dump_read(dump, encoder, first, rows, block, e);
        for (; rc == 0 && at < s->n && s->clips[at] < first + rows; at++)
            memcpy(x + at * dim, block + (s->clips[at] - first) * dim, dim * sizeof *x);
    }
    free(block);
    if (rc)
        return rc;
    /* before the mean of all rows spreads what is wrong with one */
    at = rows_first_bad(x, s->n, dim, threads);
    if (at != UINT64_MAX)
        return err_set(e, XDC_EFORMAT,
                       "the features of clip %llu by the encoder %s are not finite, or too large",
                       (unsigned long long)s->clips[at], info->encoder[encoder].name);
    return 0;
}

static int scale(float *x, uint64_t n, uint32_t d, const struct conf *c, const atomic_bool *stop,
                 struct err *e)
{
    unsigned threads = rows_threads(c->cluster.threads);
    if (c->cluster.scale == SCALE_L2)
        return normalize_l2(x, n, d, threads, stop, e);
    if (c->cluster.scale == SCALE_VARIANCE)
        return normalize_variance(x, n, d, threads, stop, e);
    return 0;
}

/* One encoder's rows, scaled, into the columns from `column` on. */
static int read_part(struct source *s, struct feature_dump *dump, uint32_t encoder, uint32_t column,
                     const struct conf *c, const atomic_bool *stop, struct err *e)
{
    uint32_t dim = feature_dump_info(dump)->encoder[encoder].dim;
    float *part = malloc((s->n * dim + 1) * sizeof *part);
    int rc = part ? 0 : err_sys(e, ENOMEM, "read %llu features", (unsigned long long)s->n);
    if (rc == 0)
        rc = read_rows(s, dump, encoder, part, rows_threads(c->cluster.threads), stop, e);
    if (rc == 0)
        rc = normalize_centre(part, s->n, dim, rows_threads(c->cluster.threads), stop, e);
    if (rc == 0)
        rc = scale(part, s->n, dim, c, stop, e);
    for (uint64_t i = 0; rc == 0 && i < s->n; i++)
        memcpy(s->x + i * s->d + column, part + i * dim, dim * sizeof *part);
    free(part);
    return rc;
}

int source_read(struct source *s, struct feature_dump *dump, const uint32_t *encoders, uint32_t n_encoders,
                const struct conf *c, const atomic_bool *stop, struct err *e)
{
    const struct feature_info *info = feature_dump_info(dump);
    *s = (struct source){.split = info->encoder[encoders[0]].dim};
    for (uint32_t i = 0; i < n_encoders; i++)
        s->d += info->encoder[encoders[i]].dim;
    int rc = list_clips(s, dump, encoders, n_encoders, e);
    if (rc == 0 && !(s->x = malloc((s->n * s->d + 1) * sizeof *s->x)))
        rc = err_sys(e, ENOMEM, "read %llu features", (unsigned long long)s->n);
    if (rc == 0 && n_encoders == 1) {
        rc = read_rows(s, dump, encoders[0], s->x, rows_threads(c->cluster.threads), stop, e);
        if (rc == 0)
            rc = normalize_centre(s->x, s->n, s->d, rows_threads(c->cluster.threads), stop, e);
    }
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
        rc = normalize_pca_whiten(s->x, s->n, s->d, (uint32_t)c->cluster.pca_dim, threads, stop, &s->d, e);
    if (rc == 0 && c->cluster.normalize != NORMALIZE_NONE)
        rc = normalize_l2(s->x, s->n, s->d, threads, stop, e);
    return rc;
}

void source_close(struct source *s)
{
    free(s->x);
    free(s->clips);
    *s = (struct source){0};
}
