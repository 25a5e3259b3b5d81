#include "services/clusterer/kmeans_source.h"

#include <errno.h>
#include <stdlib.h>
#include "lib/fsutil.h"
#include "services/clusterer/given.h"
#include "services/clusterer/kmeans.h"
#include "services/clusterer/quality.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/source.h"
#include "services/clusterer/stable_ids.h"

uint64_t kmeans_source_passes(const struct conf *c, uint64_t rows)
{
    return rows * (uint64_t)c->cluster.restarts * ((uint64_t)c->cluster.iterations + 1);
}

/* As many rows as clusters, and as many different ones. */
static int check_enough(const struct source *rows, uint32_t k, struct err *e)
{
    uint32_t distinct = 0;
    char less[64] = "";
    if (rows->n < k)
        return err_set(
            e, XDC_EFORMAT,
            "%llu clips have features that can be clustered, too few for %u clusters; set cluster.k "
            "to less, or give more clips",
            (unsigned long long)rows->n, k);
    int rc = source_distinct(rows, k, &distinct, e);
    if (rc || distinct == k)
        return rc;
    if (distinct > 1)
        snprintf(less, sizeof less, "set cluster.k to %u or less, or ", distinct);
    return err_set(
        e, XDC_EFORMAT,
        "only %u of the %llu rows differ as they are clustered, too few for %u clusters; %ssee `xdc "
        "explain dead_features` for why features are alike",
        distinct, (unsigned long long)rows->n, k, less);
}

static int read_rows(const struct kmeans_source *s, struct source *rows, struct err *e)
{
    const struct conf *c = s->conf;
    uint32_t k = (uint32_t)c->cluster.k;
    int rc = source_read(rows, s->dump, s->encoders, s->n_encoders, c, s->stop, e);
    if (rc)
        return rc;
    rc = check_enough(rows, k, e);
    if (rc == 0)
        rc = source_normalize(rows, c, s->stop, e);
    if (rc == 0 && c->cluster.normalize != NORMALIZE_NONE) /* which can make rows equal */
        rc = check_enough(rows, k, e);
    if (rc)
        source_close(rows);
    return rc;
}

/* Where the k-means leaves its state. */
static int checkpoint_path(const struct kmeans_source *s, char out[PATH_MAX], struct err *e)
{
    int rc = fs_path(out, e, "%s/labels", s->conf->run.dir);
    if (rc == 0)
        rc = fs_mkdirs(out, e);
    return rc ? rc
              : fs_path(out, e, "%s/labels/round-%04u.%s.kmeans", s->conf->run.dir,
                        feature_dump_info(s->dump)->round, s->name);
}

static int cluster_rows(struct source *rows, const struct kmeans_options *o, const struct conf *c,
                        struct kmeans_result *out, struct err *e)
{
    struct feed f;
    *out = (struct kmeans_result){0};
    int rc = source_feed(rows, c, &f, e);
    if (rc)
        return rc;
    rc = kmeans_run_feed(&f, o, out, e);
    feed_close(&f);
    return rc;
}

/* Clusters the rows, and gives those of the hold-out the labels of the nearest centroids. */
static int run_kmeans(const struct kmeans_source *s, struct source *rows, uint32_t *labels,
                      struct kmeans_result *out, struct err *e)
{
    const struct conf *c = s->conf;
    char checkpoint[PATH_MAX];
    struct kmeans_options o = {
        .checkpoint = s->unkept ? NULL : checkpoint,
        .checkpoint_s = c->cluster.checkpoint_s,
        .k = (uint32_t)c->cluster.k,
        .restarts = (uint32_t)c->cluster.restarts,
        .iterations = (uint32_t)c->cluster.iterations,
        .init = (enum kmeans_start)c->cluster.init,
        .tolerance = c->cluster.tolerance,
        .threads = rows_threads(c->cluster.threads),
        .device = s->device,
        .seed = (uint64_t)c->run.seed,
        .round = feature_dump_info(s->dump)->round,
        .source = s->index,
        .stop = s->stop,
        .row_passes = s->row_passes,
    };
    int rc = s->unkept ? 0 : checkpoint_path(s, checkpoint, e);
    if (rc)
        return rc;
    uint32_t *held = malloc((rows->held + 1) * sizeof *held);
    rc = held ? cluster_rows(rows, &o, c, out, e) : err_sys(e, ENOMEM, "labels");
    if (rc == 0)
        rc = kmeans_nearest(source_held(rows), rows->held, rows->d, &o, out->centroids, held, e);
    for (uint64_t i = 0; rc == 0 && i < rows->n; i++)
        labels[rows->clips[i]] = out->labels[i];
    for (uint64_t i = 0; rc == 0 && i < rows->held; i++)
        labels[rows->clips[rows->n + i]] = held[i];
    free(held);
    return rc;
}

/* Clusters get the ids of the round before. */
static int keep_ids(const struct kmeans_source *s, const struct source *rows, uint32_t *labels,
                    struct kmeans_result *r, struct err *e)
{
    uint32_t k = (uint32_t)s->conf->cluster.k;
    uint64_t clips = feature_dump_info(s->dump)->rows;
    uint32_t *id = malloc(k * sizeof *id);
    int rc = id ? stable_ids_find(labels, s->previous, clips, k, id, e)
                : err_sys(e, ENOMEM, "ids of %u clusters", k);
    if (rc == 0)
        rc = stable_ids_move(r->centroids, k, rows->d, id, e);
    if (rc == 0) {
        stable_ids_rename(r->labels, rows->n, id);
        stable_ids_rename(labels, clips, id);
    }
    free(id);
    return rc;
}

/* Which modality made the joint clusters: shares of the between-cluster inertia, before normalisation mixes
 * the columns. */
static int put_shares(const struct kmeans_source *s, struct source *rows, const struct kmeans_result *r,
                      json_t *j, struct err *e)
{
    double share;
    int rc = 0;
    if (s->conf->cluster.normalize != NORMALIZE_NONE) {
        source_close(rows);
        rc = source_read(rows, s->dump, s->encoders, s->n_encoders, s->conf, s->stop, e);
    }
    if (rc == 0)
        rc = quality_inertia_share(rows->x, rows->n, rows->d, r->labels, (uint32_t)s->conf->cluster.k,
                                   rows->split, &share, e);
    if (rc == 0)
        json_object_set_new(j, "inertia_share", json_pack("{s:f, s:f}", "video", share, "audio", 1 - share));
    return rc;
}

/* The clustering's own figures. */
static int put_figures(const struct kmeans_source *s, struct source *rows, const struct kmeans_result *r,
                       json_t **out, struct err *e)
{
    const struct conf *c = s->conf;
    int rc = 0;
    json_t *j =
        json_pack("{s:I, s:I, s:I, s:i, s:f, s:i, s:i, s:i, s:I}", "k", (json_int_t)c->cluster.k, "n",
                  (json_int_t)rows->n, "held_out", (json_int_t)rows->held, "dim", (int)rows->d, "objective",
                  r->objective, "iterations", (int)r->iterations, "restarts", (int)c->cluster.restarts,
                  "restart", (int)r->restart, "empty_splits", (json_int_t)r->empty_splits);
    if (given_features(c, feature_dump_info(s->dump)->round))
        json_object_set_new(j, "given", json_string("features"));
    else if (s->n_encoders > 1)
        rc = put_shares(s, rows, r, j, e);
    if (rc) {
        json_decref(j);
        j = NULL;
    }
    *out = j;
    return rc;
}

int kmeans_source_run(const struct kmeans_source *s, uint32_t *labels, struct transform *out_transform,
                      json_t **out_figures, struct err *e)
{
    struct source rows;
    struct kmeans_result r = {0};
    struct transform t = {0};
    uint64_t passes = atomic_load(s->row_passes);
    *out_transform = t;
    *out_figures = NULL;
    int rc = read_rows(s, &rows, e);
    if (rc)
        return rc;
    rc = run_kmeans(s, &rows, labels, &r, e);
    if (rc == 0 && s->previous)
        rc = keep_ids(s, &rows, labels, &r, e);
    if (rc == 0) {
        atomic_store(s->row_passes, passes + kmeans_source_passes(s->conf, rows.n + rows.held));
        t = rows.t;
        rows.t = (struct transform){0};
        rc = put_figures(s, &rows, &r, out_figures, e);
    }
    if (rc == 0) {
        *out_transform = t;
        out_transform->k = (uint32_t)s->conf->cluster.k;
        out_transform->centroids = r.centroids;
        r.centroids = NULL;
    } else {
        transform_close(&t);
    }
    kmeans_result_close(&r);
    source_close(&rows);
    return rc;
}
