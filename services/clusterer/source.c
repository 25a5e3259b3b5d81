#include "services/clusterer/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/clip.h"
#include "services/clusterer/distinct.h"
#include "services/clusterer/given.h"
#include "services/clusterer/rows.h"

/* Where rows are read from. */
struct origin {
    struct feature_dump *dump;
    uint32_t encoder;             /* of the dump, */
    const struct npy_file *given; /* unless this is there */
    uint32_t dim;
};

static int bad_row(const struct origin *o, uint64_t clip, struct err *e)
{
    if (o->given)
        return err_set(
            e, XDC_EFORMAT,
            "init.features: row %llu of %s, which is clip %llu's, is not finite, or too large; give "
            "every clip with features a row of numbers",
            (unsigned long long)clip, o->given->path, (unsigned long long)clip);
    return err_set(e, XDC_EFORMAT, "the features of clip %llu by the encoder %s are not finite, or too large",
                   (unsigned long long)clip, feature_dump_info(o->dump)->encoder[o->encoder].name);
}

int source_find_encoder(const struct feature_dump *dump, const char *name, uint32_t *out, struct err *e)
{
    const struct feature_info *info = feature_dump_info(dump);
    for (*out = 0; *out < info->encoders; (*out)++)
        if (strcmp(info->encoder[*out].name, name) == 0)
            return 0;
    return err_set(e, XDC_EMISMATCH, "the dump of round %u has no features of the encoder %s", info->round,
                   name);
}

static bool present(const struct feature_dump *dump, const uint32_t *encoders, uint32_t n, uint64_t row)
{
    for (uint32_t i = 0; i < n; i++)
        if (!feature_dump_has(dump, encoders[i], row))
            return false;
    return true;
}

int source_list_clips(struct source *s, const struct feature_dump *dump, const uint32_t *encoders, uint32_t n,
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

/* The rows of `n` clips, which ascend, as x [n, dim], straight from the dump's pages. */
static int read_dump(const struct origin *o, const uint64_t *clips, uint64_t n, float *x,
                     const atomic_bool *stop, struct err *e)
{
    for (uint64_t at = 0; at < n;) {
        struct feature_block b;
        if (stop && atomic_load(stop))
            return err_set(e, XDC_ESTOPPED, "asked to stop while reading features");
        int rc = feature_dump_block(o->dump, o->encoder, clips[at], &b, e);
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

/* The same of given ones. */
static int read_given_rows(const struct origin *o, const uint64_t *clips, uint64_t n, float *x,
                           const atomic_bool *stop, struct err *e)
{
    for (uint64_t at = 0; at < n;) {
        uint64_t rows = 1; /* neighbours at once */
        while (at + rows < n && clips[at + rows] == clips[at] + rows && rows < FEATURE_BLOCK_ROWS)
            rows++;
        if (stop && atomic_load(stop))
            return err_set(e, XDC_ESTOPPED, "asked to stop while reading features");
        int rc = given_features_read(o->given, clips[at], rows, x + at * o->dim, e);
        if (rc < 0)
            return rc;
        at += rows;
    }
    return 0;
}

static int read_clips(const struct origin *o, const uint64_t *clips, uint64_t n, float *x,
                      const atomic_bool *stop, struct err *e)
{
    return o->given ? read_given_rows(o, clips, n, x, stop, e) : read_dump(o, clips, n, x, stop, e);
}

int source_read_clips(struct feature_dump *dump, uint32_t encoder, const uint64_t *clips, uint64_t n,
                      float *x, const atomic_bool *stop, struct err *e)
{
    struct origin o = {
        .dump = dump, .encoder = encoder, .dim = feature_dump_info(dump)->encoder[encoder].dim};
    return read_clips(&o, clips, n, x, stop, e);
}

static struct transform_part *new_part(struct source *s, const struct origin *o, enum conf_scale scale)
{
    struct transform_part *part = &s->t.part[s->t.parts++];
    *part = (struct transform_part){.dim = o->dim, .scale = scale, .factor = 1};
    snprintf(part->encoder, sizeof part->encoder, "%s",
             o->given ? TRANSFORM_GIVEN : feature_dump_info(o->dump)->encoder[o->encoder].name);
    return part;
}

/* All rows as x [n + held, dim], sent through the next part of s->t. */
static int read_rows(struct source *s, const struct origin *o, float *x, enum conf_scale scale,
                     unsigned threads, const atomic_bool *stop, struct err *e)
{
    uint64_t all = s->n + s->held;
    struct transform_part *part = new_part(s, o, scale);
    int rc = read_clips(o, s->clips, s->n, x, stop, e);
    if (rc == 0)
        rc = read_clips(o, s->clips + s->n, s->held, x + s->n * o->dim, stop, e);
    if (rc)
        return rc;
    /* before the mean of all rows spreads what is wrong with one */
    uint64_t bad = rows_first_bad(x, all, o->dim, threads);
    return bad != UINT64_MAX ? bad_row(o, s->clips[bad], e)
                             : transform_part_fit(part, x, all, s->n, threads, stop, e);
}

/* One encoder's rows, scaled, into the columns from `column` on. */
static int read_part(struct source *s, struct feature_dump *dump, uint32_t encoder, uint32_t column,
                     const struct conf *c, const atomic_bool *stop, struct err *e)
{
    uint32_t dim = feature_dump_info(dump)->encoder[encoder].dim;
    struct origin o = {.dump = dump, .encoder = encoder, .dim = dim};
    uint64_t all = s->n + s->held;
    struct row_store part;
    int rc = row_store_open(&part, all, dim, row_store_cap(c->cluster.memory_mib), c->run.dir,
                            (uint64_t)c->limits.disk_reserve_mib, e);
    if (rc == 0)
        rc = read_rows(s, &o, part.x, (enum conf_scale)c->cluster.scale, rows_threads(c->cluster.threads),
                       stop, e);
    for (uint64_t i = 0; rc == 0 && i < all; i++)
        memcpy(s->x + i * s->d + column, part.x + i * dim, dim * sizeof *part.x);
    row_store_close(&part);
    return rc;
}

/* Rows of one encoder that stay where they are: what is learnt of them, and those of the hold-out. */
static int open_stream(struct source *s, const struct origin *o, const struct conf *c,
                       const atomic_bool *stop, struct err *e)
{
    unsigned threads = rows_threads(c->cluster.threads);
    struct transform_part *part = new_part(s, o, SCALE_NONE);
    uint64_t bad = UINT64_MAX;
    s->d = s->split = o->dim;
    s->stream = (struct source_stream){o->dump, o->encoder, o->dim, s->clips, s->n, NULL, stop};
    part->mean = malloc(o->dim * sizeof *part->mean);
    int rc = part->mean ? source_stream_mean(&s->stream, threads, part->mean, &bad, e)
                        : err_sys(e, ENOMEM, "mean of %u columns", o->dim);
    if (rc == 0 && bad == UINT64_MAX)
        rc = row_store_open(&s->store, s->held, o->dim, UINT64_MAX, c->run.dir, 0, e);
    if (rc == 0 && bad == UINT64_MAX)
        rc = read_clips(o, s->clips + s->n, s->held, s->store.x, stop, e);
    if (rc)
        return rc;
    if (bad == UINT64_MAX) {
        bad = rows_first_bad(s->store.x, s->held, o->dim, threads);
        bad += bad == UINT64_MAX ? 0 : s->n;
    }
    if (bad != UINT64_MAX)
        return bad_row(o, s->clips[bad], e);
    s->stream.mean = part->mean;
    return normalize_subtract(s->store.x, s->held, o->dim, part->mean, threads, stop, e);
}

/* Rows of a clustering that is made of one matrix: an encoder's features, or given ones. */
static int read_alone(struct source *s, const struct origin *o, const struct conf *c, const atomic_bool *stop,
                      struct err *e)
{
    s->d = s->split = o->dim;
    int rc = row_store_open(&s->store, s->n + s->held, s->d, row_store_cap(c->cluster.memory_mib), c->run.dir,
                            (uint64_t)c->limits.disk_reserve_mib, e);
    s->x = s->store.x;
    return rc ? rc : read_rows(s, o, s->x, SCALE_NONE, rows_threads(c->cluster.threads), stop, e);
}

static int read_given(struct source *s, struct feature_dump *dump, const struct conf *c,
                      const atomic_bool *stop, struct err *e)
{
    struct npy_file f;
    int rc = given_features_open(c, feature_dump_info(dump), &f, e);
    if (rc)
        return rc;
    struct origin o = {.dump = dump, .given = &f, .dim = (uint32_t)f.t.shape[1]};
    rc = read_alone(s, &o, c, stop, e);
    npy_close(&f);
    return rc;
}

/* The encoders' rows, each scaled, side by side. */
static int read_joint(struct source *s, struct feature_dump *dump, const uint32_t *encoders,
                      uint32_t n_encoders, const struct conf *c, const atomic_bool *stop, struct err *e)
{
    const struct feature_info *info = feature_dump_info(dump);
    uint32_t column = 0;
    s->split = info->encoder[encoders[0]].dim;
    for (uint32_t i = 0; i < n_encoders; i++)
        s->d += info->encoder[encoders[i]].dim;
    int rc = row_store_open(&s->store, s->n + s->held, s->d, row_store_cap(c->cluster.memory_mib), c->run.dir,
                            (uint64_t)c->limits.disk_reserve_mib, e);
    s->x = s->store.x;
    for (uint32_t i = 0; rc == 0 && i < n_encoders; i++) {
        rc = read_part(s, dump, encoders[i], column, c, stop, e);
        column += info->encoder[encoders[i]].dim;
    }
    return rc;
}

int source_read(struct source *s, struct feature_dump *dump, const uint32_t *encoders, uint32_t n_encoders,
                const struct conf *c, const atomic_bool *stop, struct err *e)
{
    const struct feature_info *info = feature_dump_info(dump);
    struct origin o = {.dump = dump, .encoder = encoders[0], .dim = info->encoder[encoders[0]].dim};
    *s = (struct source){0};
    int rc = source_list_clips(s, dump, encoders, n_encoders, c, e);
    if (rc == 0 && given_features(c, info->round))
        rc = read_given(s, dump, c, stop, e);
    else if (rc == 0 && n_encoders == 1 && c->cluster.normalize == NORMALIZE_NONE &&
             s->n * o.dim * sizeof *s->x > row_store_cap(c->cluster.memory_mib))
        rc = open_stream(s, &o, c, stop, e);
    else if (rc == 0 && n_encoders == 1)
        rc = read_alone(s, &o, c, stop, e);
    else if (rc == 0)
        rc = read_joint(s, dump, encoders, n_encoders, c, stop, e);
    if (rc)
        source_close(s);
    return rc;
}

int source_normalize(struct source *s, const struct conf *c, const atomic_bool *stop, struct err *e)
{
    int rc = transform_fit(&s->t, s->x, s->n + s->held, s->n, (enum conf_normalize)c->cluster.normalize,
                           (uint32_t)c->cluster.pca_dim, rows_threads(c->cluster.threads), stop, e);
    s->d = s->store.d = s->t.p;
    return rc;
}

int source_feed(struct source *s, const struct conf *c, struct feed *out, struct err *e)
{
    return s->x ? row_store_feed(&s->store, s->n, c->cluster.memory_mib, out, e)
                : feed_reader(out, s->n, s->d, row_store_cap(c->cluster.memory_mib), source_stream_read,
                              &s->stream, e);
}

const float *source_held(const struct source *s)
{
    return s->x ? s->x + s->n * s->d : s->store.x;
}

int source_distinct(const struct source *s, uint32_t most, uint32_t *out, struct err *e)
{
    return s->x ? distinct_rows(s->x, s->n, s->d, most, out, e)
                : source_stream_distinct(&s->stream, most, out, e);
}

void source_close(struct source *s)
{
    row_store_close(&s->store);
    transform_close(&s->t);
    free(s->clips);
    *s = (struct source){0};
}
