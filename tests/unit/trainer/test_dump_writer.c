/* dump_writer: what goes through the queue is the dump that direct writing makes; a full disk is waited out,
 * and said once; errors come back, and every wait can be stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/progress.h"
#include "services/trainer/dump_writer.h"

enum { ROWS = 5000, DIM = 64 };

static char root[64], dir[128];
static atomic_bool stop;
static atomic_int pauses, resumes;
static struct rlimit whole;

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/xdc-dump-XXXXXX");
    atomic_store(&stop, false);
    atomic_store(&pauses, 0);
    atomic_store(&resumes, 0);
    signal(SIGXFSZ, SIG_IGN);
    if (!mkdtemp(root) || getrlimit(RLIMIT_FSIZE, &whole))
        return -1;
    snprintf(dir, sizeof dir, "%s/rank-0", root);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(root, NULL);
}

static void limit_files(rlim_t bytes)
{
    struct rlimit r = {.rlim_cur = bytes, .rlim_max = whole.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

static void on_pause(void *arg, const char *why)
{
    (void)arg;
    if (why && strstr(why, "no space left"))
        atomic_fetch_add(&pauses, 1);
    if (!why)
        atomic_fetch_add(&resumes, 1);
}

static struct feature_store *begin(void)
{
    const struct feature_info info = {.weights = 7,
                                      .rows = ROWS,
                                      .total = ROWS,
                                      .ranks = 1,
                                      .dtype = FEATURE_F32,
                                      .encoders = 2,
                                      .encoder = {{"video", DIM, 0}, {"audio", 5, 0}}};
    struct feature_store *s;
    struct err e;
    if (feature_store_create(dir, &info, &s, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

static struct dump_writer *start(size_t queue_bytes)
{
    const struct dump_writer_options o = {
        .queue_bytes = queue_bytes, .retry_s = 0.05, .stop = &stop, .on_pause = on_pause};
    struct dump_writer *w;
    struct err e;
    if (dump_writer_start(begin(), &o, &w, &e) < 0)
        fail_msg("%s", e.msg);
    return w;
}

static const float *values_of(uint64_t row, float values[DIM])
{
    for (uint32_t d = 0; d < DIM; d++)
        values[d] = (float)sin((double)row * 0.3 + d);
    return values;
}

static int put_rows(struct dump_writer *w, uint64_t from, uint64_t to, struct err *e)
{
    float values[DIM];
    int rc = 0;
    for (uint64_t row = from; rc == 0 && row < to; row++)
        for (uint32_t enc = 0; rc == 0 && enc < 2; enc++)
            rc = dump_writer_put(w, enc, row, values_of(row, values), e);
    return rc;
}

static uint64_t direct(void)
{
    struct feature_store *s = begin();
    float values[DIM];
    uint64_t hash;
    for (uint64_t row = 0; row < ROWS; row++)
        for (uint32_t enc = 0; enc < 2; enc++)
            assert_int_equal(feature_store_put(s, enc, row, values_of(row, values), NULL), 0);
    assert_int_equal(feature_store_seal(s, &hash, NULL), 0);
    feature_store_close(s);
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
    return hash;
}

/* With room for one row or for many, the same dump. */
static void test_same_dump(void **state)
{
    (void)state;
    static const size_t queues[] = {1, 1000, 100000, 32 << 20};
    uint64_t want = direct(), hash;
    for (size_t i = 0; i < sizeof queues / sizeof queues[0]; i++) {
        struct err e;
        struct dump_writer *w = start(queues[i]);
        assert_int_equal(put_rows(w, 0, ROWS, &e), 0);
        assert_int_equal(dump_writer_seal(w, &hash, &e), 0);
        dump_writer_close(w);
        assert_true(hash == want);
        assert_int_equal(fs_remove_tree(dir, NULL), 0);
    }
    assert_int_equal(atomic_load(&pauses), 0);
}

struct putting {
    struct dump_writer *w;
    int rc;
    uint64_t hash;
    struct err e;
    atomic_bool ended;
};

static void *put_and_seal(void *arg)
{
    struct putting *p = arg;
    p->rc = put_rows(p->w, 0, ROWS, &p->e);
    if (p->rc == 0)
        p->rc = dump_writer_seal(p->w, &p->hash, &p->e);
    atomic_store(&p->ended, true);
    return NULL;
}

static void wait_for(atomic_int *what, int value)
{
    double until_s = progress_now_s() + 20;
    while (atomic_load(what) < value && progress_now_s() < until_s)
        usleep(1000);
    assert_int_equal(atomic_load(what), value);
}

/* Without room the writing pauses, which is said once, takes no more than the queue, and goes on by itself;
 * also when only the seal finds none. */
static void test_full_disk(void **state)
{
    (void)state;
    static const rlim_t limits[] = {700000, 1280000};
    uint64_t want = direct();
    for (size_t i = 0; i < 2; i++) {
        struct putting p = {.w = start(i == 0 ? 100000 : 32 << 20)};
        pthread_t thread;
        limit_files(limits[i]);
        assert_int_equal(pthread_create(&thread, NULL, put_and_seal, &p), 0);
        wait_for(&pauses, (int)i + 1);
        usleep(300000); /* several looks for room */
        assert_false(atomic_load(&p.ended));
        limit_files(whole.rlim_cur);
        pthread_join(thread, NULL);
        assert_int_equal(p.rc, 0);
        dump_writer_close(p.w);
        assert_true(p.hash == want);
        assert_int_equal(atomic_load(&pauses), i + 1);
        assert_int_equal(atomic_load(&resumes), i + 1);
        assert_int_equal(fs_remove_tree(dir, NULL), 0);
    }
}

/* Stopped while it waits for room, it ends soon, and the dump goes on later. */
static void test_stop(void **state)
{
    (void)state;
    uint64_t want = direct();
    struct putting p = {.w = start(100000)};
    pthread_t thread;
    limit_files(700000);
    assert_int_equal(pthread_create(&thread, NULL, put_and_seal, &p), 0);
    wait_for(&pauses, 1);
    double since_s = progress_now_s();
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    dump_writer_close(p.w);
    assert_true(progress_now_s() - since_s < 5);
    limit_files(whole.rlim_cur);
    assert_int_equal(p.rc, XDC_ESTOPPED);
    assert_int_equal(atomic_load(&resumes), 1); /* nobody waits any more */
    atomic_store(&stop, false);
    struct feature_store *s = begin();
    uint64_t from = feature_store_missing(s, 0), hash;
    struct err e;
    assert_int_equal(from, 2048);
    feature_store_close(s);
    struct dump_writer *w = start(1 << 20);
    assert_int_equal(put_rows(w, 0, ROWS, &e), 0); /* what is there is passed over */
    assert_int_equal(dump_writer_seal(w, &hash, &e), 0);
    dump_writer_close(w);
    assert_true(hash == want);
}

/* What is closed without a seal has written its queue: a stop costs no more than the last block. */
static void test_close_writes(void **state)
{
    (void)state;
    struct err e;
    struct dump_writer *w = start(32 << 20);
    const struct feature_note *notes;
    assert_int_equal(dump_writer_note(w, 17, 3, &e), 0);
    assert_int_equal(put_rows(w, 0, 3100, &e), 0);
    atomic_store(&stop, true);
    dump_writer_close(w);
    struct feature_store *s = begin();
    assert_int_equal(feature_store_missing(s, 0), 3072);
    assert_int_equal(feature_store_missing(s, 1), 3072);
    assert_int_equal(feature_store_notes(s, &notes), 1);
    assert_true(notes[0].row == 17 && notes[0].reason == 3);
    feature_store_close(s);
}

/* A row that is refused is named by a later call, and every call after it; then nothing is sealed. */
static void test_errors_come_back(void **state)
{
    (void)state;
    struct err e;
    struct dump_writer *w = start(1000);
    float values[DIM] = {NAN};
    uint64_t hash;
    assert_int_equal(dump_writer_put(w, 0, 10, values, &e), 0);
    assert_int_equal(put_rows(w, 11, ROWS, &e), -ERANGE);
    assert_non_null(strstr(e.msg, "row 10 of video"));
    assert_int_equal(dump_writer_note(w, 1, 1, &e), -ERANGE);
    assert_int_equal(dump_writer_seal(w, &hash, &e), -ERANGE);
    assert_non_null(strstr(e.msg, "row 10 of video"));
    dump_writer_close(w);
    assert_int_equal(access(dir, F_OK), -1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_same_dump), TEST(test_full_disk), TEST(test_stop),
                                       TEST(test_close_writes), TEST(test_errors_come_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
