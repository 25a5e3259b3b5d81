#include "cli/explain_round.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lib/feature_dump.h"
#include "lib/fsutil.h"
#include "lib/label_table.h"
#include "services/clusterer/given.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/transform.h"

struct look {
    const struct conf *conf;
    uint32_t round;
    uint64_t clip;
    struct label_table *table; /* owned */
    struct feature_dump *dump; /* owned; NULL: not there, */
    const char *no_dump;       /* and why */
};

/* The clip's features of one part; false with the reason in *why where there are none. */
static bool read_part(const struct look *l, const struct transform_part *p, float *x, const char **why,
                      int *rc, struct err *e)
{
    const struct feature_info *info = feature_dump_info(l->dump);
    uint32_t i = 0;
    struct npy_file f;
    *why = "the features are no longer as they were when they were clustered";
    if (strcmp(p->encoder, TRANSFORM_GIVEN) == 0) {
        if (given_features_open(l->conf, info, &f, NULL))
            return false;
        bool same = f.t.shape[1] == p->dim;
        *rc = same ? given_features_read(&f, l->clip, 1, x, e) : 0;
        npy_close(&f);
        return same;
    }
    while (i < info->encoders && strcmp(info->encoder[i].name, p->encoder) != 0)
        i++;
    if (i == info->encoders || info->encoder[i].dim != p->dim)
        return false;
    *why = "the clip has no features";
    if (!feature_dump_has(l->dump, i, l->clip))
        return false;
    *rc = feature_dump_read(l->dump, i, l->clip, 1, x, e);
    return true;
}

/* Distances of x [p] to the centroid of its label and to the nearest other one. */
static void put_distances(const struct transform *t, const float *x, uint32_t label, json_t *j)
{
    double own = 0, next = INFINITY;
    uint32_t other = 0;
    for (uint32_t c = 0; c < t->k; c++) {
        double d = sqrt(rows_distance64(x, t->centroids + (size_t)c * t->p, t->p));
        if (c == label) {
            own = d;
        } else if (d < next) {
            next = d;
            other = c;
        }
    }
    json_object_set_new(j, "distance", json_real(own));
    if (t->k < 2)
        return;
    json_object_set_new(j, "second", json_pack("{s:i, s:f}", "cluster", (int)other, "distance", next));
    json_object_set_new(j, "margin", json_real(next - own));
}

/* Sends the clip's features through what the source's went through. *why stays NULL when distances are there.
 */
static int measure(const struct look *l, const struct transform *t, uint32_t label, json_t *j,
                   const char **why, struct err *e)
{
    const float *parts[TRANSFORM_PARTS_MAX];
    int rc = 0;
    float *x = malloc((t->d + t->p) * sizeof *x), *at = x;
    if (!x)
        return err_sys(e, ENOMEM, "a row of %u columns", t->d);
    bool there = true;
    for (uint32_t i = 0; there && rc == 0 && i < t->parts; i++) {
        there = read_part(l, &t->part[i], at, why, &rc, e);
        parts[i] = at;
        at += t->part[i].dim;
    }
    if (there && rc == 0)
        rc = transform_row(t, parts, at, e);
    if (there && rc == 0) {
        put_distances(t, at, label, j);
        *why = NULL;
    }
    free(x);
    return rc;
}

static int put_source(const struct look *l, uint32_t s, json_t *list, struct err *e)
{
    const struct label_info *info = label_table_info(l->table);
    uint32_t label = label_table_get(l->table, s, l->clip);
    json_t *j = json_pack("{s:s, s:i}", "source", info->source[s].name, "k", (int)info->source[s].k);
    if (json_array_append_new(list, j))
        return err_sys(e, ENOMEM, "round %u", l->round);
    if (label == LABEL_NONE)
        return json_object_set_new(j, "label", json_null());
    uint64_t size = 0;
    for (uint64_t i = 0; i < info->clips; i++)
        size += label_table_get(l->table, s, i) == label;
    json_object_set_new(j, "label", json_integer(label));
    json_object_set_new(j, "size", json_integer((json_int_t)size));
    char path[PATH_MAX];
    struct transform t;
    uint64_t dump = 0;
    const char *why = l->no_dump;
    int rc = transform_path(l->conf->run.dir, l->round, info->source[s].name, path, e);
    if (rc)
        return rc;
    rc = transform_read(path, &t, &dump, e);
    if (rc == -ENOENT)
        why = "no centroids are kept: its labels were given, come from heads, or are of an older version";
    else if (rc)
        return rc;
    else if (dump != info->features || label >= t.k)
        why = "the centroids that are kept are of another clustering";
    else if (l->dump)
        rc = measure(l, &t, label, j, &why, e);
    if (rc != -ENOENT)
        transform_close(&t);
    if (why)
        json_object_set_new(j, "missing", json_string(why));
    return rc == -ENOENT ? 0 : rc;
}

/* The dump that the table was made of, if it is there. */
static int open_dump(struct look *l, struct err *e)
{
    char path[PATH_MAX];
    struct err own;
    int rc = fs_path(path, e, "%s/features/round-%04u", l->conf->run.dir, l->round);
    if (rc)
        return rc;
    l->no_dump = NULL;
    rc = feature_dump_open(path, &l->dump, &own);
    if (rc == -ENOENT)
        l->no_dump = "the dump of its features is no longer there";
    else if (rc)
        l->no_dump = "the dump of its features cannot be read";
    else if (feature_dump_info(l->dump)->hash != label_table_info(l->table)->features)
        l->no_dump = "the dump that is there is not the one that was clustered";
    if (rc == 0 && l->no_dump) {
        feature_dump_close(l->dump);
        l->dump = NULL;
    }
    return 0;
}

int explain_round(const struct conf *c, uint64_t manifest, uint32_t round, uint64_t clip, json_t *out,
                  struct err *e)
{
    struct look l = {.conf = c, .round = round, .clip = clip};
    char path[PATH_MAX];
    int rc = label_table_path(c->run.dir, round, path, e);
    if (rc == 0)
        rc = label_table_open(path, &l.table, e);
    if (rc)
        return rc == -ENOENT ? 0 : rc;
    json_t *list = json_array();
    rc = label_table_info(l.table)->manifest == manifest
             ? open_dump(&l, e)
             : err_set(e, XDC_EMISMATCH, "%s is not the manifest of %s", c->data.manifest, path);
    for (uint32_t s = 0; rc == 0 && s < label_table_info(l.table)->sources; s++)
        rc = put_source(&l, s, list, e);
    feature_dump_close(l.dump);
    label_table_close(l.table);
    json_array_append_new(out, json_pack("{s:i, s:o}", "round", (int)round, "sources", list));
    return rc;
}
