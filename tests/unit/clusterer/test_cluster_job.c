/* cluster_job: real manifests, dumps and tables in a temporary directory. */
#include "tests/unit/clusterer/jobs.h"

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

/* Rows that do not fit the configured memory are streamed from the dump or lie in a file meanwhile: the table
 * has the same bytes, with all methods that read them in their own way, and nothing is left behind. */
static void same_bytes_out_of_memory(void **state)
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
        assert_string_equal(json_string_value(json_object_get(job.quality, "method")), "cdc");
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
         "source audio: 27 clips have features that can be clustered, too few for 28 clusters"},
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
    const struct CMUnitTest tests[] = {
        CASE(one_source_per_encoder),    CASE(same_bytes_again),
        CASE(same_bytes_out_of_memory),  CASE(joint),
        CASE(finds_the_table_of_a_dump), CASE(refusals),
        CASE(no_dump_and_stop),          CASE(two_shards),
        CASE(incomplete_dump),           CASE(held_out_rows_are_labelled_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
