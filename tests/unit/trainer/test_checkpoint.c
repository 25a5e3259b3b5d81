/* checkpoint: what is written comes back bit for bit, the newest are kept, and what is of another run or net
 * is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/unit/trainer/checkpoints.h"

static void assert_states_equal(const struct train_state *a, const struct train_state *b)
{
    assert_int_equal(a->phase, b->phase);
    assert_int_equal(a->round, b->round);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->batch, b->batch);
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->labels, b->labels);
    assert_int_equal(a->features, b->features);
    assert_int_equal(a->ranks, b->ranks);
    for (uint32_t r = 0; r < a->ranks; r++) {
        assert_int_equal(a->ledgers[r].epoch, b->ledgers[r].epoch);
        assert_int_equal(a->ledgers[r].size_bytes, b->ledgers[r].size_bytes);
        assert_int_equal(a->ledgers[r].hash, b->ledgers[r].hash);
    }
    assert_memory_equal(a->loss, b->loss, sizeof a->loss);
    assert_memory_equal(a->labelled, b->labelled, sizeof a->labelled);
    assert_memory_equal(a->correct, b->correct, sizeof a->correct);
    for (unsigned i = 0; i < NET_ENCODERS; i++)
        assert_true(a->early[i].measured == b->early[i].measured && a->early[i].best == b->early[i].best &&
                    a->early[i].bounded == b->early[i].bounded && a->early[i].before == b->early[i].before &&
                    a->early[i].stopped == b->early[i].stopped);
}

/* State, quarantine, weights and momentum come back: the next steps give the net that the uninterrupted run
 * has. */
static void a_restored_run_goes_on_bit_for_bit(void **state)
{
    (void)state;
    struct net *net = make_net(3), *other = make_net(1);
    struct quarantine q, back;
    struct train_state s = state_at(3), r = {0};
    struct err e = {0};
    unsigned skipped = 0;
    quarantine_init(&q);
    quarantine_init(&back);
    for (uint64_t clip = 5; clip < 50; clip += 7)
        assert_int_equal(quarantine_add(&q, clip << 33, (uint32_t)clip % 5 + 1), 1);
    assert_int_equal(quarantine_add(&back, 1, 1), 1);
    assert_int_equal(write_state(RUN, &s, net, &q, 3, &e), 0);
    assert_int_not_equal(hash_of(other), hash_of(net));
    assert_int_equal(checkpoint_restore(dir, RUN, &r, other, &back, count_refused, &skipped, &e), 0);
    assert_int_equal(skipped, 0);
    assert_states_equal(&r, &s);
    assert_int_equal(hash_of(other), hash_of(net));
    assert_int_equal(back.n, q.n);
    for (size_t i = 0; i < q.n; i++)
        assert_true(back.entries[i].clip == q.entries[i].clip &&
                    back.entries[i].reason == q.entries[i].reason);
    train(net, 3, 2);
    train(other, 3, 2);
    assert_int_equal(hash_of(other), hash_of(net));
    quarantine_close(&q);
    quarantine_close(&back);
    net_destroy(net);
    net_destroy(other);
}

/* Every phase, and a state of zeros, come back too. */
static void every_phase_comes_back(void **state)
{
    (void)state;
    struct net *net = make_net(0);
    struct quarantine q;
    struct err e = {0};
    quarantine_init(&q);
    for (unsigned p = 0; p <= PHASE_DONE; p++) {
        struct train_state s = {.phase = (enum phase)p, .ranks = 1}, r = state_at(9);
        assert_int_equal(write_state(RUN, &s, net, &q, 2, &e), 0);
        assert_int_equal(checkpoint_restore(dir, RUN, &r, net, &q, NULL, NULL, &e), 0);
        assert_states_equal(&r, &s);
        assert_int_equal(entries(), 1); /* the same step is replaced */
    }
    quarantine_close(&q);
    net_destroy(net);
}

static char *bytes_of(const char *path, size_t *size)
{
    char *data = NULL;
    struct err e = {0};
    if (fs_read(path, 1 << 28, &data, size, &e) < 0)
        fail_msg("%s", e.msg);
    return data;
}

/* Equal states give equal bytes: two nets trained alike, quarantines filled in different orders, two
 * directories. */
static void equal_states_give_equal_bytes(void **state)
{
    (void)state;
    static const char *const files[] = {CHECKPOINT_WEIGHTS, CHECKPOINT_STATE, CHECKPOINT_DONE};
    char *first[3];
    size_t first_size[3];
    for (unsigned turn = 0; turn < 2; turn++) {
        struct net *net = make_net(2);
        struct quarantine q;
        struct err e;
        quarantine_init(&q);
        for (uint64_t i = 0; i < 20; i++)
            assert_int_equal(quarantine_add(&q, turn ? 19 - i : i, 3), 1);
        write_at(50, net, &q, 3);
        for (unsigned f = 0; f < 3; f++) {
            size_t size;
            char *data = bytes_of(file_of(50, files[f]), &size);
            if (turn == 0) {
                first[f] = data;
                first_size[f] = size;
                continue;
            }
            assert_int_equal(size, first_size[f]);
            assert_memory_equal(data, first[f], size);
            free(data);
            free(first[f]);
        }
        quarantine_close(&q);
        net_destroy(net);
        assert_int_equal(fs_remove_tree(dir, &e), 0);
        assert_int_equal(mkdir(dir, 0700), 0);
    }
}

/* The newest K stay, older ones go, and what an interrupted write left is swept. */
static void the_newest_are_kept(void **state)
{
    (void)state;
    struct net *net = make_net(0);
    struct quarantine q;
    struct err e;
    char torn[128];
    quarantine_init(&q);
    snprintf(torn, sizeof torn, "%s/checkpoints/tmp-000000000009", dir);
    assert_int_equal(fs_mkdirs(torn, &e), 0);
    for (uint64_t step = 10; step <= 60; step += 10) {
        write_at(step, net, &q, 3);
        assert_int_equal(entries(), step < 30 ? step / 10 : 3);
        assert_true(there(step));
    }
    assert_true(there(50) && there(40) && !there(30));
    assert_int_equal(restored_step(NULL, NULL), 60);
    quarantine_close(&q);
    net_destroy(net);
}

/* A checkpoint of another run is refused by name, not skipped for an older one, and nothing is loaded from
 * it. */
static void another_run_is_refused(void **state)
{
    (void)state;
    struct net *net = make_net(1), *other = make_net(0);
    struct quarantine q;
    struct train_state s = state_at(5), r = {0};
    struct err e = {0};
    quarantine_init(&q);
    write_at(4, net, &q, 3);
    assert_int_equal(write_state(RUN + 1, &s, net, &q, 3, &e), 0);
    uint64_t before = hash_of(other);
    assert_int_equal(checkpoint_restore(dir, RUN, &r, other, &q, NULL, NULL, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "step-000000000005 is of another run"));
    assert_int_equal(hash_of(other), before);
    quarantine_close(&q);
    net_destroy(net);
    net_destroy(other);
}

/* A net of another width does not take the weights: refused with the tensor's name. */
static void another_net_is_refused(void **state)
{
    (void)state;
    struct net_spec wide = tiny;
    struct net *net = make_net(0), *other;
    struct quarantine q;
    struct train_state r = {0};
    struct err e = {0};
    wide.video_width = 8;
    quarantine_init(&q);
    write_at(4, net, &q, 3);
    assert_int_equal(net_create(&wide, &other, &e), 0);
    assert_int_equal(checkpoint_restore(dir, RUN, &r, other, &q, NULL, NULL, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "video."));
    quarantine_close(&q);
    net_destroy(net);
    net_destroy(other);
}

/* No directory, and a directory without checkpoints, are -ENOENT: a run that begins. */
static void nothing_there_is_enoent(void **state)
{
    (void)state;
    struct net *net = make_net(0);
    struct quarantine q;
    struct train_state r = {0};
    struct err e = {0};
    char path[96];
    quarantine_init(&q);
    assert_int_equal(checkpoint_restore(dir, RUN, &r, net, &q, NULL, NULL, &e), -ENOENT);
    snprintf(path, sizeof path, "%s/checkpoints", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(checkpoint_restore(dir, RUN, &r, net, &q, NULL, NULL, &e), -ENOENT);
    quarantine_close(&q);
    net_destroy(net);
}

/* Makes DONE name the state that is there now. */
static void fit_done(uint64_t step)
{
    char done[32];
    uint64_t hash;
    struct err e;
    assert_int_equal(checkpoint_dir_hash(file_of(step, CHECKPOINT_STATE), &hash, &e), 0);
    int n = snprintf(done, sizeof done, "%016llx\n", (unsigned long long)hash);
    assert_int_equal(fs_write_atomic(file_of(step, CHECKPOINT_DONE), done, (size_t)n, &e), 0);
}

/* A state file that is JSON but lacks a field is XDC_EFORMAT. */
static void a_state_without_a_field_is_refused(void **state)
{
    (void)state;
    static const char *const fields[] = {"phase", "step", "ledgers", "loss", "quarantine", "early_stop"};
    struct net *net = make_net(0);
    struct quarantine q;
    struct train_state r = {0};
    quarantine_init(&q);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        struct err e = {0};
        write_at(4, net, &q, 3);
        json_t *j = json_load_file(file_of(4, CHECKPOINT_STATE), 0, NULL);
        assert_int_equal(json_object_del(j, fields[i]), 0);
        assert_int_equal(json_dump_file(j, file_of(4, CHECKPOINT_STATE), 0), 0);
        json_decref(j);
        fit_done(4);
        assert_int_equal(checkpoint_restore(dir, RUN, &r, net, &q, NULL, NULL, &e), XDC_EFORMAT);
    }
    quarantine_close(&q);
    net_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_restored_run_goes_on_bit_for_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(every_phase_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(equal_states_give_equal_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(another_run_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(another_net_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_there_is_enoent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_state_without_a_field_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
