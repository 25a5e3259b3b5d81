#include "services/clusterer/cluster_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/fsutil.h"
#include "lib/label_table.h"
#include "lib/manifest.h"
#include "services/clusterer/distinct.h"
#include "services/clusterer/given.h"
#include "services/clusterer/kmeans.h"
#include "services/clusterer/quality.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/selavi_job.h"
#include "services/clusterer/source.h"
#include "services/clusterer/stable_ids.h"
#include "services/clusterer/transform.h"

#define SOURCES_MAX SELAVI_HEADS_MAX
#define ENCODERS_MAX 2
/* Most that buffers take of rows which lie in a file. */
#define READ_BYTES (256ull << 20)

/* What lives while the job runs. */
struct work {
    struct cluster_job *job;
    const struct conf *conf;
    struct feature_dump *dump; /* owned */
    const struct feature_info *info;
    uint32_t sources;
    uint32_t encoders[ENCODERS_MAX];           /* of the dump: video, audio */
    struct selavi selavi;                      /* owned; of the method selavi alone */
    uint32_t *labels[SOURCES_MAX];             /* owned, [clips] */
    uint32_t *previous;                        /* owned, [clips], scratch */
    uint32_t *truth;                           /* owned, [clips], or NULL without classes */
    struct label_table *before;                /* owned; of the round before, or NULL */
    json_t *json;                              /* owned: of every source by name */
    json_t *more;                              /* owned: what the table says of all of them together */
    struct transform transforms[ENCODERS_MAX]; /* owned; none of labels that are given or of heads */
};

static const char *encoder_name(const struct conf *c, uint32_t encoder)
{
    return net_encoder_name(conf_pair(c), (enum net_encoder)encoder);
}

const char *cluster_source_name(const struct conf *c, uint32_t source)
{
    static const char *const heads[SELAVI_HEADS_MAX] = {
        "joint-h0", "joint-h1", "joint-h2",  "joint-h3",  "joint-h4",  "joint-h5",  "joint-h6",  "joint-h7",
        "joint-h8", "joint-h9", "joint-h10", "joint-h11", "joint-h12", "joint-h13", "joint-h14", "joint-h15"};
    if (c->method == METHOD_SELAVI)
        return heads[source];
    return c->method == METHOD_CDC ? "joint" : encoder_name(c, source);
}

int cluster_dump_open(const struct conf *c, uint32_t round, uint64_t run, uint64_t manifest,
                      struct feature_dump **out, struct err *e)
{
    char path[PATH_MAX];
    int rc = fs_path(path, e, "%s/features/round-%04u", c->run.dir, round);
    if (rc == 0)
        rc = feature_dump_open(path, out, e);
    if (rc)
        return rc;
    const struct feature_info *i = feature_dump_info(*out); /* what one shard is of, all are */
    if (i->manifest != manifest)
        rc = err_set(e, XDC_EMISMATCH, "%s/rank-0 is of manifest %016llx, the configured one is %016llx",
                     path, (unsigned long long)i->manifest, (unsigned long long)manifest);
    else if (i->run != run)
        rc = err_set(e, XDC_EMISMATCH, "%s/rank-0 is of run %016llx, the configuration makes run %016llx",
                     path, (unsigned long long)i->run, (unsigned long long)run);
    else if (i->round != round)
        rc = err_set(e, XDC_EMISMATCH, "%s/rank-0 holds round %u", path, i->round);
    if (rc) {
        feature_dump_close(*out);
        *out = NULL;
    }
    return rc;
}

static int table_path(const struct conf *c, uint32_t round, char out[PATH_MAX], struct err *e)
{
    return fs_path(out, e, "%s/labels/round-%04u.xdcl", c->run.dir, round);
}

int cluster_table_find(const struct conf *c, const struct feature_info *dump, uint64_t *out_hash,
                       json_t **out_quality)
{
    char path[PATH_MAX];
    struct label_table *t;
    int rc = table_path(c, dump->round, path, NULL);
    if (rc || label_table_open(path, &t, NULL))
        return -ENOENT; /* an unsound table is made again */
    const struct label_info *i = label_table_info(t);
    bool same = i->features == dump->hash && i->run == dump->run && i->manifest == dump->manifest &&
                i->round == dump->round && i->clips == dump->rows;
    if (same) {
        *out_hash = i->hash;
        *out_quality = json_loads(label_table_quality(t), 0, NULL);
    }
    label_table_close(t);
    return same ? 0 : -ENOENT;
}

static int find_encoders(struct work *w, struct err *e)
{
    if (w->conf->method == METHOD_SUPERVISED)
        return err_set(e, XDC_EMISMATCH,
                       "the method supervised takes its labels from the manifest and is not clustered");
    if (w->conf->method == METHOD_SELAVI) {
        w->sources = (uint32_t)w->conf->selavi.heads;
        return selavi_open(&w->selavi, w->conf, w->dump, w->job->stop, &w->job->row_passes, e);
    }
    w->sources = w->conf->method == METHOD_CDC ? 1 : 2;
    for (uint32_t n = 0; n < ENCODERS_MAX; n++) {
        uint32_t i = 0;
        const char *name = encoder_name(w->conf, n);
        while (i < w->info->encoders && strcmp(w->info->encoder[i].name, name) != 0)
            i++;
        if (i == w->info->encoders)
            return err_set(e, XDC_EMISMATCH, "the dump of round %u has no features of the encoder %s",
                           w->info->round, name);
        w->encoders[n] = i;
    }
    return 0;
}

/* Truth labels by clip, for the quality figures alone. */
static int read_truth(struct work *w, struct err *e)
{
    struct manifest *m;
    int rc = manifest_open(w->conf->data.manifest, &m, e);
    if (rc)
        return rc;
    uint64_t per_video = (uint64_t)w->conf->data.clips_per_video;
    if (manifest_classes(m) > 0 && !(w->truth = malloc((w->info->rows + 1) * sizeof *w->truth)))
        rc = err_sys(e, ENOMEM, "truth labels");
    struct manifest_video *v = malloc(sizeof *v);
    if (!v)
        rc = err_sys(e, ENOMEM, "truth labels");
    for (uint64_t i = 0; w->truth && rc == 0 && i < w->info->rows; i++) {
        if (i % per_video == 0)
            rc = manifest_get(m, i / per_video, v, e);
        w->truth[i] = rc == 0 && v->truth >= 0 ? (uint32_t)v->truth : LABEL_NONE;
    }
    free(v);
    manifest_close(m);
    return rc;
}

/* The table of the round before counts only if it is of the same run and clips. */
static void open_before(struct work *w)
{
    char path[PATH_MAX];
    if (w->info->round == 0 || table_path(w->conf, w->info->round - 1, path, NULL) ||
        label_table_open(path, &w->before, NULL)) {
        w->before = NULL;
        return;
    }
    const struct label_info *i = label_table_info(w->before);
    if (i->run == w->info->run && i->manifest == w->info->manifest && i->clips == w->info->rows)
        return;
    label_table_close(w->before);
    w->before = NULL;
}

static int work_open(struct work *w, struct cluster_job *job, struct err *e)
{
    *w = (struct work){.job = job, .conf = job->conf};
    int rc = cluster_dump_open(job->conf, job->round, job->run, job->manifest, &w->dump, e);
    if (rc)
        return rc;
    w->info = feature_dump_info(w->dump);
    job->features = w->info->hash;
    rc = find_encoders(w, e);
    for (uint32_t s = 0; rc == 0 && s < w->sources; s++) {
        w->labels[s] = malloc((w->info->rows + 1) * sizeof *w->labels[s]);
        if (!w->labels[s])
            rc = err_sys(e, ENOMEM, "labels of %llu clips", (unsigned long long)w->info->rows);
        for (uint64_t i = 0; rc == 0 && i < w->info->rows; i++)
            w->labels[s][i] = LABEL_NONE;
    }
    w->previous = malloc((w->info->rows + 1) * sizeof *w->previous);
    w->json = json_object();
    w->more = json_object();
    if (rc == 0 && (!w->previous || !w->json || !w->more))
        rc = err_sys(e, ENOMEM, "labels of %llu clips", (unsigned long long)w->info->rows);
    if (rc == 0)
        rc = read_truth(w, e);
    if (rc == 0)
        open_before(w);
    return rc;
}

static void work_close(struct work *w)
{
    selavi_close(&w->selavi);
    feature_dump_close(w->dump);
    for (uint32_t s = 0; s < SOURCES_MAX; s++)
        free(w->labels[s]);
    for (uint32_t s = 0; s < ENCODERS_MAX; s++)
        transform_close(&w->transforms[s]);
    free(w->previous);
    free(w->truth);
    label_table_close(w->before);
    json_decref(w->json);
    json_decref(w->more);
}

/* Fills w->previous with the labels of source `s` in the round before; false where there are none. */
static bool read_previous(struct work *w, uint32_t s)
{
    int column = w->before ? label_table_source(w->before, cluster_source_name(w->conf, s)) : -1;
    if (column < 0 || label_table_info(w->before)->source[column].k != (uint32_t)w->conf->cluster.k)
        return false;
    for (uint64_t i = 0; i < w->info->rows; i++)
        w->previous[i] = label_table_get(w->before, (uint32_t)column, i);
    return true;
}

/* Puts "nmi_<with>", "ami_<with>" (previous round, other modality, truth) where any clip has both labels. */
static int put_agreement(const struct work *w, json_t *j, const uint32_t *labels, const uint32_t *other,
                         const char *with, struct err *e)
{
    struct quality_agreement q;
    char key[64];
    int rc = quality_agreement(labels, other, w->info->rows, &q, e);
    if (rc || q.both == 0)
        return rc;
    snprintf(key, sizeof key, "nmi_%s", with);
    json_object_set_new(j, key, json_real(q.nmi));
    snprintf(key, sizeof key, "ami_%s", with);
    json_object_set_new(j, key, json_real(q.ami));
    return 0;
}

static int put_truth(const struct work *w, json_t *j, const uint32_t *labels, struct err *e)
{
    struct quality_truth q;
    int rc = put_agreement(w, j, labels, w->truth, "truth", e);
    if (rc == 0)
        rc = quality_truth(labels, w->truth, w->info->rows, &q, e);
    if (rc || q.both == 0)
        return rc;
    json_object_set_new(j, "ari_truth", json_real(q.ari));
    json_object_set_new(j, "accuracy_truth", json_real(q.accuracy));
    json_object_set_new(j, "entropy_truth", json_real(q.entropy));
    json_object_set_new(j, "purity_truth", json_real(q.purity));
    return 0;
}

static int put_sizes(const struct work *w, uint32_t s, json_t *j, struct err *e)
{
    struct quality_sizes q;
    int rc = quality_sizes(w->labels[s], w->info->rows, (uint32_t)w->conf->cluster.k, &q, e);
    if (rc)
        return rc;
    json_object_set_new(j, "entropy", json_real(q.entropy));
    json_object_set_new(j, "imbalance", json_real(q.imbalance));
    json_object_set_new(j, "empty", json_integer((json_int_t)q.empty));
    json_object_set_new(
        j, "sizes",
        json_pack("{s:I, s:f, s:I}", "min", (json_int_t)q.min, "median", q.median, "max", (json_int_t)q.max));
    return 0;
}

/* Everything about the labels of source `s` but the clustering's own figures. */
static int measure(struct work *w, uint32_t s, struct err *e)
{
    const char *name = cluster_source_name(w->conf, s);
    json_t *j = json_object_get(w->json, name);
    int rc = put_sizes(w, s, j, e);
    if (rc == 0 && read_previous(w, s)) {
        rc = put_agreement(w, j, w->labels[s], w->previous, "previous", e);
        if (json_object_get(j, "ami_previous"))
            json_object_set_new(j, "churn",
                                json_real(quality_churn(w->labels[s], w->previous, w->info->rows)));
    }
    if (rc == 0 && w->sources > 1 && w->conf->method != METHOD_SELAVI)
        rc = put_agreement(w, j, w->labels[s], w->labels[1 - s], "other", e);
    if (rc == 0 && w->truth)
        rc = put_truth(w, j, w->labels[s], e);
    return rc;
}

/* Which modality made the joint clusters: shares of the between-cluster inertia, before normalisation mixes
 * the columns. */
static int put_shares(struct work *w, struct source *rows, const struct kmeans_result *r, json_t *j,
                      struct err *e)
{
    double share;
    int rc = 0;
    if (w->conf->cluster.normalize != NORMALIZE_NONE) {
        source_close(rows);
        rc = source_read(rows, w->dump, w->encoders, 2, w->conf, w->job->stop, e);
    }
    if (rc == 0)
        rc = quality_inertia_share(rows->x, rows->n, rows->d, r->labels, (uint32_t)w->conf->cluster.k,
                                   rows->split, &share, e);
    if (rc == 0)
        json_object_set_new(j, "inertia_share", json_pack("{s:f, s:f}", "video", share, "audio", 1 - share));
    return rc;
}

/* Rows that lie in a file are read from it block by block. */
static int cluster_rows(struct source *rows, const struct kmeans_options *o, int64_t memory_mib,
                        struct kmeans_result *out, struct err *e)
{
    struct feed f;
    *out = (struct kmeans_result){0};
    feed_array(&f, rows->x, rows->n, rows->d);
    if (rows->store.fd >= 0) {
        uint64_t cap = row_store_cap(memory_mib);
        int rc = feed_reader(&f, rows->n, rows->d, cap < READ_BYTES ? cap : READ_BYTES, row_store_read,
                             &rows->store, e);
        if (rc)
            return rc;
    }
    int rc = kmeans_run_feed(&f, o, out, e);
    feed_close(&f);
    return rc;
}

/* Where a source's k-means leaves its state. */
static int checkpoint_path(const struct work *w, uint32_t s, char out[PATH_MAX], struct err *e)
{
    int rc = fs_path(out, e, "%s/labels", w->conf->run.dir);
    if (rc == 0)
        rc = fs_mkdirs(out, e);
    return rc ? rc
              : fs_path(out, e, "%s/labels/round-%04u.%s.kmeans", w->conf->run.dir, w->info->round,
                        cluster_source_name(w->conf, s));
}

/* As many rows as clusters, and as many different ones. */
static int check_enough(const struct work *w, const struct source *rows, struct err *e)
{
    uint32_t k = (uint32_t)w->conf->cluster.k, distinct = 0;
    char less[64] = "";
    if (rows->n < k)
        return err_set(
            e, XDC_EFORMAT,
            "%llu clips have features that can be clustered, too few for %u clusters; set cluster.k "
            "to less, or give more clips",
            (unsigned long long)rows->n, k);
    int rc = distinct_rows(rows->x, rows->n, rows->d, k, &distinct, e);
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

/* Clusters the rows, and gives those of the hold-out the labels of the nearest centroids. */
static int run_kmeans(struct work *w, uint32_t s, struct source *rows, struct kmeans_result *out,
                      struct err *e)
{
    const struct conf *c = w->conf;
    char checkpoint[PATH_MAX];
    struct kmeans_options o = {
        .checkpoint = checkpoint,
        .checkpoint_s = c->cluster.checkpoint_s,
        .k = (uint32_t)c->cluster.k,
        .restarts = (uint32_t)c->cluster.restarts,
        .iterations = (uint32_t)c->cluster.iterations,
        .init = (enum kmeans_start)c->cluster.init,
        .tolerance = c->cluster.tolerance,
        .threads = rows_threads(c->cluster.threads),
        .device = w->job->device,
        .seed = (uint64_t)c->run.seed,
        .round = w->info->round,
        .source = s,
        .stop = w->job->stop,
        .row_passes = &w->job->row_passes,
    };
    int rc = checkpoint_path(w, s, checkpoint, e);
    if (rc)
        return rc;
    uint32_t *held = malloc((rows->held + 1) * sizeof *held);
    rc = held ? cluster_rows(rows, &o, c->cluster.memory_mib, out, e) : err_sys(e, ENOMEM, "labels");
    if (rc == 0)
        rc = kmeans_nearest(rows->x + rows->n * rows->d, rows->held, rows->d, &o, out->centroids, held, e);
    for (uint64_t i = 0; rc == 0 && i < rows->held; i++)
        w->labels[s][rows->clips[rows->n + i]] = held[i];
    free(held);
    return rc;
}

/* Clusters get the ids of the round before. */
static int keep_ids(struct work *w, uint32_t s, const struct source *rows, struct kmeans_result *r,
                    struct err *e)
{
    uint32_t k = (uint32_t)w->conf->cluster.k;
    if (!read_previous(w, s))
        return 0;
    uint32_t *id = malloc(k * sizeof *id);
    int rc = id ? stable_ids_find(w->labels[s], w->previous, w->info->rows, k, id, e)
                : err_sys(e, ENOMEM, "ids of %u clusters", k);
    if (rc == 0)
        rc = stable_ids_move(r->centroids, k, rows->d, id, e);
    if (rc == 0) {
        stable_ids_rename(r->labels, rows->n, id);
        stable_ids_rename(w->labels[s], w->info->rows, id);
    }
    free(id);
    return rc;
}

/* Rows that k-means may go through for one source. */
static uint64_t passes_of(const struct work *w, uint64_t rows)
{
    return rows * (uint64_t)w->conf->cluster.restarts * ((uint64_t)w->conf->cluster.iterations + 1);
}

static int take_given(struct work *w, uint32_t s, struct err *e)
{
    bool joint = w->conf->method == METHOD_CDC;
    const char *name = cluster_source_name(w->conf, s);
    const struct given_source of = {name, s, w->sources, joint ? w->encoders : &w->encoders[s],
                                    joint ? 2 : 1};
    uint64_t n;
    int rc = given_labels_read(w->conf, w->dump, &of, w->labels[s], &n, e);
    if (rc == 0)
        json_object_set_new(w->json, name,
                            json_pack("{s:I, s:I, s:s}", "k", (json_int_t)w->conf->cluster.k, "n",
                                      (json_int_t)n, "given", "labels"));
    return rc;
}

static int cluster_source(struct work *w, uint32_t s, struct err *e)
{
    struct source rows;
    struct kmeans_result r = {0};
    bool joint = w->conf->method == METHOD_CDC;
    uint64_t passes = atomic_load(&w->job->row_passes);
    atomic_store(&w->job->source, s);
    if (given_labels(w->conf, w->info->round))
        return take_given(w, s, e);
    int rc = source_read(&rows, w->dump, joint ? w->encoders : &w->encoders[s], joint ? 2 : 1, w->conf,
                         w->job->stop, e);
    if (rc)
        return rc;
    rc = check_enough(w, &rows, e);
    if (rc == 0)
        rc = source_normalize(&rows, w->conf, w->job->stop, e);
    if (rc == 0 && w->conf->cluster.normalize != NORMALIZE_NONE) /* which can make rows equal */
        rc = check_enough(w, &rows, e);
    if (rc == 0)
        rc = run_kmeans(w, s, &rows, &r, e);
    for (uint64_t i = 0; rc == 0 && i < rows.n; i++)
        w->labels[s][rows.clips[i]] = r.labels[i];
    if (rc == 0)
        rc = keep_ids(w, s, &rows, &r, e);
    if (rc == 0) {
        w->transforms[s] = rows.t;
        w->transforms[s].k = (uint32_t)w->conf->cluster.k;
        w->transforms[s].centroids = r.centroids;
        rows.t = (struct transform){0};
        r.centroids = NULL;
        json_t *j = json_pack("{s:I, s:I, s:I, s:i, s:f, s:i, s:i, s:i, s:I}", "k",
                              (json_int_t)w->conf->cluster.k, "n", (json_int_t)rows.n, "held_out",
                              (json_int_t)rows.held, "dim", (int)rows.d, "objective", r.objective,
                              "iterations", (int)r.iterations, "restarts", (int)w->conf->cluster.restarts,
                              "restart", (int)r.restart, "empty_splits", (json_int_t)r.empty_splits);
        json_object_set_new(w->json, cluster_source_name(w->conf, s), j);
        atomic_store(&w->job->row_passes, passes + passes_of(w, rows.n + rows.held));
        if (given_features(w->conf, w->info->round))
            json_object_set_new(j, "given", json_string("features"));
        else if (joint)
            rc = put_shares(w, &rows, &r, j, e);
    }
    kmeans_result_close(&r);
    source_close(&rows);
    return rc;
}

/* Labels of one head, whose ids are its outputs. */
static int selavi_source(struct work *w, uint32_t s, struct err *e)
{
    const char *name = cluster_source_name(w->conf, s);
    json_t *figures;
    atomic_store(&w->job->source, s);
    int rc = selavi_head(&w->selavi, s, name, w->labels[s], w->more, &figures, e);
    atomic_store(&w->job->row_passes, (s + 1) * selavi_passes(w->conf, w->info->rows));
    if (rc == 0)
        json_object_set_new(w->json, name, figures);
    return rc;
}

/* What the sources' clips went through, and their centroids. Before the table: that says that all is there.
 */
static int write_transforms(const struct work *w, struct err *e)
{
    char path[PATH_MAX];
    int rc = 0;
    for (uint32_t s = 0; rc == 0 && s < ENCODERS_MAX; s++) {
        if (!w->transforms[s].centroids)
            continue;
        const char *name = cluster_source_name(w->conf, s);
        rc = transform_path(w->conf->run.dir, w->info->round, name, path, e);
        if (rc == 0)
            rc = transform_write(path, &w->transforms[s], w->info, name, e);
    }
    return rc;
}

static int write_table(struct work *w, struct err *e)
{
    struct cluster_job *job = w->job;
    struct label_info info = {
        .run = w->info->run,
        .manifest = w->info->manifest,
        .features = w->info->hash,
        .clips = w->info->rows,
        .round = w->info->round,
        .sources = w->sources,
    };
    char dir[PATH_MAX], path[PATH_MAX];
    const uint32_t *labels[SOURCES_MAX];
    static const char *const methods[] = {"sdc",        "mdc",           "cdc",   "xdc",
                                          "supervised", "same-modality", "selavi"};
    for (uint32_t s = 0; s < w->sources; s++) {
        labels[s] = w->labels[s];
        snprintf(info.source[s].name, sizeof info.source[s].name, "%s", cluster_source_name(w->conf, s));
        info.source[s].k = (uint32_t)w->conf->cluster.k;
    }
    job->quality = json_pack("{s:i, s:s, s:O}", "round", (int)info.round, "method", methods[w->conf->method],
                             "sources", w->json);
    json_object_update(job->quality, w->more);
    char *text = job->quality ? json_dumps(job->quality, JSON_COMPACT) : NULL;
    int rc = text ? 0 : err_sys(e, ENOMEM, "quality of round %u", info.round);
    if (rc == 0)
        rc = fs_path(dir, e, "%s/labels", w->conf->run.dir);
    if (rc == 0)
        rc = fs_mkdirs(dir, e);
    if (rc == 0)
        rc = write_transforms(w, e);
    if (rc == 0)
        rc = table_path(w->conf, info.round, path, e);
    if (rc == 0)
        rc = label_table_write(path, &info, labels, text, &job->table, e);
    free(text);
    return rc;
}

void cluster_job_run(struct cluster_job *job)
{
    struct work w;
    struct err *e = &job->err;
    int rc = work_open(&w, job, e);
    bool selavi = w.conf->method == METHOD_SELAVI;
    for (uint32_t s = 0; rc == 0 && s < w.sources; s++)
        job->row_passes_total += selavi ? selavi_passes(w.conf, w.info->rows)
                                        : passes_of(&w, w.info->encoder[w.encoders[s]].valid);
    for (uint32_t s = 0; rc == 0 && s < w.sources; s++) {
        rc = selavi ? selavi_source(&w, s, e) : cluster_source(&w, s, e);
        if (rc)
            err_wrap(e, "source %s", cluster_source_name(w.conf, s));
    }
    for (uint32_t s = 0; rc == 0 && s < w.sources; s++)
        rc = measure(&w, s, e);
    if (rc == 0 && selavi)
        rc = selavi_summarize(w.json, w.more, e);
    if (rc == 0)
        rc = write_table(&w, e);
    if (rc)
        err_wrap(e, "cluster round %u", job->round);
    work_close(&w);
    job->result = rc;
}

void cluster_job_close(struct cluster_job *job)
{
    json_decref(job->quality);
    job->quality = NULL;
}
