/* checkpoint: whatever is torn or altered is passed over, and a failed write costs nothing. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/trainer/checkpoints.h"

static void keep_why(void *arg, const char *why)
{
    snprintf(arg, 1024, "%s", why);
}

/* Changes one byte in the middle of a file. */
static void alter(const char *path)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    off_t at = lseek(fd, 0, SEEK_END) / 2;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

enum damage {
    TRUNCATE_WEIGHTS,
    ALTER_WEIGHTS,
    REMOVE_WEIGHTS,
    TRUNCATE_STATE,
    ALTER_STATE,
    EMPTY_STATE,
    REMOVE_STATE,
    REMOVE_DONE
};

static void harm(uint64_t step, enum damage d)
{
    struct stat st;
    const char *path = file_of(step, d <= REMOVE_WEIGHTS ? CHECKPOINT_WEIGHTS
                                     : d <= REMOVE_STATE ? CHECKPOINT_STATE
                                                         : CHECKPOINT_DONE);
    assert_int_equal(stat(path, &st), 0);
    switch (d) {
    case TRUNCATE_WEIGHTS:
    case TRUNCATE_STATE:
        assert_int_equal(truncate(path, st.st_size - 5), 0);
        break;
    case ALTER_WEIGHTS:
    case ALTER_STATE:
        alter(path);
        break;
    case EMPTY_STATE:
        assert_int_equal(truncate(path, 0), 0);
        break;
    case REMOVE_WEIGHTS:
    case REMOVE_STATE:
    case REMOVE_DONE:
        assert_int_equal(unlink(path), 0);
        break;
    }
}

/* Whatever part of the newest one is torn, altered or gone, the one before is restored and the loss is
 * counted. */
static void a_torn_newest_is_passed_over(void **state)
{
    (void)state;
    struct net *net = make_net(1);
    struct quarantine q;
    quarantine_init(&q);
    write_at(10, net, &q, 9);
    uint64_t want = hash_of(net), got;
    train(net, 1, 1);
    for (enum damage d = TRUNCATE_WEIGHTS; d <= REMOVE_DONE; d++) {
        unsigned skipped;
        write_at(20, net, &q, 9); /* replaces the harmed one of the turn before */
        assert_int_equal(restored_step(&skipped, &got), 20);
        assert_int_equal(skipped, 0);
        assert_int_equal(got, hash_of(net));
        harm(20, d);
        assert_int_equal(restored_step(&skipped, &got), 10);
        assert_int_equal(skipped, 1);
        assert_int_equal(got, want);
    }
    quarantine_close(&q);
    net_destroy(net);
}

/* What is said of the newest checkpoint, which has been harmed; the one before is found. */
static const char *why_refused(uint64_t step_before)
{
    static char why[1024];
    char path[PATH_MAX];
    json_t *state = NULL;
    struct err e = {0};
    why[0] = '\0';
    if (checkpoint_dir_latest(dir, path, &state, keep_why, why, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(json_integer_value(json_object_get(state, "step")), step_before);
    json_decref(state);
    return why;
}

/* Changes the byte at `at` by `flip`, looks, and changes it back. */
static void flip_one(const char *name, off_t at, uint8_t flip)
{
    uint8_t byte, other;
    int fd = open(file_of(20, name), O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    other = byte ^ flip;
    assert_int_equal(pwrite(fd, &other, 1, at), 1);
    const char *why = why_refused(10);
    if (!strstr(why, "step-000000000020") || !strstr(why, name) || !strstr(why, "altered"))
        fail_msg("byte %lld of %s changed by %02x: %s", (long long)at, name, flip, why);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Any one byte changed, by one bit or by more: refused with the file's name, and the one before is taken.
 * Every bit of DONE, every byte of the state, both ends of the weights, and offsets drawn all over them. */
static void any_changed_byte_is_refused(void **state)
{
    (void)state;
    struct net *net = make_net(1);
    struct quarantine q;
    struct stat st;
    struct rng r;
    quarantine_init(&q);
    assert_int_equal(quarantine_add(&q, 7, 3), 1);
    write_at(10, net, &q, 9);
    train(net, 1, 1);
    write_at(20, net, &q, 9);
    rng_init(&r, 77);
    assert_int_equal(stat(file_of(20, CHECKPOINT_DONE), &st), 0);
    assert_int_equal(st.st_size, CHECKPOINT_DONE_SIZE);
    for (off_t at = 0; at < st.st_size; at++)
        for (unsigned bit = 0; bit < 8; bit++)
            flip_one(CHECKPOINT_DONE, at, (uint8_t)(1u << bit));
    assert_int_equal(stat(file_of(20, CHECKPOINT_STATE), &st), 0);
    for (off_t at = 0; at < st.st_size; at++)
        flip_one(CHECKPOINT_STATE, at, (uint8_t)(1 + rng_next(&r) % 255));
    assert_int_equal(stat(file_of(20, CHECKPOINT_WEIGHTS), &st), 0);
    for (off_t at = 0; at < 64; at++) {
        flip_one(CHECKPOINT_WEIGHTS, at, (uint8_t)(1u << rng_next(&r) % 8));
        flip_one(CHECKPOINT_WEIGHTS, st.st_size - 1 - at, (uint8_t)(1u << rng_next(&r) % 8));
    }
    for (unsigned i = 0; i < 500; i++)
        flip_one(CHECKPOINT_WEIGHTS, (off_t)(rng_next(&r) % (uint64_t)st.st_size),
                 (uint8_t)(1u << rng_next(&r) % 8));
    unsigned refused;
    assert_int_equal(restored_step(&refused, NULL), 20); /* all is as it was */
    assert_int_equal(refused, 0);
    quarantine_close(&q);
    net_destroy(net);
}

/* Altered newer ones do not count as kept: what is written after a restore from before them survives its own
 * pruning. */
static void altered_ones_push_out_no_whole_one(void **state)
{
    (void)state;
    struct net *net = make_net(0);
    struct quarantine q;
    unsigned skipped;
    quarantine_init(&q);
    for (uint64_t step = 10; step <= 30; step += 10)
        write_at(step, net, &q, 3);
    harm(20, ALTER_WEIGHTS);
    harm(30, ALTER_WEIGHTS);
    assert_int_equal(restored_step(&skipped, NULL), 10);
    assert_int_equal(skipped, 2);
    write_at(15, net, &q, 2);
    assert_int_equal(restored_step(&skipped, NULL), 15);
    assert_true(there(10));
    write_at(25, net, &q, 2);
    assert_int_equal(restored_step(&skipped, NULL), 25);
    assert_true(there(15) && !there(10) && !there(20));
    quarantine_close(&q);
    net_destroy(net);
}

/* A full disk, here a file size limit that the weights meet at any of several places: the write fails with a
 * sentence, no half-written one stays, and the ones before, also of the same step, are restored as they were.
 */
static void a_failed_write_costs_nothing(void **state)
{
    (void)state;
    static const rlim_t limits[] = {0, 100, 4096, 65536};
    struct net *net = make_net(1);
    struct quarantine q;
    struct rlimit old, low;
    struct err e = {0};
    uint64_t want = hash_of(net), got;
    quarantine_init(&q);
    write_at(10, net, &q, 2);
    write_at(20, net, &q, 2);
    train(net, 1, 1);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        for (uint64_t step = 20; step <= 30; step += 10) {
            struct train_state s = state_at(step);
            low = (struct rlimit){limits[i], old.rlim_max};
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
            int rc = write_state(RUN, &s, net, &q, 2, &e);
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
            assert_int_equal(rc, -EFBIG);
            assert_non_null(strstr(e.msg, step == 20 ? "checkpoint of step 20" : "checkpoint of step 30"));
            assert_int_equal(entries(), 2);
            assert_int_equal(restored_step(NULL, &got), 20);
            assert_int_equal(got, want);
        }
    }
    signal(SIGXFSZ, handler);
    write_at(30, net, &q, 2);
    assert_int_equal(restored_step(NULL, &got), 30);
    assert_int_equal(got, hash_of(net));
    quarantine_close(&q);
    net_destroy(net);
}

struct watcher {
    atomic_bool stop;
    unsigned looks, missing;
};

static void *watch(void *arg)
{
    struct watcher *w = arg;
    char path[160];
    struct stat st;
    snprintf(path, sizeof path, "%s/checkpoints/step-%012llu/DONE", dir, 10ull);
    while (!atomic_load(&w->stop)) {
        w->looks++;
        w->missing += stat(path, &st) != 0;
    }
    return NULL;
}

/* Writing the same step again replaces it at one stroke: a complete one has the name at every moment, and a
 * crash at any moment leaves one. */
static void the_same_step_is_there_throughout(void **state)
{
    (void)state;
    struct net *net = make_net(0);
    struct quarantine q;
    struct watcher w = {0};
    pthread_t thread;
    quarantine_init(&q);
    write_at(10, net, &q, 2);
    assert_int_equal(pthread_create(&thread, NULL, watch, &w), 0);
    for (unsigned i = 0; i < 20; i++)
        write_at(10, net, &q, 2);
    atomic_store(&w.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(w.looks > 20);
    assert_int_equal(w.missing, 0);
    assert_int_equal(entries(), 1);
    quarantine_close(&q);
    net_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_torn_newest_is_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(any_changed_byte_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(altered_ones_push_out_no_whole_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_write_costs_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_step_is_there_throughout, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
