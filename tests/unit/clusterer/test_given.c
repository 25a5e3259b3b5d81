/* given: labels and features that somebody else made, in the place of round 0's, through the whole job and
 * through the daemon. */
#include "lib/half.h"
#include "lib/tensor.h"
#include "tests/unit/clusterer/clusterer_run.h"

static void give(struct fixture *f, const char *key, const char *name)
{
    bool labels = strcmp(key, "init.labels") == 0;
    snprintf(f->conf.init.labels, CONF_STRING_MAX, "%s%s%s", labels ? f->dir : "", labels ? "/" : "",
             labels ? name : "");
    snprintf(f->conf.init.features, CONF_STRING_MAX, "%s%s%s", labels ? "" : f->dir, labels ? "" : "/",
             labels ? "" : name);
}

static void save(const struct fixture *f, const char *name, enum tensor_dtype dtype, uint64_t rows,
                 uint64_t columns, const void *data)
{
    struct tensor t = {
        .dtype = dtype, .ndim = rows ? 2 : 1, .shape = {rows ? rows : columns, columns}, .data = data};
    char path[PATH_MAX];
    struct err e = {0};
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    if (npy_write(path, &t, &e))
        fail_msg("%s", e.msg);
}

/* What clip `c` is given by source `s`. */
static int64_t planted(uint32_t s, uint64_t c)
{
    return c % 7 == 2 ? -1 - (int64_t)c : (int64_t)((c + s) % CLASSES);
}

static void expect_table(const struct fixture *f, uint32_t sources, const uint32_t row[2])
{
    struct label_table *t = open_table(f, 0);
    assert_int_equal(label_table_info(t)->sources, sources);
    for (uint32_t s = 0; s < sources; s++)
        for (uint64_t c = 0; c < CLIPS; c++) {
            bool there = sources == 2 && s == 0 ? true : has_audio(c);
            int64_t want = there ? planted(row[s], c) : -1;
            assert_int_equal(label_table_get(t, s, c), want < 0 ? LABEL_NONE : (uint32_t)want);
        }
    label_table_close(t);
}

/* Integers of every type, one row for all sources or one for each, become the table of round 0 as they are,
 * but for clips without features; the figures say so. Round 1 is clustered. */
static void labels_of_arrays(void **state)
{
    struct fixture *f = *state;
    static int64_t wide[2][CLIPS];
    static int32_t narrow[CLIPS];
    static const struct {
        const char *method;
        uint64_t rows;
        enum tensor_dtype dtype;
        uint32_t sources, row[2];
    } cases[] = {{"xdc", 0, TENSOR_I32, 2, {0, 0}},
                 {"xdc", 1, TENSOR_I32, 2, {0, 0}},
                 {"xdc", 2, TENSOR_I64, 2, {0, 1}},
                 {"cdc", 0, TENSOR_I64, 1, {0, 0}}};
    for (uint64_t c = 0; c < CLIPS; c++) {
        narrow[c] = (int32_t)planted(0, c);
        for (uint32_t s = 0; s < 2; s++)
            wide[s][c] = planted(s, c);
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cluster_job job;
        char command[256];
        configure(f, cases[i].method, "4", "none", "none");
        give(f, "init.labels", "l.npy");
        save(f, "l.npy", cases[i].dtype, cases[i].rows, CLIPS,
             cases[i].dtype == TENSOR_I32 ? (void *)narrow : (void *)wide);
        make_dump(f, &(struct dump){.round = 0});
        run_job(f, 0, NULL, &job);
        if (job.result)
            fail_msg("%s", job.err.msg);
        expect_table(f, cases[i].sources, cases[i].row);
        const char *name = cases[i].sources == 2 ? "audio" : "joint";
        assert_int_equal((int)figure(&job, name, "k"), 4);
        assert_true(figure(&job, name, "n") < CLIPS && figure(&job, name, "entropy") > 1.3);
        assert_true(has_figure(&job, name, "ami_truth") && has_figure(&job, name, "given"));
        assert_false(has_figure(&job, name, "objective"));
        cluster_job_close(&job);
        snprintf(command, sizeof command, "rm -r %s/run", f->dir);
        assert_int_equal(system(command), 0);
    }
    struct cluster_job job;
    make_dump(f, &(struct dump){.round = 1});
    run_job(f, 1, NULL, &job);
    assert_int_equal(job.result, 0);
    assert_true(figure(&job, "joint", "ami_truth") > 0.999 && !has_figure(&job, "joint", "given"));
    cluster_job_close(&job);
}

static void write_table(const struct fixture *f, const char *name, const struct label_info *info, uint32_t k)
{
    static uint32_t labels[2][CLIPS];
    const uint32_t *of[2] = {labels[0], labels[1]};
    char path[PATH_MAX];
    uint64_t hash;
    for (uint64_t c = 0; c < CLIPS; c++)
        for (uint32_t s = 0; s < 2; s++)
            labels[s][c] = planted(s, c) < 0 ? LABEL_NONE : (uint32_t)planted(s, c) % k;
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    assert_int_equal(label_table_write(path, info, of, "{}", &hash, NULL), 0);
}

/* A table of another run: sources by their names, in whatever order; one source serves all. Its k may be
 * larger than cluster.k as long as its labels are not. */
static void labels_of_a_table(void **state)
{
    struct fixture *f = *state;
    struct label_info info = {.run = 5, .manifest = f->manifest, .clips = CLIPS, .sources = 2};
    const uint32_t swapped[2] = {1, 0}, one[2] = {0, 0};
    snprintf(info.source[0].name, sizeof info.source[0].name, "audio");
    snprintf(info.source[1].name, sizeof info.source[1].name, "video");
    info.source[0].k = info.source[1].k = 300;
    for (int i = 0; i < 2; i++) {
        struct cluster_job job;
        info.sources = 2 - (uint32_t)i;
        write_table(f, "given.xdcl", &info, 4);
        give(f, "init.labels", "given.xdcl");
        if (i == 0)
            make_dump(f, &(struct dump){.round = 0});
        run_job(f, 0, NULL, &job);
        if (job.result)
            fail_msg("%s", job.err.msg);
        expect_table(f, 2, i ? one : swapped);
        cluster_job_close(&job);
    }
}

/* Given features make the clusters: of 4 columns f32 or f16 whose clouds are not those of the dump. Clips
 * that the dump lacks have no label, whatever their rows hold. */
static void features(void **state)
{
    struct fixture *f = *state;
    static float x[CLIPS][4];
    static uint16_t half[CLIPS][4];
    static const char *const methods[] = {"xdc", "cdc"};
    struct rng r;
    rng_init(&r, 3);
    for (uint64_t c = 0; c < CLIPS; c++)
        for (uint32_t j = 0; j < 4; j++)
            x[c][j] = (float)((c / 3 % 4 == j ? 20 : 0) + rng_normal(&r));
    x[13][2] = NAN; /* no sound there */
    half_from_float(x[0], half[0], CLIPS * 4);
    for (int i = 0; i < 4; i++) {
        struct cluster_job job;
        char command[256];
        configure(f, methods[i / 2], "4", "pca-whiten-l2", "l2");
        give(f, "init.features", "f.npy");
        if (i < 2)
            x[13][2] = 0;
        half_from_float(x[13], half[13], 4);
        save(f, "f.npy", i % 2 ? TENSOR_F16 : TENSOR_F32, CLIPS, 4, i % 2 ? (void *)half : (void *)x);
        make_dump(f, &(struct dump){.round = 0});
        run_job(f, 0, NULL, &job);
        if (job.result)
            fail_msg("%s", job.err.msg);
        struct label_table *t = open_table(f, 0);
        for (uint32_t s = 0; s < label_table_info(t)->sources; s++)
            for (uint64_t c = 0; c < CLIPS; c++) {
                if (label_table_info(t)->sources == 1 || s == 1)
                    assert_int_equal(label_table_get(t, s, c) == LABEL_NONE, !has_audio(c));
                if (label_table_get(t, s, c) != LABEL_NONE && c != 13)
                    assert_int_equal(label_table_get(t, s, c),
                                     label_table_get(t, s, c % 12 == 3 ? 15 : c % 12));
            }
        label_table_close(t);
        assert_true(has_figure(&job, i < 2 ? "video" : "joint", "given"));
        assert_false(has_figure(&job, "joint", "inertia_share"));
        cluster_job_close(&job);
        snprintf(command, sizeof command, "rm -r %s/run", f->dir);
        assert_int_equal(system(command), 0);
        x[13][2] = NAN;
    }
}

/* What does not fit is refused: the sentence names the file, the clip where there is one, and what to do.
 * Nothing is published. */
static void refusals(void **state)
{
    struct fixture *f = *state;
    static int64_t labels[3][CLIPS];
    static float x[CLIPS][2];
    const struct label_info table = {
        .manifest = f->manifest, .clips = CLIPS, .sources = 2, .source = {{"video", 9}, {"touch", 9}}};
    struct label_info foreign = table, shorter = table, high = table;
    foreign.manifest++;
    shorter.clips--;
    high.sources = 1;
    labels[0][41] = 4;
    labels[1][0] = INT64_MAX;
    x[17][1] = NAN;
    save(f, "high.npy", TENSOR_I64, 0, CLIPS, labels);
    save(f, "huge.npy", TENSOR_I64, 0, CLIPS, labels[1]);
    save(f, "short.npy", TENSOR_I64, 0, CLIPS - 1, labels);
    save(f, "rows.npy", TENSOR_I64, 3, CLIPS, labels);
    save(f, "real.npy", TENSOR_F32, 2, CLIPS, x);
    memset(labels[2], 0xff, sizeof labels[2]);
    save(f, "none.npy", TENSOR_I64, 0, CLIPS, labels[2]);
    save(f, "nan.npy", TENSOR_F32, CLIPS, 2, x);
    save(f, "long.npy", TENSOR_F32, CLIPS - 2, 2, x);
    save(f, "flat.npy", TENSOR_F32, 0, 2 * CLIPS, x);
    write_table(f, "foreign.xdcl", &foreign, 4);
    write_table(f, "shorter.xdcl", &shorter, 4);
    write_table(f, "names.xdcl", &table, 4);
    /* of label 8 */
    write_table(f, "high.xdcl", &high, 9);
    const struct {
        const char *key, *file;
        int code;
        const char *words;
    } cases[] = {
        {"init.labels", "high.npy", XDC_EMISMATCH, "/high.npy: label 4 of clip 41 is not below cluster.k 4"},
        {"init.labels", "huge.npy", XDC_EMISMATCH, "label 9223372036854775807 of clip 0 is not below"},
        {"init.labels", "short.npy", XDC_EMISMATCH,
         "has the shape [599], this run has 600 clips; give a label"},
        {"init.labels", "rows.npy", XDC_EMISMATCH, "has the shape [3, 600]; the method has 2 sources"},
        {"init.labels", "real.npy", XDC_EFORMAT, "is of dtype f32, whole numbers are needed"},
        {"init.labels", "none.npy", XDC_EMISMATCH, "none.npy has no label of any clip"},
        {"init.labels", "gone.npy", -ENOENT, "gone.npy: No such file"},
        {"init.labels", "foreign.xdcl", XDC_EMISMATCH, "take a table that was made with this manifest"},
        {"init.labels", "shorter.xdcl", XDC_EMISMATCH, "has labels of 599 clips, this run has 600"},
        {"init.labels", "names.xdcl", XDC_EMISMATCH, "has 2 sources, none of them called audio"},
        {"init.labels", "manifest.lmdb", -EISDIR, "manifest.lmdb"},
        {"init.features", "nan.npy", XDC_EFORMAT, "row 17 of "},
        {"init.features", "long.npy", XDC_EMISMATCH, "has the shape [598, 2], this run has 600 clips"},
        {"init.features", "flat.npy", XDC_EFORMAT, "has the shape [1200]; [clips, dim] is needed"},
        {"init.features", "high.npy", XDC_EFORMAT, "is of dtype i64, f32 or f16 is needed"},
        {"init.features", "gone.npy", -ENOENT, "init.features: open "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cluster_job job;
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/run", f->dir);
        assert_int_equal(fs_remove_tree(path, NULL), 0);
        give(f, cases[i].key, cases[i].file); /* the run is another one for it */
        make_dump(f, &(struct dump){.round = 0});
        run_job(f, 0, NULL, &job);
        if (job.result != cases[i].code && cases[i].code != -EISDIR)
            fail_msg("%s: %d, %s", cases[i].file, job.result, job.err.msg);
        assert_true(job.result < 0);
        if (!strstr(job.err.msg, cases[i].words) || !strstr(job.err.msg, cases[i].key))
            fail_msg("'%s' is not in '%s'", cases[i].words, job.err.msg);
        snprintf(path, sizeof path, "%s/run/labels/round-0000.xdcl", f->dir);
        assert_int_equal(access(path, F_OK), -1);
        cluster_job_close(&job);
    }
}

/* The daemon publishes given labels as the table of round 0, and says of labels that do not fit what is wrong
 * with them. */
static void daemon_takes_labels(void **state)
{
    struct fixture *f = *state;
    static int32_t labels[CLIPS];
    const uint32_t row[2] = {0, 0};
    for (int bad = 1; bad >= 0; bad--) {
        struct outcome seen;
        for (uint64_t c = 0; c < CLIPS; c++)
            labels[c] = (int32_t)planted(0, c);
        labels[99] = bad ? 77 : labels[99];
        give(f, "init.labels", "l.npy");
        save(f, "l.npy", TENSOR_I32, 0, CLIPS, labels);
        if (bad)
            make_dump(f, &(struct dump){.round = 0});
        run_daemon(f, 0, &seen);
        assert_int_equal(seen.failed, bad);
        assert_int_equal(seen.tables, !bad);
        if (bad)
            assert_non_null(strstr(seen.detail, "label 77 of clip 99 is not below cluster.k 4"));
        else
            expect_table(f, 2, row);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {CASE(labels_of_arrays), CASE(labels_of_a_table), CASE(features),
                                       CASE(refusals), CASE(daemon_takes_labels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
