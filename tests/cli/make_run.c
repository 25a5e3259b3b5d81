/* make_run DIR KEY=VALUE...: a run of 30 videos of two clips in DIR/run, without decoding or training: a
 * manifest DIR/m.lmdb, for rounds 0 and 1 dumps and the clusterer's tables of them, a ledger of two epochs, a
 * quarantined video. For the test of `xdc explain clip`. The 11th clip has no features. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "lib/conf.h"
#include "lib/feature_store.h"
#include "lib/fsutil.h"
#include "lib/ledger.h"
#include "lib/manifest.h"
#include "lib/quarantine_file.h"
#include "lib/rng.h"
#include "services/clusterer/cluster_job.h"

#define VIDEOS 30
#define CLIPS (2 * VIDEOS)

static int make_manifest(const char *path, uint64_t *out, struct err *e)
{
    struct manifest *m;
    struct manifest_video v = {.size_bytes = 1, .duration_s = 9, .fps = 30, .width = 8, .height = 8};
    int rc = manifest_create(path, "/", &m, e);
    if (rc == 0)
        rc = manifest_class(m, "dogs", &v.truth, e);
    for (int i = 0; rc == 0 && i < VIDEOS; i++) {
        snprintf(v.uri, sizeof v.uri, "dogs/%d.mp4", i);
        rc = manifest_append(m, &v, e);
    }
    if (rc == 0)
        rc = manifest_commit(m, e);
    *out = rc == 0 ? manifest_identity(m) : 0;
    manifest_close(m);
    return rc;
}

static int make_record(const struct conf *c, struct err *e)
{
    char path[PATH_MAX], value[2 * CONF_STRING_MAX];
    json_t *config = json_object();
    for (size_t i = 0; i < conf_schema_len; i++) {
        conf_print_value(c, &conf_schema[i], value, sizeof value);
        json_object_set_new(config, conf_schema[i].key, json_string(value));
    }
    json_t *record = json_pack("{s:o}", "config", config);
    int rc = fs_mkdirs(c->run.dir, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/run.json", c->run.dir);
    if (rc == 0 && json_dump_file(record, path, 0))
        rc = err_set(e, XDC_EFORMAT, "%s cannot be written", path);
    json_decref(record);
    return rc;
}

static int make_round(const struct conf *c, uint32_t round, uint64_t manifest, struct err *e)
{
    char path[PATH_MAX];
    struct feature_store *s;
    struct rng r;
    uint64_t hash;
    struct feature_info info = {.manifest = manifest,
                                .run = conf_identity(c, manifest),
                                .rows = CLIPS,
                                .total = CLIPS,
                                .round = round,
                                .ranks = 1,
                                .dtype = FEATURE_F32,
                                .encoders = 2,
                                .encoder = {{.name = "video", .dim = 6}, {.name = "audio", .dim = 4}}};
    int rc = fs_path(path, e, "%s/features/round-%04u", c->run.dir, round);
    if (rc == 0)
        rc = fs_mkdirs(path, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/features/round-%04u/rank-0", c->run.dir, round);
    if (rc == 0)
        rc = feature_store_create(path, &info, &s, e);
    if (rc)
        return rc;
    rng_init(&r, round);
    for (uint64_t i = 0; rc == 0 && i < CLIPS; i++)
        for (uint32_t enc = 0; rc == 0 && enc < 2; enc++) {
            float x[6];
            for (uint32_t j = 0; j < 6; j++)
                x[j] = (float)((i % 3 == j ? 4 : 0) + rng_normal(&r));
            if (i != 11)
                rc = feature_store_put(s, enc, i, x, e);
        }
    if (rc == 0)
        rc = feature_store_seal(s, &hash, e);
    feature_store_close(s);
    struct cluster_job job = {.conf = c, .run = info.run, .manifest = manifest, .round = round};
    if (rc == 0) {
        cluster_job_run(&job);
        rc = job.result;
        *e = job.err;
        cluster_job_close(&job);
    }
    return rc;
}

/* Clip 7 is quarantined, and in the second epoch not drawn: clip 8 is, once more. */
static int make_ledger(const struct conf *c, struct err *e)
{
    struct ledger_mark mark = {0};
    struct ledger *l = NULL;
    char path[PATH_MAX];
    int rc = fs_path(path, e, "%s/ledger/rank-0", c->run.dir);
    if (rc == 0)
        rc = ledger_open(path, &mark, &l, e);
    for (uint64_t i = 0; rc == 0 && i < 2 * CLIPS; i++) {
        struct ledger_record r = {.step = i / 4, .position = i % CLIPS, .clip = i % CLIPS};
        r.clip = i == CLIPS + 7 ? 8 : r.clip;
        r.disposition = r.clip == 7 ? LEDGER_QUARANTINED : r.clip == 11 ? LEDGER_UNLABELLED : LEDGER_TRAINED;
        if (i == CLIPS)
            rc = ledger_next_epoch(l, e);
        if (rc == 0)
            rc = ledger_append(l, &r, 1, e);
    }
    ledger_close(l);
    return rc;
}

int main(int argc, char **argv)
{
    static struct conf c;
    struct err e = {0};
    struct quarantined_video bad = {.video = 3, .code = 7};
    struct quarantine_list q = {.videos = &bad, .n = 1};
    char manifest[PATH_MAX], path[PATH_MAX];
    if (argc < 2)
        return 64;
    int rc = fs_path(manifest, &e, "%s/m.lmdb", argv[1]);
    if (rc == 0)
        rc = conf_load(NULL, (const char *const *)argv + 2, (size_t)argc - 2, NULL, NULL, &c, &e);
    if (rc == 0)
        rc = make_manifest(manifest, &q.manifest, &e);
    if (rc == 0)
        rc = make_record(&c, &e);
    for (uint32_t round = 0; rc == 0 && round < 2; round++)
        rc = make_round(&c, round, q.manifest, &e);
    if (rc == 0)
        rc = make_ledger(&c, &e);
    if (rc == 0)
        rc = fs_path(path, &e, "%s/videos.quarantine", c.run.dir);
    if (rc == 0)
        rc = quarantine_file_write(path, &q, &e);
    if (rc)
        fprintf(stderr, "%s\n", e.msg);
    return rc ? 1 : 0;
}
