/* cluster_job: real manifests, dumps and tables in a temporary directory. */
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

static void configure(struct fixture *f, const char *method, const char *k, const char *normalize,
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
static int setup(void **state)
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

static int teardown(void **state)
{
    struct fixture *f = *state;
    int rc = fs_remove_tree(f->dir, NULL);
    free(f);
    return rc;
}

static bool has_audio(uint64_t clip)
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

static bool is_held(const struct fixture *f, uint64_t clip)
{
    struct clip_holdout h;
    clip_holdout_init(&h, (uint64_t)f->conf.run.seed, f->conf.train.holdout,
                      (uint64_t)f->conf.train.holdout_min_clips, VIDEOS, PER_VIDEO);
    return clip_holdout_has(&h, clip / PER_VIDEO);
}

static void dump_dir(const struct fixture *f, uint32_t round, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/run/features/round-%04u", f->dir, round);
}

/* Begins the shards of a dump, and returns their number. */
static uint32_t create_shards(const struct fixture *f, const struct dump *d, struct feature_store *out[2])
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
static uint64_t make_dump(const struct fixture *f, const struct dump *d)
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
static unsigned plain_held(const struct fixture *f)
{
    unsigned n = 0;
    for (uint64_t c = 0; c < CLIPS; c++)
        n += is_held(f, c) && has_audio(c);
    return n;
}

static void run_job(const struct fixture *f, uint32_t round, const atomic_bool *stop, struct cluster_job *job)
{
    *job = (struct cluster_job){.conf = &f->conf,
                                .run = conf_identity(&f->conf, f->manifest),
                                .manifest = f->manifest,
                                .round = round,
                                .stop = stop};
    cluster_job_run(job);
}

static struct label_table *open_table(const struct fixture *f, uint32_t round)
{
    char path[PATH_MAX];
    struct label_table *t;
    struct err e = {0};
    snprintf(path, sizeof path, "%s/run/labels/round-%04u.xdcl", f->dir, round);
    if (label_table_open(path, &t, &e))
        fail_msg("%s", e.msg);
    return t;
}

static double figure(const struct cluster_job *job, const char *source, const char *key)
{
    json_t *j = json_object_get(json_object_get(json_object_get(job->quality, "sources"), source), key);
    if (!json_is_number(j))
        fail_msg("no %s of %s", key, source);
    return json_number_value(j);
}

static bool has_figure(const struct cluster_job *job, const char *source, const char *key)
{
    return json_object_get(json_object_get(json_object_get(job->quality, "sources"), source), key) != NULL;
}

/* One clustering per encoder: planted classes are found, absent rows have no label, the table names what it
 * was made of. */
static void one_source_per_encoder(void **state)
{
    struct fixture *f = *state;
    struct cluster_job job;
    uint64_t hash = make_dump(f, &(struct dump){.round = 0});
    run_job(f, 0, NULL, &job);
    if (job.result)
        fail_msg("%s", job.err.msg);
    struct label_table *t = open_table(f, 0);
    const struct label_info *i = label_table_info(t);
    assert_true(i->features == hash && job.features == hash);
    assert_true(i->run == conf_identity(&f->conf, f->manifest) && i->manifest == f->manifest);
    assert_true(i->hash == job.table);
    assert_int_equal(i->clips, CLIPS);
    assert_int_equal(i->sources, 2);
    assert_int_equal(label_table_source(t, "video"), 0);
    assert_int_equal(label_table_source(t, "audio"), 1);
    for (uint64_t c = 0; c < CLIPS; c++) {
        assert_int_equal(label_table_get(t, 0, c), label_table_get(t, 0, c % (PER_VIDEO * CLASSES)));
        assert_int_equal(label_table_get(t, 1, c) == LABEL_NONE, !has_audio(c));
    }
    char *text = json_dumps(job.quality, JSON_COMPACT);
    assert_string_equal(text, label_table_quality(t));
    free(text);
    label_table_close(t);
    assert_int_equal((int)figure(&job, "video", "n"), CLIPS);
    assert_int_equal((int)figure(&job, "audio", "n"), CLIPS - CLIPS / 10);
    assert_true(figure(&job, "video", "ami_truth") > 0.999);
    assert_true(figure(&job, "audio", "nmi_truth") > 0.999);
    assert_true(figure(&job, "audio", "ami_other") > 0.999);
    assert_true(figure(&job, "video", "ari_truth") > 0.999);
    assert_true(figure(&job, "video", "accuracy_truth") > 0.999);
    assert_true(figure(&job, "audio", "purity_truth") > 0.999);
    assert_true(figure(&job, "audio", "entropy_truth") < 0.001);
    assert_true(fabs(figure(&job, "video", "imbalance") - 1) < 1e-9);
    assert_false(has_figure(&job, "video", "ami_previous"));
    assert_true(job.row_passes == job.row_passes_total);
    cluster_job_close(&job);
}

/* Rows that do not fit the configured memory lie in a file meanwhile: the table has the same bytes, with all
 * methods that read them in their own way, and nothing is left behind. */
static void same_bytes_from_a_file(void **state)
{
    struct fixture *f = *state;
    static const char *const methods[] = {"xdc", "cdc", "cdc"};
    static const char *const normalize[] = {"none", "none", "pca-whiten-l2"};
    for (uint32_t i = 0; i < 3; i++) {
        struct cluster_job job;
        uint64_t table = 0;
        char command[128];
        configure(f, methods[i], "4", normalize[i], "variance");
        make_dump(f, &(struct dump){.round = i, .dim = DIM_MAX}); /* 1.17 MiB */
        for (int64_t mib = 2; mib > 0; mib--) {
            f->conf.cluster.memory_mib = mib;
            run_job(f, i, NULL, &job);
            if (job.result)
                fail_msg("%s", job.err.msg);
            if (mib == 1)
                assert_true(job.table == table);
            table = job.table;
            cluster_job_close(&job);
        }
        snprintf(command, sizeof command, "ls %s/run | grep -q rows-", f->dir);
        assert_int_not_equal(system(command), 0);
    }
}

/* Any number of threads, and a second run after a first, give the same bytes. */
static void same_bytes_again(void **state)
{
    struct fixture *f = *state;
    struct cluster_job job;
    char path[PATH_MAX], *first = NULL;
    size_t first_size = 0;
    configure(f, "xdc", "23", "pca-whiten-l2", "none");
    make_dump(f, &(struct dump){.round = 7});
    snprintf(path, sizeof path, "%s/run/labels/round-0007.xdcl", f->dir);
    for (int64_t threads = 1; threads <= 4; threads++) {
        char *data;
        size_t size;
        f->conf.cluster.threads = threads;
        run_job(f, 7, NULL, &job);
        assert_int_equal(job.result, 0);
        cluster_job_close(&job);
        assert_int_equal(fs_read(path, 1 << 24, &data, &size, NULL), 0);
        if (first) {
            assert_int_equal(size, first_size);
            assert_memory_equal(data, first, size);
            free(data);
        } else {
            first = data;
            first_size = size;
        }
        if (threads > 1)
            assert_int_equal(unlink(path), 0);
    }
    free(first);
}

static void read_labels(const struct fixture *f, uint32_t round, uint32_t labels[2][CLIPS])
{
    struct label_table *t = open_table(f, round);
    for (uint32_t s = 0; s < 2; s++)
        for (uint64_t c = 0; c < CLIPS; c++)
            labels[s][c] = label_table_get(t, s, c);
    label_table_close(t);
}

/* cluster.init is heeded: from other first centroids the clusters are others. */
static void first_centroids(void **state)
{
    struct fixture *f = *state;
    uint32_t labels[3][2][CLIPS];
    configure(f, "xdc", "23", "none", "none");
    for (int64_t init = 0; init < 3; init++) {
        struct cluster_job job;
        char dir[PATH_MAX];
        f->conf.cluster.init = init; /* part of the run's identity, which the dump bears */
        make_dump(f, &(struct dump){.round = 8});
        run_job(f, 8, NULL, &job);
        assert_int_equal(job.result, 0);
        read_labels(f, 8, labels[init]);
        cluster_job_close(&job);
        dump_dir(f, 8, dir);
        assert_int_equal(fs_remove_tree(dir, NULL), 0);
    }
    assert_memory_not_equal(labels[0], labels[1], sizeof labels[0]);
    assert_memory_not_equal(labels[1], labels[2], sizeof labels[0]);
    assert_memory_not_equal(labels[0], labels[2], sizeof labels[0]);
}

/* The same rows in two shards, cut at any place, give the same labels and figures, bit for bit; the table
 * names the dump that it was made of. */
static void two_shards(void **state)
{
    struct fixture *f = *state;
    static const char *const methods[] = {"xdc", "cdc"};
    static const uint64_t borders[] = {0, 333, 1, CLIPS - 1};
    for (uint32_t i = 0; i < 8; i++) {
        static json_t *quality;
        static uint32_t labels[2][CLIPS];
        struct cluster_job job;
        char dir[PATH_MAX];
        uint32_t round = 30 + i / 4;
        configure(f, methods[i / 4], "23", "pca-whiten-l2", "l2");
        uint64_t hash = make_dump(f, &(struct dump){.round = round, .border = borders[i % 4]});
        run_job(f, round, NULL, &job);
        if (job.result)
            fail_msg("%s", job.err.msg);
        struct label_table *t = open_table(f, round);
        assert_true(label_table_info(t)->features == hash && job.features == hash);
        assert_int_equal(label_table_info(t)->clips, CLIPS);
        for (uint32_t s = 0; s < label_table_info(t)->sources; s++)
            for (uint64_t c = 0; c < CLIPS; c++) {
                if (i % 4 == 0)
                    labels[s][c] = label_table_get(t, s, c);
                assert_int_equal(label_table_get(t, s, c), labels[s][c]);
            }
        if (i % 4 == 0)
            quality = json_incref(job.quality);
        assert_true(json_equal(quality, job.quality));
        if (i % 4 == 3)
            json_decref(quality);
        label_table_close(t);
        cluster_job_close(&job);
        dump_dir(f, round, dir);
        assert_int_equal(fs_remove_tree(dir, NULL), 0);
    }
}

/* A dump of which a shard is missing is none yet; one of which a shard is another round's is refused by name.
 */
static void incomplete_dump(void **state)
{
    struct fixture *f = *state;
    struct cluster_job job;
    char dir[PATH_MAX], other[PATH_MAX], from[PATH_MAX + 16], to[PATH_MAX + 16];
    make_dump(f, &(struct dump){.round = 40, .border = 200});
    make_dump(f, &(struct dump){.round = 41, .border = 200});
    dump_dir(f, 40, dir);
    dump_dir(f, 41, other);
    snprintf(to, sizeof to, "%s/rank-1", dir);
    snprintf(from, sizeof from, "%s/rank-1", other);
    assert_int_equal(fs_remove_tree(to, NULL), 0);
    run_job(f, 40, NULL, &job);
    assert_int_equal(job.result, -ENOENT);
    assert_non_null(strstr(job.err.msg, "round-0040/rank-1 is not sealed yet"));
    cluster_job_close(&job);
    assert_int_equal(rename(from, to), 0);
    run_job(f, 40, NULL, &job);
    assert_int_equal(job.result, XDC_EMISMATCH);
    assert_non_null(strstr(job.err.msg, "round-0040/rank-1 was sealed with round 41, rank 0 with 40"));
    cluster_job_close(&job);
}

/* cdc clusters the clips that have both, with every scaling; scaling decides which modality makes the
 * clusters. */
static void joint(void **state)
{
    struct fixture *f = *state;
    static const char *const scales[] = {"none", "l2", "variance"}, *const normalize[] = {"none", "l2",
                                                                                          "pca-whiten-l2"};
    for (uint32_t i = 0; i < 9; i++) {
        struct cluster_job job;
        configure(f, "cdc", "4", normalize[i / 3], scales[i % 3]);
        make_dump(f, &(struct dump){.round = 20 + i, .audio_scale = 1000});
        run_job(f, 20 + i, NULL, &job);
        if (job.result)
            fail_msg("%s", job.err.msg);
        struct label_table *t = open_table(f, 20 + i);
        assert_int_equal(label_table_info(t)->sources, 1);
        assert_int_equal(label_table_source(t, "joint"), 0);
        for (uint64_t c = 0; c < CLIPS; c++)
            assert_int_equal(label_table_get(t, 0, c) == LABEL_NONE, !has_audio(c));
        label_table_close(t);
        json_t *j = json_object_get(json_object_get(json_object_get(job.quality, "sources"), "joint"),
                                    "inertia_share");
        double video = json_number_value(json_object_get(j, "video")),
               audio = json_number_value(json_object_get(j, "audio"));
        assert_true(fabs(video + audio - 1) < 1e-12);
        if (i % 3 == 0)
            assert_true(audio > 0.999); /* a thousand times the norm */
        else if (i / 3 < 2)
            assert_true(video > 0.3 && video < 0.7);
        if (i / 3 < 2)
            assert_true(figure(&job, "joint", "ami_truth") > 0.999);
        assert_false(has_figure(&job, "joint", "ami_other"));
        cluster_job_close(&job);
    }
}

/* The round before is measured against where its table is there and of the same run. */
static void previous_round(void **state)
{
    struct fixture *f = *state;
    struct cluster_job job;
    for (uint32_t round = 50; round < 52; round++) {
        make_dump(f, &(struct dump){.round = round});
        run_job(f, round, NULL, &job);
        assert_int_equal(job.result, 0);
        assert_true(has_figure(&job, "audio", "ami_previous") == (round == 51));
        if (round == 51) {
            assert_true(figure(&job, "video", "ami_previous") > 0.999);
            assert_true(figure(&job, "video", "churn") == 0);
        }
        cluster_job_close(&job);
    }
    char dump[PATH_MAX];
    snprintf(dump, sizeof dump, "%s/run/features/round-0051", f->dir);
    assert_int_equal(fs_remove_tree(dump, NULL), 0);
    configure(f, "xdc", "5", "none", "none"); /* another run */
    make_dump(f, &(struct dump){.round = 51});
    run_job(f, 51, NULL, &job);
    assert_int_equal(job.result, 0);
    assert_false(has_figure(&job, "video", "ami_previous"));
    cluster_job_close(&job);
}

/* Clusters of the same clips have the same ids in every round, those of the hold-out too, though k-means by
 * itself gives them others. */
static void ids_are_stable(void **state)
{
    struct fixture *f = *state;
    static uint32_t first[2][CLIPS], alone[2][CLIPS], now[2][CLIPS];
    struct cluster_job job;
    unsigned permuted = 0;
    f->conf.train.holdout = 0.1;
    f->conf.train.holdout_min_clips = CLIPS;
    for (uint32_t round = 15; round >= 10; round--) { /* none has a table before it yet */
        make_dump(f, &(struct dump){.round = round});
        run_job(f, round, NULL, &job);
        assert_int_equal(job.result, 0);
        assert_false(has_figure(&job, "video", "churn"));
        cluster_job_close(&job);
    }
    read_labels(f, 10, first);
    for (uint32_t round = 11; round <= 15; round++) {
        read_labels(f, round, alone);
        run_job(f, round, NULL, &job);
        assert_int_equal(job.result, 0);
        read_labels(f, round, now);
        permuted += memcmp(alone, first, sizeof first) != 0;
        assert_memory_equal(now, first, sizeof first);
        assert_true(figure(&job, "video", "churn") == 0 && figure(&job, "audio", "churn") == 0);
        cluster_job_close(&job);
    }
    assert_true(permuted > 0);
}

/* A table counts for exactly the dump it was made of; a damaged one is none. */
static void finds_the_table_of_a_dump(void **state)
{
    struct fixture *f = *state;
    struct cluster_job job;
    struct feature_dump *d;
    struct feature_info info;
    json_t *quality;
    uint64_t hash;
    char path[PATH_MAX];
    make_dump(f, &(struct dump){.round = 3});
    assert_int_equal(
        cluster_dump_open(&f->conf, 3, conf_identity(&f->conf, f->manifest), f->manifest, &d, NULL), 0);
    info = *feature_dump_info(d);
    feature_dump_close(d);
    assert_int_equal(cluster_table_find(&f->conf, &info, &hash, &quality), -ENOENT);
    run_job(f, 3, NULL, &job);
    assert_int_equal(cluster_table_find(&f->conf, &info, &hash, &quality), 0);
    assert_true(hash == job.table);
    assert_true(json_equal(quality, job.quality));
    json_decref(quality);
    cluster_job_close(&job);
    info.hash++;
    assert_int_equal(cluster_table_find(&f->conf, &info, &hash, &quality), -ENOENT);
    info.hash--;
    snprintf(path, sizeof path, "%s/run/labels/round-0003.xdcl", f->dir);
    assert_int_equal(truncate(path, 200), 0);
    assert_int_equal(cluster_table_find(&f->conf, &info, &hash, &quality), -ENOENT);
}

/* What cannot be clustered is refused with a sentence that names it, and leaves no table. */
static void refusals(void **state)
{
    struct fixture *f = *state;
    const struct {
        struct dump dump;
        const char *method, *k;
        int code;
        const char *words;
    } cases[] = {
        {{.manifest = 5}, "xdc", "4", XDC_EMISMATCH, "is of manifest 0000000000000005"},
        {{.run = 6}, "xdc", "4", XDC_EMISMATCH, "is of run 0000000000000006"},
        {{.second = "audio-b"}, "xdc", "4", XDC_EMISMATCH, "no features of the encoder audio"},
        {{.rows = 30},
         "xdc",
         "28",
         XDC_EFORMAT,
         "source audio: k-means: 28 clusters need at least as many rows, there are 27"},
        {{.bad_clip = 17},
         "xdc",
         "4",
         XDC_EFORMAT,
         "source video: the features of clip 17 by the encoder video are not finite"},
        {{0}, "supervised", "4", XDC_EMISMATCH, "supervised"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cluster_job job;
        char path[PATH_MAX];
        struct dump d = cases[i].dump;
        d.round = 60 + (uint32_t)i;
        configure(f, cases[i].method, cases[i].k, "none", "none");
        make_dump(f, &d);
        run_job(f, d.round, NULL, &job);
        assert_int_equal(job.result, cases[i].code);
        if (!strstr(job.err.msg, cases[i].words))
            fail_msg("'%s' is not in '%s'", cases[i].words, job.err.msg);
        snprintf(path, sizeof path, "%s/run/labels/round-%04u.xdcl", f->dir, d.round);
        assert_int_equal(access(path, F_OK), -1);
        cluster_job_close(&job);
    }
}

/* No dump, and a stop, end the job; the stop leaves no table. */
static void no_dump_and_stop(void **state)
{
    struct fixture *f = *state;
    struct cluster_job job;
    atomic_bool stop = true;
    run_job(f, 90, NULL, &job);
    assert_int_equal(job.result, -ENOENT);
    cluster_job_close(&job);
    make_dump(f, &(struct dump){.round = 91});
    run_job(f, 91, &stop, &job);
    assert_int_equal(job.result, XDC_ESTOPPED);
    assert_null(job.quality);
    cluster_job_close(&job);
}

/* Videos of the hold-out, however far out they lie and in whatever direction, change no other label; their
 * own is that of the class in whose direction they lie. With every method and normalisation. */
static void held_out_rows_are_labelled_only(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *method, *normalize, *scale;
    } rows[] = {{"xdc", "none", "none"},         {"xdc", "l2", "none"}, {"xdc", "pca-whiten-l2", "none"},
                {"cdc", "none", "variance"},     {"cdc", "none", "l2"}, {"cdc", "l2", "none"},
                {"cdc", "pca-whiten-l2", "none"}};
    static uint32_t plain[2][CLIPS];
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t round = 70 + i, held = 0, of_class[2][CLASSES];
        configure(f, rows[i].method, "4", rows[i].normalize, rows[i].scale);
        f->conf.train.holdout = 0.1;
        f->conf.train.holdout_min_clips = CLIPS;
        for (unsigned move = 0; move < 2; move++) {
            struct cluster_job job;
            char dump[PATH_MAX];
            make_dump(f, &(struct dump){.round = round, .move = move});
            run_job(f, round, NULL, &job);
            if (job.result)
                fail_msg("%s", job.err.msg);
            struct label_table *t = open_table(f, round);
            for (uint32_t s = 0; s < label_table_info(t)->sources; s++)
                for (uint64_t c = 0; c < CLIPS; c++) {
                    uint32_t label = label_table_get(t, s, c);
                    unsigned class = (unsigned)(c / PER_VIDEO) % CLASSES;
                    bool out = is_held(f, c);
                    held += out;
                    if (move == 0)
                        plain[s][c] = label;
                    if (move == 0 && !out && label != LABEL_NONE)
                        of_class[s][class] = label;
                    if (!out)
                        assert_int_equal(label, plain[s][c]);
                    else if (label != LABEL_NONE && move)
                        assert_int_equal(label, of_class[s][(class + 1) % CLASSES]);
                }
            const char *source = cluster_source_name(&f->conf, 0);
            assert_int_equal((int)figure(&job, source, "held_out"),
                             strcmp(source, "video") == 0 ? CLIPS / 10 : (int)plain_held(f));
            assert_true(job.row_passes == job.row_passes_total || label_table_info(t)->sources == 1);
            label_table_close(t);
            cluster_job_close(&job);
            snprintf(dump, sizeof dump, "%s/run/features/round-%04u", f->dir, round);
            assert_int_equal(fs_remove_tree(dump, NULL), 0);
        }
        assert_true(held > 0);
    }
}

int main(void)
{
#define CASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(one_source_per_encoder),
        CASE(same_bytes_again),
        CASE(same_bytes_from_a_file),
        CASE(joint),
        CASE(previous_round),
        CASE(ids_are_stable),
        CASE(finds_the_table_of_a_dump),
        CASE(refusals),
        CASE(no_dump_and_stop),
        CASE(first_centroids),
        CASE(two_shards),
        CASE(incomplete_dump),
        CASE(held_out_rows_are_labelled_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
