/* selavi_job through cluster_job: a small dump with heads of its own; what the golden test (NumPy) does not
 * see. */
#include <xxhash.h>
#include "lib/tensor.h"
#include "services/clusterer/selavi_job.h"
#include "tests/unit/clusterer/jobs.h"

#define HEADS 2
#define DIM 8
#define K 1000      /* rows of more than 1 MiB */
#define ROWS VIDEOS /* selavi: one clip a video */

static void configure_selavi(struct fixture *f)
{
    char values[9][160];
    const char *sets[9];
    snprintf(values[0], sizeof values[0], "run.dir=%s/run", f->dir);
    snprintf(values[1], sizeof values[1], "data.manifest=%s/manifest.lmdb", f->dir);
    snprintf(values[2], sizeof values[2], "data.clips_per_video=1");
    snprintf(values[3], sizeof values[3], "cluster.k=%d", K);
    snprintf(values[4], sizeof values[4], "selavi.heads=%d", HEADS);
    snprintf(values[5], sizeof values[5], "method=selavi");
    snprintf(values[6], sizeof values[6], "train.holdout_min_clips=100");
    snprintf(values[7], sizeof values[7], "selavi.iterations=4");
    snprintf(values[8], sizeof values[8], "selavi.align=false");
    for (size_t i = 0; i < 9; i++)
        sets[i] = values[i];
    struct err e = {0};
    if (conf_load(NULL, sets, 9, NULL, NULL, &f->conf, &e))
        fail_msg("%s", e.msg);
}

/* Linear heads of random weights; returns the file's hash. */
static uint64_t write_heads(const char *path)
{
    struct tensor t[4 * HEADS];
    float *data[4 * HEADS];
    struct rng r;
    size_t n = 0, size;
    char *bytes;
    rng_init(&r, 12);
    for (int m = 0; m < 2; m++)
        for (unsigned h = 0; h < HEADS; h++)
            for (int part = 0; part < 2; part++, n++) {
                size_t count = part ? K : K * DIM;
                data[n] = malloc(K * DIM * sizeof(float));
                for (size_t i = 0; i < count; i++)
                    data[n][i] = (float)rng_normal(&r);
                t[n] = (struct tensor){
                    .dtype = TENSOR_F32, .ndim = part ? 1 : 2, .shape = {K, DIM}, .data = data[n]};
                snprintf(t[n].name, sizeof t[n].name, "%s.heads.%u.%s", m ? "audio" : "video", h,
                         part ? "bias" : "weight");
            }
    assert_int_equal(safetensors_write(path, t, n, NULL, 0, NULL), 0);
    while (n > 0)
        free(data[--n]);
    assert_int_equal(fs_read(path, 1 << 24, &bytes, &size, NULL), 0);
    uint64_t hash = XXH3_64bits(bytes, size);
    free(bytes);
    return hash;
}

static void make_selavi_dump(const struct fixture *f, uint32_t round, uint64_t bad_clip)
{
    struct feature_info info = {.manifest = f->manifest,
                                .run = conf_identity(&f->conf, f->manifest),
                                .rows = ROWS,
                                .total = ROWS,
                                .round = round,
                                .ranks = 1,
                                .dtype = FEATURE_F32,
                                .encoders = 4};
    static const char *const names[] = {"video-g0", "audio-g0", "video-g1", "audio-g1"};
    char dir[PATH_MAX], path[PATH_MAX + 32], heads[128];
    struct feature_store *s;
    struct rng r;
    uint64_t hash;
    snprintf(heads, sizeof heads, "%s/heads", f->dir);
    info.heads = write_heads(heads);
    for (int i = 0; i < 4; i++) {
        snprintf(info.encoder[i].name, sizeof info.encoder[i].name, "%s", names[i]);
        info.encoder[i].dim = DIM;
    }
    dump_dir(f, round, dir);
    assert_int_equal(fs_mkdirs(dir, NULL), 0);
    snprintf(path, sizeof path, "%s/rank-0", dir);
    assert_int_equal(feature_store_create(path, &info, &s, NULL), 0);
    rng_init(&r, round);
    for (uint64_t i = 0; i < ROWS; i++)
        for (uint32_t n = 0; n < 4; n++) {
            float x[DIM];
            for (unsigned j = 0; j < DIM; j++)
                x[j] = (float)((i + j) % CLASSES == 0 ? 2 : 0) + (float)rng_normal(&r);
            if (bad_clip && i == bad_clip && n == 2)
                x[3] = 3e38f;
            if (n % 2 == 0 || has_audio(i))
                assert_int_equal(feature_store_put(s, n, i, x, NULL), 0);
        }
    assert_int_equal(feature_store_seal(s, &hash, NULL), 0);
    feature_store_close(s);
    snprintf(path, sizeof path, "%s/rank-0/heads.safetensors", dir);
    assert_int_equal(rename(heads, path), 0);
}

/* Runs the job and takes its table away. */
static char *run_for_bytes(const struct fixture *f, size_t *out_size)
{
    struct cluster_job job;
    char path[128], *bytes;
    run_job(f, 0, NULL, &job);
    if (job.result)
        fail_msg("%s", job.err.msg);
    assert_true(atomic_load(&job.row_passes) == job.row_passes_total);
    cluster_job_close(&job);
    snprintf(path, sizeof path, "%s/run/labels/round-0000.xdcl", f->dir);
    assert_int_equal(fs_read(path, 1 << 24, &bytes, out_size, NULL), 0);
    unlink(path);
    return bytes;
}

/* Of more memory than rows may take, of one and of three threads: the same table. Clips that lack a modality
 * have no label, those of the hold-out have one. */
static void same_table(void **state)
{
    struct fixture *f = *state;
    char *want = NULL;
    size_t size, other;
    static const struct {
        int64_t memory, threads;
    } ways[] = {{0, 1}, {0, 3}, {1, 2}};
    configure_selavi(f);
    make_selavi_dump(f, 0, 0);
    for (size_t i = 0; i < 3; i++) {
        f->conf.cluster.memory_mib = ways[i].memory;
        f->conf.cluster.threads = ways[i].threads;
        char *bytes = run_for_bytes(f, &other);
        assert_true(i == 0 || (size == other && memcmp(bytes, want, size) == 0));
        size = other;
        free(want);
        want = bytes;
    }
    free(want);
    struct cluster_job job;
    run_job(f, 0, NULL, &job);
    assert_int_equal(job.result, 0);
    struct label_table *t = open_table(f, 0);
    assert_int_equal(label_table_info(t)->sources, HEADS);
    unsigned held = 0;
    struct clip_holdout h;
    clip_holdout_init(&h, (uint64_t)f->conf.run.seed, f->conf.train.holdout,
                      (uint64_t)f->conf.train.holdout_min_clips, VIDEOS, 1);
    for (uint64_t c = 0; c < ROWS; c++)
        for (uint32_t s = 0; s < HEADS; s++) {
            assert_int_equal(label_table_get(t, s, c) != LABEL_NONE, has_audio(c));
            held += clip_holdout_has(&h, c) && has_audio(c);
        }
    assert_true(held > 0);
    assert_true(figure(&job, "joint-h0", "held_out") * HEADS == held);
    assert_null(json_object_get(job.quality, "alignment"));
    assert_false(has_figure(&job, "joint-h1", "nmi_other"));
    label_table_close(t);
    cluster_job_close(&job);
}

/* A clip whose features are too large is named, with its encoder; a job that is stopped leaves nothing. */
static void refusals(void **state)
{
    struct fixture *f = *state;
    struct cluster_job job;
    atomic_bool stop = true;
    configure_selavi(f);
    make_selavi_dump(f, 0, 257);
    run_job(f, 0, NULL, &job);
    assert_int_equal(job.result, XDC_EFORMAT);
    assert_non_null(strstr(job.err.msg, "clip 257 by the encoder video-g1"));
    cluster_job_close(&job);
    run_job(f, 0, &stop, &job);
    assert_int_equal(job.result, XDC_ESTOPPED);
    assert_null(job.quality);
    cluster_job_close(&job);
}

/* Heads are dealt to groups as evenly as can be, unlike in different rounds, always alike in one. */
static void dealing(void **state)
{
    (void)state;
    unsigned unlike = 0;
    uint32_t first[16];
    selavi_deal(1, 0, 10, 3, first);
    for (uint32_t round = 0; round < 50; round++) {
        uint32_t group[16], again[16];
        unsigned count[3] = {0};
        selavi_deal(1, round, 10, 3, group);
        selavi_deal(1, round, 10, 3, again);
        for (uint32_t h = 0; h < 10; h++) {
            assert_true(group[h] < 3 && group[h] == again[h]);
            count[group[h]]++;
        }
        assert_true(count[0] == 4 && count[1] == 3 && count[2] == 3);
        unlike += memcmp(group, first, 10 * sizeof *group) != 0;
    }
    assert_true(unlike > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {CASE(same_table), CASE(refusals), CASE(dealing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
