/* jobs: what tests of cluster_job share: a manifest of classes, dumps whose clouds follow them, and running
 * the job on one. Each test has a temporary directory of its own. A failure fails the test. */
#pragma once
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "lib/clip.h"
#include "lib/fsutil.h"
#include "lib/label_table.h"
#include "lib/manifest.h"
#include "lib/rng.h"
#include "services/clusterer/cluster_job.h"

#define VIDEOS 300
#define PER_VIDEO 2
#define CLIPS (VIDEOS * PER_VIDEO)
#define CLASSES 4
#define DIM_MAX 512

struct fixture {
    char dir[64];
    uint64_t manifest;
    struct conf conf;
};

static inline void configure(struct fixture *f, const char *method, const char *k, const char *normalize,
                             const char *scale)
{
    char values[7][160];
    const char *sets[7];
    snprintf(values[0], sizeof values[0], "run.dir=%s/run", f->dir);
    snprintf(values[1], sizeof values[1], "data.manifest=%s/manifest.lmdb", f->dir);
    snprintf(values[2], sizeof values[2], "method=%s", method);
    snprintf(values[3], sizeof values[3], "cluster.k=%s", k);
    snprintf(values[4], sizeof values[4], "cluster.normalize=%s", normalize);
    snprintf(values[5], sizeof values[5], "cluster.scale=%s", scale);
    snprintf(values[6], sizeof values[6], "data.clips_per_video=%d", PER_VIDEO);
    for (size_t i = 0; i < 7; i++)
        sets[i] = values[i];
    struct err e = {0};
    if (conf_load(NULL, sets, 7, NULL, NULL, &f->conf, &e))
        fail_msg("%s", e.msg);
}

/* Videos of four classes; every fifth has no truth. */
static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct manifest *m;
    struct manifest_video v = {.size_bytes = 1, .duration_s = 2, .fps = 30, .width = 8, .height = 8};
    int32_t class;
    char path[PATH_MAX];
    snprintf(f->dir, sizeof f->dir, "/tmp/test_cluster_job.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(path, sizeof path, "%s/manifest.lmdb", f->dir);
    assert_int_equal(manifest_create(path, f->dir, &m, NULL), 0);
    for (int c = 0; c < CLASSES; c++) {
        snprintf(v.uri, sizeof v.uri, "class %d", c);
        assert_int_equal(manifest_class(m, v.uri, &class, NULL), 0);
        assert_int_equal(class, c);
    }
    for (int i = 0; i < VIDEOS; i++) {
        snprintf(v.uri, sizeof v.uri, "%04d.mp4", i);
        v.truth = i % 5 == 0 ? -1 : i % CLASSES;
        assert_int_equal(manifest_append(m, &v, NULL), 0);
    }
    assert_int_equal(manifest_commit(m, NULL), 0);
    f->manifest = manifest_identity(m);
    manifest_close(m);
    configure(f, "xdc", "4", "none", "none");
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    int rc = fs_remove_tree(f->dir, NULL);
    free(f);
    return rc;
}

static inline bool has_audio(uint64_t clip)
{
    return clip % 10 != 3;
}

struct dump {
    uint32_t round;
    uint64_t run, manifest; /* 0: the right ones */
    double audio_scale;     /* 0: 1 */
    const char *second;     /* NULL: "audio" */
    uint64_t bad_clip;      /* too large video features; 0: none */
    uint64_t rows;          /* 0: CLIPS */
    uint64_t border;        /* 0: one shard; else two, the second from this clip on */
    uint32_t dim;           /* of video features; 0: 8 */
    unsigned move; /* > 0: clips of the hold-out lie far out, in the direction of so many classes on */
};

static inline bool is_held(const struct fixture *f, uint64_t clip)
{
    struct clip_holdout h;
    clip_holdout_init(&h, (uint64_t)f->conf.run.seed, f->conf.train.holdout,
                      (uint64_t)f->conf.train.holdout_min_clips, VIDEOS, PER_VIDEO);
    return clip_holdout_has(&h, clip / PER_VIDEO);
}

static inline void dump_dir(const struct fixture *f, uint32_t round, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/run/features/round-%04u", f->dir, round);
}

/* Begins the shards of a dump, and returns their number. */
static inline uint32_t create_shards(const struct fixture *f, const struct dump *d,
                                     struct feature_store *out[2])
{
    uint64_t rows = d->rows ? d->rows : CLIPS;
    struct feature_info info = {
        .manifest = d->manifest ? d->manifest : f->manifest,
        .run = d->run ? d->run : conf_identity(&f->conf, f->manifest),
        .total = rows,
        .round = d->round,
        .ranks = d->border ? 2 : 1,
        .dtype = FEATURE_F32,
        .encoders = 2,
        .encoder = {{.name = "video", .dim = d->dim ? d->dim : 8}, {.dim = 5}},
    };
    char dir[PATH_MAX], path[PATH_MAX + 16];
    snprintf(info.encoder[1].name, sizeof info.encoder[1].name, "%s", d->second ? d->second : "audio");
    dump_dir(f, d->round, dir);
    assert_int_equal(fs_mkdirs(dir, NULL), 0);
    for (info.rank = 0; info.rank < info.ranks; info.rank++) {
        info.first = info.rank ? d->border : 0;
        info.rows = info.ranks == 2 && info.rank == 0 ? d->border : rows - info.first;
        snprintf(path, sizeof path, "%s/rank-%u", dir, info.rank);
        assert_int_equal(feature_store_create(path, &info, &out[info.rank], NULL), 0);
    }
    return info.ranks;
}

/* Clouds far apart by class in both modalities; some clips without sound. Returns the dump's hash. */
static inline uint64_t make_dump(const struct fixture *f, const struct dump *d)
{
    struct feature_store *shards[2];
    struct rng r;
    uint64_t rows = d->rows ? d->rows : CLIPS, hashes[2];
    uint32_t ranks = create_shards(f, d, shards);
    rng_init(&r, d->round);
    for (uint64_t i = 0; i < rows; i++) {
        struct feature_store *s = shards[ranks == 2 && i >= d->border];
        unsigned class = (unsigned)(i / PER_VIDEO) % CLASSES;
        float x[DIM_MAX], scale = (float)(d->audio_scale > 0 ? d->audio_scale : 1);
        bool moved = d->move > 0 && is_held(f, i);
        float far = moved ? 5000 : 10;
        class = (class + (moved ? d->move : 0)) % CLASSES;
        for (unsigned j = 0; j < (d->dim ? d->dim : 8); j++)
            x[j] = (float)(100 + (j % CLASSES == class ? far : 0) + rng_normal(&r));
        if (d->bad_clip && i == d->bad_clip)
            x[2] = 3e38f;
        assert_int_equal(feature_store_put(s, 0, i, x, NULL), 0);
        for (unsigned j = 0; j < 5; j++)
            x[j] = scale * (float)((j == class ? far : 0) + rng_normal(&r));
        if (has_audio(i))
            assert_int_equal(feature_store_put(s, 1, i, x, NULL), 0);
    }
    for (uint32_t i = 0; i < ranks; i++) {
        assert_int_equal(feature_store_seal(shards[i], &hashes[i], NULL), 0);
        feature_store_close(shards[i]);
    }
    return feature_dump_hash(hashes, ranks);
}

/* Clips of the hold-out that have both modalities. */
static inline unsigned plain_held(const struct fixture *f)
{
    unsigned n = 0;
    for (uint64_t c = 0; c < CLIPS; c++)
        n += is_held(f, c) && has_audio(c);
    return n;
}

static inline void run_job(const struct fixture *f, uint32_t round, const atomic_bool *stop,
                           struct cluster_job *job)
{
    *job = (struct cluster_job){.conf = &f->conf,
                                .run = conf_identity(&f->conf, f->manifest),
                                .manifest = f->manifest,
                                .round = round,
                                .stop = stop};
    cluster_job_run(job);
}

static inline struct label_table *open_table(const struct fixture *f, uint32_t round)
{
    char path[PATH_MAX];
    struct label_table *t;
    struct err e = {0};
    snprintf(path, sizeof path, "%s/run/labels/round-%04u.xdcl", f->dir, round);
    if (label_table_open(path, &t, &e))
        fail_msg("%s", e.msg);
    return t;
}

static inline double figure(const struct cluster_job *job, const char *source, const char *key)
{
    json_t *j = json_object_get(json_object_get(json_object_get(job->quality, "sources"), source), key);
    if (!json_is_number(j))
        fail_msg("no %s of %s", key, source);
    return json_number_value(j);
}

static inline bool has_figure(const struct cluster_job *job, const char *source, const char *key)
{
    return json_object_get(json_object_get(json_object_get(job->quality, "sources"), source), key) != NULL;
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
