/* transform: what a round's features went through, kept beside its table: read again, every row of the dump
 * goes to the cluster that the table says. */
#include "lib/tensor.h"
#include "services/clusterer/transform.h"
#include "tests/unit/clusterer/jobs.h"

static uint32_t nearest(const struct transform *t, const float *x, double *out_own, double *out_next)
{
    uint32_t best = 0;
    *out_own = *out_next = INFINITY;
    for (uint32_t c = 0; c < t->k; c++) {
        double sum = 0;
        for (uint32_t j = 0; j < t->p; j++) {
            double v = (double)x[j] - (double)t->centroids[(size_t)c * t->p + j];
            sum += v * v;
        }
        if (sum < *out_own) {
            *out_next = *out_own;
            *out_own = sum;
            best = c;
        } else if (sum < *out_next) {
            *out_next = sum;
        }
    }
    return best;
}

/* Every row of a dump through the stored form of a source, and to the nearest of its centroids. Returns how
 * many there were. */
static unsigned compare(const struct fixture *f, uint32_t round, const char *source)
{
    char path[PATH_MAX];
    struct transform t;
    struct feature_dump *d;
    uint64_t dump;
    struct err e = {0};
    struct label_table *table = open_table(f, round);
    int column = label_table_source(table, source);
    unsigned seen = 0;
    assert_int_equal(transform_path(f->conf.run.dir, round, source, path, NULL), 0);
    if (transform_read(path, &t, &dump, &e))
        fail_msg("%s", e.msg);
    assert_true(dump == label_table_info(table)->features);
    assert_int_equal(t.k, f->conf.cluster.k);
    assert_int_equal(
        cluster_dump_open(&f->conf, round, conf_identity(&f->conf, f->manifest), f->manifest, &d, NULL), 0);
    for (uint64_t c = 0; c < CLIPS; c++) {
        float row[TRANSFORM_PARTS_MAX][DIM_MAX], x[2 * DIM_MAX];
        const float *rows[TRANSFORM_PARTS_MAX] = {row[0], row[1]};
        double own, next;
        uint32_t label = label_table_get(table, (uint32_t)column, c);
        if (label == LABEL_NONE)
            continue;
        for (uint32_t i = 0; i < t.parts; i++) {
            uint32_t encoder = strcmp(t.part[i].encoder, "audio") == 0;
            assert_int_equal(feature_dump_read(d, encoder, c, 1, row[i], NULL), 0);
        }
        assert_int_equal(transform_row(&t, rows, x, NULL), 0);
        uint32_t found = nearest(&t, x, &own, &next);
        if (next - own > 1e-5 * next) /* else one row alone rounds otherwise than among others */
            assert_int_equal(found, label);
        seen++;
    }
    feature_dump_close(d);
    label_table_close(table);
    transform_close(&t);
    return seen;
}

/* With every method, normalisation and scaling, and in a round whose ids follow those of the one before; rows
 * of the hold-out too. */
static void kept_form_gives_the_labels(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *method, *normalize, *scale;
    } rows[] = {
        {"xdc", "none", "none"},          {"xdc", "l2", "none"},     {"xdc", "pca-whiten-l2", "none"},
        {"cdc", "none", "variance"},      {"cdc", "none", "l2"},     {"cdc", "l2", "none"},
        {"cdc", "pca-whiten-l2", "none"}, {"cdc", "l2", "variance"}, {"cdc", "pca-whiten-l2", "variance"}};
    for (uint32_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        struct cluster_job job;
        char run[PATH_MAX];
        configure(f, rows[i / 2].method, i % 2 ? "23" : "4", rows[i / 2].normalize, rows[i / 2].scale);
        f->conf.train.holdout = 0.1;
        f->conf.train.holdout_min_clips = CLIPS;
        for (uint32_t round = 0; round < 2; round++) {
            make_dump(f, &(struct dump){.round = round, .move = round});
            run_job(f, round, NULL, &job);
            if (job.result)
                fail_msg("%s", job.err.msg);
            cluster_job_close(&job);
            if (strcmp(rows[i / 2].method, "xdc") == 0) {
                assert_int_equal(compare(f, round, "video"), CLIPS);
                assert_int_equal(compare(f, round, "audio"), CLIPS - CLIPS / 10);
            } else {
                assert_int_equal(compare(f, round, "joint"), CLIPS - CLIPS / 10);
            }
        }
        snprintf(run, sizeof run, "%s/run", f->dir);
        assert_int_equal(fs_remove_tree(run, NULL), 0);
    }
}

/* A job that fails leaves no such file, also of the source that went well. */
static void none_of_a_failure(void **state)
{
    struct fixture *f = *state;
    struct cluster_job job;
    char path[PATH_MAX];
    configure(f, "xdc", "28", "none", "none");
    make_dump(f, &(struct dump){.round = 0, .rows = 30}); /* too few with sound */
    run_job(f, 0, NULL, &job);
    assert_int_equal(job.result, XDC_EFORMAT);
    cluster_job_close(&job);
    assert_int_equal(transform_path(f->conf.run.dir, 0, "video", path, NULL), 0);
    assert_int_equal(access(path, F_OK), -1);
}

/* What is no such file is refused by name, at whatever byte it was cut, and leaves nothing to free. */
static void refuses_files(void **state)
{
    struct fixture *f = *state;
    static const double mean[3] = {1, 2, 3}, one = 1;
    static const float centroids[2][3] = {{0}};
    static const struct {
        const char *format, *encoders, *normalize, *centroids;
        uint64_t columns;
        const char *words;
    } cases[] = {
        {"xdc-norm-1", "video", "none", "centroids", 3, NULL},
        {"xdc-norm-2", "video", "none", "centroids", 3, "its metadata is not of the format xdc-norm-1"},
        {"xdc-norm-1", "video", "some", "centroids", 3, "its metadata is not of the format"},
        {"xdc-norm-1", "video,", "none", "centroids", 3, NULL},
        {"xdc-norm-1", "", "none", "centroids", 3, "it does not name one or two encoders"},
        {"xdc-norm-1", "video,video,video", "none", "centroids", 3, "it does not name one or two encoders"},
        {"xdc-norm-1", "audio", "none", "centroids", 3, "no tensor audio.mean of the right"},
        {"xdc-norm-1", "video", "pca-whiten-l2", "centroids", 3, "no tensor whiten.mean"},
        {"xdc-norm-1", "video", "none", "centres", 3, "no tensor centroids"},
        {"xdc-norm-1", "video", "none", "centroids", 2, "no tensor centroids"},
    };
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/t.safetensors", f->dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tensor tensors[3] = {
            {.name = "video.mean", .dtype = TENSOR_F64, .ndim = 1, .shape = {3}, .data = mean},
            {.name = "video.factor", .dtype = TENSOR_F64, .ndim = 1, .shape = {1}, .data = &one},
            {.dtype = TENSOR_F32, .ndim = 2, .shape = {2, cases[i].columns}, .data = centroids}};
        const char *const metadata[][2] = {{"format", cases[i].format},
                                           {"encoders", cases[i].encoders},
                                           {"normalize", cases[i].normalize},
                                           {"scale", "none"},
                                           {"features", "00000000000000ff"}};
        struct transform t;
        struct err e = {0};
        uint64_t dump = 0;
        snprintf(tensors[2].name, sizeof tensors[2].name, "%s", cases[i].centroids);
        assert_int_equal(safetensors_write(path, tensors, 3, metadata, 5, NULL), 0);
        int rc = transform_read(path, &t, &dump, &e);
        if (cases[i].words && (rc != XDC_EFORMAT || !strstr(e.msg, cases[i].words) || !strstr(e.msg, path)))
            fail_msg("case %zu: %d, '%s'", i, rc, e.msg);
        if (!cases[i].words && (rc || dump != 255 || t.k != 2 || t.p != 3))
            fail_msg("case %zu: %d, '%s'", i, rc, e.msg);
        transform_close(&t);
    }
    for (off_t size = 300; size >= 0; size -= 60) {
        struct transform t;
        uint64_t dump;
        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(transform_read(path, &t, &dump, NULL), XDC_EFORMAT);
    }
    struct transform t;
    uint64_t dump;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(transform_read(path, &t, &dump, NULL), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {CASE(kept_form_gives_the_labels), CASE(none_of_a_failure),
                                       CASE(refuses_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
