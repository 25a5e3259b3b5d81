/* What the clusterer cannot work with: each is refused with a code and a sentence that names row, file or
 * round, and nothing is published. */
#include <dirent.h>
#include "tests/unit/clusterer/clusterer_run.h"

/* Nothing with a final name is in labels/. */
static void expect_nothing(const struct fixture *f)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/run/labels", f->dir);
    DIR *d = opendir(path);
    for (const struct dirent *entry; d && (entry = readdir(d));)
        if (entry->d_name[0] != '.')
            fail_msg("%s was left behind", entry->d_name);
    if (d)
        closedir(d);
}

static void expect_refusal(const struct fixture *f, uint32_t round, int code, const char *words)
{
    struct cluster_job job;
    run_job(f, round, NULL, &job);
    if (job.result != code || !strstr(job.err.msg, words))
        fail_msg("%d is not %d, or '%s' not in '%s'", job.result, code, words, job.err.msg);
    assert_null(job.quality);
    cluster_job_close(&job);
    expect_nothing(f);
}

/* A shard of `rows` clips of which the audio features take `kinds` values; video as in make_dump. */
static struct feature_info shard(const struct fixture *f, uint32_t round, uint64_t rows)
{
    return (struct feature_info){.manifest = f->manifest,
                                 .run = conf_identity(&f->conf, f->manifest),
                                 .rows = rows,
                                 .total = rows,
                                 .round = round,
                                 .ranks = 1,
                                 .dtype = FEATURE_F16,
                                 .encoders = 2,
                                 .encoder = {{.name = "video", .dim = 8}, {.name = "audio", .dim = 4}}};
}

static void seal(const struct fixture *f, uint32_t folder, const struct feature_info *info, unsigned kinds)
{
    char dir[PATH_MAX], path[PATH_MAX + 16];
    struct feature_store *s;
    struct rng r;
    uint64_t hash;
    dump_dir(f, folder, dir);
    assert_int_equal(fs_mkdirs(dir, NULL), 0);
    snprintf(path, sizeof path, "%s/rank-%u", dir, info->rank);
    assert_int_equal(feature_store_create(path, info, &s, NULL), 0);
    rng_init(&r, info->rank);
    for (uint64_t i = info->first; i < info->first + info->rows; i++) {
        float x[DIM_MAX] = {0};
        for (uint32_t j = 0; j < info->encoder[0].dim; j++)
            x[j] = (float)rng_normal(&r);
        assert_int_equal(feature_store_put(s, 0, i, x, NULL), 0);
        memset(x, 0, sizeof x);
        x[i % kinds % 4] = (float)(1 + i % kinds / 4);
        assert_int_equal(feature_store_put(s, 1, i, x, NULL), 0);
    }
    assert_int_equal(feature_store_seal(s, &hash, NULL), 0);
    feature_store_close(s);
}

/* As many clusters as different rows are made, one more is refused; whitening and L2 count what they leave
 * different: of 8 rows in 4 directions from the mean L2 leaves fewer. The joint source counts pairs. */
static void fewer_distinct_rows_than_clusters(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *method, *normalize, *k;
        unsigned kinds;
        const char *words; /* NULL: it is clustered */
    } cases[] = {
        {"xdc", "none", "8", 8, NULL},
        {"xdc", "none", "9", 8,
         "source audio: only 8 of the 400 rows differ as they are clustered, too few for 9 clusters; set "
         "cluster.k to 8 or less"},
        {"xdc", "pca-whiten-l2", "4", 4, NULL},
        {"xdc", "pca-whiten-l2", "5", 4, "source audio: only 4 of the 400 rows differ"},
        {"xdc", "l2", "2", 1, "source audio: only 1 of the 400 rows differ"},
        {"xdc", "pca-whiten-l2", "2", 1, "source audio: only 1 of the 400 rows differ"},
        {"cdc", "none", "9", 1, NULL},
        {"xdc", "none", "401", 8,
         "source video: 400 clips have features that can be clustered, too few for 401"},
        {"cdc", "l2", "500", 8, "source joint: 400 clips have features"},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char run[PATH_MAX];
        configure(f, cases[i].method, cases[i].k, cases[i].normalize, "none");
        struct feature_info info = shard(f, i, 400);
        seal(f, i, &info, cases[i].kinds);
        if (cases[i].words) {
            expect_refusal(f, i, XDC_EFORMAT, cases[i].words);
        } else {
            struct cluster_job job;
            run_job(f, i, NULL, &job);
            if (job.result)
                fail_msg("case %u: %s", i, job.err.msg);
            assert_true(figure(&job, i == 6 ? "joint" : "audio", "empty") < 0.5);
            cluster_job_close(&job);
        }
        snprintf(run, sizeof run, "%s/run", f->dir);
        assert_int_equal(fs_remove_tree(run, NULL), 0);
    }
}

/* L2 makes rows of one direction equal. */
static void equal_after_l2(void **state)
{
    struct fixture *f = *state;
    struct feature_info info;
    struct feature_store *s;
    char dir[PATH_MAX], path[PATH_MAX + 16];
    uint64_t hash;
    configure(f, "xdc", "4", "l2", "none");
    info = shard(f, 0, 100);
    dump_dir(f, 0, dir);
    assert_int_equal(fs_mkdirs(dir, NULL), 0);
    snprintf(path, sizeof path, "%s/rank-0", dir);
    assert_int_equal(feature_store_create(path, &info, &s, NULL), 0);
    for (uint64_t i = 0; i < 100; i++) {
        const float x[8] = {(float)((i % 2 ? 1 : -1) * (int64_t)(1 + i / 2))}; /* the mean is 0 */
        assert_int_equal(feature_store_put(s, 0, i, x, NULL), 0);
        assert_int_equal(feature_store_put(s, 1, i, x, NULL), 0);
    }
    assert_int_equal(feature_store_seal(s, &hash, NULL), 0);
    feature_store_close(s);
    expect_refusal(f, 0, XDC_EFORMAT, "source video: only 2 of the 100 rows differ as they are clustered");
}

/* A value that is no number never gets into a dump; one that is too large to square names clip and encoder,
 * though it is held out. */
static void values(void **state)
{
    struct fixture *f = *state;
    struct feature_info info = shard(f, 0, 4);
    struct feature_store *s;
    char path[PATH_MAX], words[128];
    struct err e = {0};
    const float nan[8] = {0, NAN}, infinite[8] = {0, 0, -INFINITY}, large[8] = {1e5f};
    snprintf(path, sizeof path, "%s/store", f->dir);
    assert_int_equal(feature_store_create(path, &info, &s, NULL), 0);
    assert_int_equal(feature_store_put(s, 0, 3, nan, &e), -ERANGE);
    assert_non_null(strstr(e.msg, "3"));
    assert_int_equal(feature_store_put(s, 0, 3, infinite, NULL), -ERANGE);
    assert_int_equal(feature_store_put(s, 0, 3, large, NULL), -ERANGE); /* as f16 */
    feature_store_close(s);
    /* Of clips of the hold-out and of others, in memory and where rows are streamed from the dump. */
    f->conf.train.holdout = 0.05;
    f->conf.train.holdout_min_clips = 1;
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t clip = CLIPS / 2;
        while (is_held(f, clip) != (i % 2 == 0))
            clip++;
        f->conf.cluster.memory_mib = i < 2 ? 2 : 1;
        make_dump(f, &(struct dump){.round = 4 + i, .bad_clip = clip, .dim = DIM_MAX}); /* 1.17 MiB */
        snprintf(words, sizeof words,
                 "the features of clip %llu by the encoder video are not finite, or too large",
                 (unsigned long long)clip);
        expect_refusal(f, 4 + i, XDC_EFORMAT, words);
    }
}

/* Shards that do not fit: of other columns, of another run, of another round than their folder says. */
static void shards(void **state)
{
    struct fixture *f = *state;
    struct feature_info info = shard(f, 1, 100);
    info.ranks = 2;
    info.total = 200;
    seal(f, 1, &info, 50);
    info.rank = 1;
    info.first = 100;
    info.encoder[1].dim = 5;
    seal(f, 1, &info, 50);
    expect_refusal(f, 1, XDC_EMISMATCH, "round-0001/rank-1");
    info = shard(f, 2, 100);
    info.run++;
    seal(f, 2, &info, 50);
    expect_refusal(f, 2, XDC_EMISMATCH, "round-0002/rank-0 is of run ");
    info = shard(f, 9, 100);
    seal(f, 3, &info, 50);
    expect_refusal(f, 3, XDC_EMISMATCH, "round-0003/rank-0 holds round 9");
}

/* A dump that was cut at any place, or of which a byte of the structure was altered, is named. */
static void cut_dump(void **state)
{
    struct fixture *f = *state;
    char path[PATH_MAX + 32], *data;
    size_t size;
    struct feature_info info = shard(f, 5, 5000);
    seal(f, 5, &info, 50);
    dump_dir(f, 5, path);
    strcat(path, "/rank-0/data.mdb");
    assert_int_equal(fs_read(path, 1 << 26, &data, &size, NULL), 0);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(truncate(path, (off_t)(size * (size_t)i / 8)), 0);
        expect_refusal(f, 5, XDC_EFORMAT, "round-0005/rank-0");
        assert_int_equal(fs_write_atomic(path, data, size, NULL), 0);
    }
    free(data);
}

/* The daemon says the same, and publishes nothing. */
static void daemon_refuses(void **state)
{
    struct fixture *f = *state;
    struct outcome seen;
    configure(f, "xdc", "9", "none", "none");
    struct feature_info info = shard(f, 0, 400);
    seal(f, 0, &info, 8);
    run_daemon(f, 0, &seen);
    assert_true(seen.failed && seen.tables == 0);
    assert_int_equal(seen.code, XDC_EFORMAT);
    assert_non_null(strstr(seen.detail, "cluster round 0: source audio: only 8 of the 400 rows differ"));
    expect_nothing(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {CASE(fewer_distinct_rows_than_clusters),
                                       CASE(equal_after_l2),
                                       CASE(values),
                                       CASE(shards),
                                       CASE(cut_dump),
                                       CASE(daemon_refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
