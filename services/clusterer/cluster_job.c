#include "services/clusterer/cluster_job.h"

#include <errno.h>
#include <stdlib.h>
#include "lib/fsutil.h"
#include "lib/label_table.h"
#include "lib/manifest.h"
#include "services/clusterer/given.h"
#include "services/clusterer/kmeans_source.h"
#include "services/clusterer/quality.h"
#include "services/clusterer/selavi_job.h"
#include "services/clusterer/source.h"
#include "services/clusterer/transform.h"

#define SOURCES_MAX LABEL_HEADS_MAX
#define ENCODERS_MAX 2

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
    if (c->method == METHOD_SELAVI)
        return label_head_source(source);
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

int cluster_table_find(const struct conf *c, const struct feature_info *dump, uint64_t *out_hash,
                       json_t **out_quality)
{
    char path[PATH_MAX];
    struct label_table *t;
    int rc = label_table_path(c->run.dir, dump->round, path, NULL);
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
    int rc = 0;
    for (uint32_t n = 0; rc == 0 && n < ENCODERS_MAX; n++)
        rc = source_find_encoder(w->dump, encoder_name(w->conf, n), &w->encoders[n], e);
    return rc;
}

/* The encoders of one source: both of the joint one. */
static const uint32_t *encoders_of(const struct work *w, uint32_t s)
{
    return w->conf->method == METHOD_CDC ? w->encoders : &w->encoders[s];
}

static uint32_t encoders_each(const struct work *w)
{
    return w->conf->method == METHOD_CDC ? 2 : 1;
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
    if (w->info->round == 0 || label_table_path(w->conf->run.dir, w->info->round - 1, path, NULL) ||
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

static int take_given(struct work *w, uint32_t s, struct err *e)
{
    const char *name = cluster_source_name(w->conf, s);
    const struct given_source of = {name, s, w->sources, encoders_of(w, s), encoders_each(w)};
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
    const char *name = cluster_source_name(w->conf, s);
    json_t *figures;
    atomic_store(&w->job->source, s);
    if (given_labels(w->conf, w->info->round))
        return take_given(w, s, e);
    const struct kmeans_source of = {
        .conf = w->conf,
        .dump = w->dump,
        .encoders = encoders_of(w, s),
        .n_encoders = encoders_each(w),
        .index = s,
        .name = name,
        .previous = read_previous(w, s) ? w->previous : NULL,
        .device = w->job->device,
        .stop = w->job->stop,
        .row_passes = &w->job->row_passes,
    };
    int rc = kmeans_source_run(&of, w->labels[s], &w->transforms[s], &figures, e);
    if (rc == 0)
        json_object_set_new(w->json, name, figures);
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
    char dir[PATH_MAX], path[PATH_MAX], method[32];
    const uint32_t *labels[SOURCES_MAX];
    for (uint32_t s = 0; s < w->sources; s++) {
        labels[s] = w->labels[s];
        snprintf(info.source[s].name, sizeof info.source[s].name, "%s", cluster_source_name(w->conf, s));
        info.source[s].k = (uint32_t)w->conf->cluster.k;
    }
    conf_print_value(w->conf, conf_find("method"), method, sizeof method);
    job->quality =
        json_pack("{s:i, s:s, s:O}", "round", (int)info.round, "method", method, "sources", w->json);
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
        rc = label_table_path(w->conf->run.dir, info.round, path, e);
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
                                        : kmeans_source_passes(w.conf, w.info->encoder[w.encoders[s]].valid);
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
