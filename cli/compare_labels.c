#include "cli/compare_labels.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include "cli/cli.h"
#include "services/clusterer/cluster_job.h"
#include "services/clusterer/kmeans_source.h"
#include "services/clusterer/source.h"

uint32_t compare_label(const struct compare_labeling *l, uint64_t clip)
{
    return l->made ? l->made[clip] : label_table_get(l->table, l->source, clip);
}

void compare_labels_close(struct compare_labels *l)
{
    for (unsigned i = 0; i < COMPARE_LABELINGS; i++)
        free(l->labeling[i].made);
    label_table_close(l->table);
    feature_dump_close(l->dump);
    *l = (struct compare_labels){0};
}

int compare_say(json_t *missing, int rc, const char *sentence, struct err *e)
{
    size_t i;
    json_t *there, *j = cli_json_uri(sentence);
    bool said = false;
    json_array_foreach(missing, i, there) said = said || json_equal(there, j);
    if (rc != -ENOMEM && j && !said && json_array_append(missing, j))
        rc = -ENOMEM;
    bool failed = rc == -ENOMEM || !j;
    json_decref(j);
    return failed ? err_sys(e, ENOMEM, "compare") : 0;
}

static bool is_joint(const struct compare_run *r)
{
    return r->conf.method == METHOD_CDC || r->conf.method == METHOD_SELAVI;
}

static bool has_clusters(const struct compare_run *r)
{
    return r->conf.method != METHOD_SUPERVISED && !r->conf.labels.from[0];
}

int compare_table_open(const struct compare_run *r, uint32_t round, struct label_table **out, struct err *e)
{
    char path[PATH_MAX];
    *out = NULL;
    if (!has_clusters(r))
        return err_set(e, XDC_EMISMATCH, "no clusters: the run's labels are %s",
                       r->conf.labels.from[0] ? "another run's" : "the manifest's classes");
    int rc = label_table_path(r->dir, round, path, e);
    if (rc == 0)
        rc = label_table_open(path, out, e);
    if (rc == -ENOENT)
        return err_set(e, rc, "no label table: the round was not clustered yet, or the file was removed");
    if (rc)
        return rc;
    const struct label_info *info = label_table_info(*out);
    if (info->run != r->run || info->manifest != r->manifest || info->round != round)
        rc = err_set(e, XDC_EMISMATCH, "%s is the table of another run or round", path);
    else if (!is_joint(r) && info->sources != 2)
        rc = err_set(e, XDC_EMISMATCH, "%s has %u sources, where the method has 2", path, info->sources);
    if (rc) {
        label_table_close(*out);
        *out = NULL;
    }
    return rc;
}

static void take_column(struct compare_labels *l, unsigned which, uint32_t source)
{
    struct compare_labeling *to = &l->labeling[which];
    snprintf(to->name, sizeof to->name, "%s", label_table_info(l->table)->source[source].name);
    to->table = l->table;
    to->source = source;
}

/* Of a table of two sources both, of one of a joint source, or of heads, the first. */
static int read_table(struct compare_labels *l, const struct compare_run *r, uint32_t round, json_t *missing,
                      struct err *e)
{
    struct err why;
    int rc = compare_table_open(r, round, &l->table, &why);
    if (rc)
        return compare_say(missing, rc, why.msg, e);
    l->clips = label_table_info(l->table)->clips;
    for (uint32_t s = 0; s < (is_joint(r) ? 1 : 2); s++)
        take_column(l, is_joint(r) ? COMPARE_JOINT : s, s);
    return 0;
}

/* k-means of the features of one encoder, by the run's settings, with which a method of two sources has made
 * its tables too. */
static int cluster_encoder(struct compare_labels *l, const struct conf *c, unsigned which, struct err *e)
{
    struct compare_labeling *to = &l->labeling[which];
    _Atomic uint64_t passes = 0;
    uint32_t encoder;
    struct transform t;
    json_t *figures = NULL;
    const char *of = net_encoder_name(conf_pair(c), (enum net_encoder)which);
    char name[sizeof to->name];
    snprintf(name, sizeof name, "%s%s", of, c->method == METHOD_SELAVI ? "-g0" : "");
    int rc = source_find_encoder(l->dump, name, &encoder, e);
    if (rc)
        return rc;
    to->made = malloc((l->clips + 1) * sizeof *to->made);
    if (!to->made)
        return err_sys(e, ENOMEM, "labels of %" PRIu64 " clips", l->clips);
    for (uint64_t i = 0; i < l->clips; i++)
        to->made[i] = LABEL_NONE;
    const struct kmeans_source of_run = {.conf = c,
                                         .dump = l->dump,
                                         .encoders = &encoder,
                                         .n_encoders = 1,
                                         .index = which,
                                         .name = name,
                                         .unkept = true,
                                         .row_passes = &passes};
    rc = kmeans_source_run(&of_run, to->made, &t, &figures, e);
    if (rc)
        return err_wrap(e, "k-means of the encoder %s", name);
    transform_close(&t);
    json_decref(figures);
    snprintf(to->name, sizeof to->name, "%s", name);
    return 0;
}

static int open_dump(struct compare_labels *l, const struct compare_run *r, uint32_t round, struct err *e)
{
    const struct conf *c = &r->conf;
    int rc = cluster_dump_open(c, round, r->run, r->manifest, &l->dump, e);
    if (rc == -ENOENT && c->features.keep_rounds == 0)
        return err_set(e, rc, "no features: the round was not extracted yet, or its dump was removed");
    if (rc == -ENOENT)
        return err_set(
            e, rc,
            "no features: not extracted yet, or gone, since the run keeps those of its newest %" PRId64
            " rounds; `xdc run --set features.keep_rounds=0` keeps all",
            c->features.keep_rounds);
    if (rc)
        return rc;
    const struct feature_info *info = feature_dump_info(l->dump);
    if (l->table && label_table_info(l->table)->features != info->hash)
        return err_set(e, XDC_EMISMATCH,
                       "the features that are there are not those that the label table is of");
    l->clips = info->rows;
    return 0;
}

/* First and second by k-means, or neither. */
static int cluster_both(struct compare_labels *l, const struct compare_run *r, uint32_t round,
                        json_t *missing, struct err *e)
{
    struct err why;
    struct conf *c = malloc(sizeof *c); /* the features themselves, not what round 0 was given */
    if (!c)
        return err_sys(e, ENOMEM, "configuration");
    *c = r->conf;
    c->init.features[0] = c->init.labels[0] = '\0';
    int rc = open_dump(l, r, round, &why);
    for (unsigned i = COMPARE_FIRST; rc == 0 && i <= COMPARE_SECOND; i++)
        rc = cluster_encoder(l, c, i, &why);
    free(c);
    if (rc == 0)
        return 0;
    for (unsigned i = COMPARE_FIRST; i <= COMPARE_SECOND; i++)
        l->labeling[i].name[0] = '\0';
    return compare_say(missing, rc, why.msg, e);
}

int compare_labels_read(struct compare_labels *l, const struct compare_run *r, uint32_t round, bool recluster,
                        json_t *missing, struct err *e)
{
    int rc = 0;
    *l = (struct compare_labels){0};
    if (is_joint(r) || !has_clusters(r) || !recluster)
        rc = read_table(l, r, round, missing, e);
    if (rc == 0 && has_clusters(r) && (recluster || r->conf.method == METHOD_CDC))
        rc = cluster_both(l, r, round, missing, e);
    else if (rc == 0 && r->conf.method == METHOD_SELAVI)
        rc =
            compare_say(missing, 0,
                        "selavi has one label for both modalities (here that of the first head); --recluster "
                        "takes k-means of each",
                        e);
    return rc;
}
