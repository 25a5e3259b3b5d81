/* cluster_job over several rounds: what a table takes from the one before, and from cluster.init. */
#include "tests/unit/clusterer/jobs.h"

static void read_labels(const struct fixture *f, uint32_t round, uint32_t labels[2][CLIPS])
{
    struct label_table *t = open_table(f, round);
    for (uint32_t s = 0; s < 2; s++)
        for (uint64_t c = 0; c < CLIPS; c++)
            labels[s][c] = label_table_get(t, s, c);
    label_table_close(t);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(previous_round),
        CASE(ids_are_stable),
        CASE(first_centroids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
