/* checkpoint_writer: what is written is the moment at which it was begun, one at a time, beside the caller;
 * what goes wrong is said by the next call. */
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

#include "lib/fsutil.h"
#include "lib/progress.h"
#include "services/trainer/checkpoint_writer.h"
#include "tests/lib/small_net.h"

enum { RUN = 0x77 };

static const struct net_spec tiny = SMALL_NET(4, 16, 1);

static char dir[64];

/* What a test needs: a writer with its net and quarantine, and the reports that came. */
struct desk {
    struct checkpoint_writer writer;
    struct net *net;
    struct quarantine quarantine;
    struct checkpoint_report last;
    unsigned reports;
};

static int on_written(void *arg, const struct checkpoint_report *r, struct err *e)
{
    struct desk *d = arg;
    (void)e;
    d->last = *r;
    d->reports++;
    return 0;
}

static int setup(void **state)
{
    static const struct checkpoint_keep keep = {2, 0};
    static struct desk d;
    struct err e = {0};
    strcpy(dir, "/tmp/xdc-test-writer-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    d = (struct desk){0};
    quarantine_init(&d.quarantine);
    checkpoint_writer_init(&d.writer, dir, RUN, &keep, on_written, &d);
    *state = &d;
    return net_create(&tiny, &d.net, &e);
}

static int teardown(void **state)
{
    struct desk *d = *state;
    struct err e;
    net_destroy(d->net);
    quarantine_close(&d->quarantine);
    return fs_remove_tree(dir, &e);
}

static const char *file_of(uint64_t step, const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/checkpoints/step-%012llu/%s", dir, (unsigned long long)step, name);
    return path;
}

static bool there(uint64_t step)
{
    return access(file_of(step, CHECKPOINT_DONE), F_OK) == 0;
}

static int begin(struct desk *d, uint64_t step, struct err *e)
{
    struct train_state s = {
        .phase = PHASE_TRAIN, .step = step, .ranks = 1, .ledgers = {{1, 48 * step, step}}};
    return checkpoint_writer_begin(&d->writer, &s, d->net, &d->quarantine, progress_now_s(), e);
}

/* Audio statistics stand for whatever changes in a net between two steps. */
static void change(struct desk *d, double mean)
{
    struct err e;
    uint32_t classes = 3;
    uint64_t seed = (uint64_t)mean;
    assert_int_equal(net_set_audio_stats(d->net, mean, 1, &e), 0);
    assert_int_equal(net_reset_heads(d->net, NET_VIDEO, NET_HEAD_LINEAR, 1, &classes, &seed, &e), 0);
}

static char *bytes_of(uint64_t step, const char *name, size_t *size)
{
    char *data = NULL;
    struct err e = {0};
    if (fs_read(file_of(step, name), 1 << 28, &data, size, &e) < 0)
        fail_msg("%s", e.msg);
    return data;
}

/* Net, quarantine and state may change as soon as begin has returned: what is written is what they were, and
 * that is what a writer gives that nobody disturbs. */
static void the_moment_of_begin_is_written(void **state)
{
    struct desk *d = *state;
    struct err e = {0};
    char *first[2];
    size_t size[2];
    static const char *const files[] = {CHECKPOINT_WEIGHTS, CHECKPOINT_STATE};
    change(d, 4);
    assert_int_equal(quarantine_add(&d->quarantine, 5, 3), 1);
    assert_int_equal(begin(d, 10, &e), 0);
    assert_int_equal(checkpoint_writer_wait(&d->writer, &e), 0);
    for (unsigned f = 0; f < 2; f++)
        first[f] = bytes_of(10, files[f], &size[f]);

    assert_int_equal(begin(d, 10, &e), 0);
    change(d, 5);
    assert_int_equal(quarantine_add(&d->quarantine, 6, 3), 1);
    assert_int_equal(checkpoint_writer_wait(&d->writer, &e), 0);
    for (unsigned f = 0; f < 2; f++) {
        size_t n;
        char *data = bytes_of(10, files[f], &n);
        assert_int_equal(n, size[f]);
        assert_memory_equal(data, first[f], n);
        free(data);
        free(first[f]);
    }
}

/* Nothing in flight: poll and wait say so and report nothing; after wait the checkpoint is there and was
 * reported once, with its step and times. */
static void wait_means_complete(void **state)
{
    struct desk *d = *state;
    struct err e = {0};
    assert_int_equal(checkpoint_writer_poll(&d->writer, &e), 0);
    assert_int_equal(checkpoint_writer_wait(&d->writer, &e), 0);
    assert_int_equal(d->reports, 0);
    for (uint64_t step = 1; step <= 5; step++) {
        assert_int_equal(begin(d, step, &e), 0);
        assert_int_equal(checkpoint_writer_wait(&d->writer, &e), 0);
        assert_true(there(step));
        assert_int_equal(d->reports, step);
        assert_int_equal(d->last.step, step);
        assert_true(d->last.write_s > 0 && d->last.stall_s > 0 && d->last.stall_s < 60);
        assert_int_equal(checkpoint_writer_wait(&d->writer, &e), 0);
        assert_int_equal(d->reports, step);
    }
    assert_true(there(4) && !there(3)); /* pruned */
}

/* An older checkpoint whose DONE is a pipe holds the writer in its pruning until somebody writes to it. */
static void hold(void)
{
    char path[160];
    struct err e;
    snprintf(path, sizeof path, "%s/checkpoints/step-%012llu", dir, 1ull);
    assert_int_equal(fs_mkdirs(path, &e), 0);
    assert_int_equal(fs_write_atomic(file_of(1, CHECKPOINT_STATE), "{}", 2, &e), 0);
    assert_int_equal(mkfifo(file_of(1, CHECKPOINT_DONE), 0600), 0);
}

static atomic_bool let_go;

static void *release(void *arg)
{
    char *path = arg;
    usleep(100000);
    atomic_store(&let_go, true);
    int fd = open(path, O_WRONLY);
    close(fd);
    return NULL;
}

/* While one is being written begin has returned and poll returns; the next begin returns only when the first
 * is complete. */
static void one_is_in_flight_at_a_time(void **state)
{
    struct desk *d = *state;
    struct err e = {0};
    char path[160];
    pthread_t thread;
    hold();
    snprintf(path, sizeof path, "%s", file_of(1, CHECKPOINT_DONE));
    atomic_store(&let_go, false);
    assert_int_equal(begin(d, 10, &e), 0);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(checkpoint_writer_poll(&d->writer, &e), 0);
        usleep(1000);
    }
    assert_int_equal(d->reports, 0);
    assert_int_equal(pthread_create(&thread, NULL, release, path), 0);
    assert_int_equal(begin(d, 20, &e), 0);
    assert_true(atomic_load(&let_go));
    assert_int_equal(d->reports, 1);
    assert_int_equal(d->last.step, 10);
    assert_true(d->last.stall_s > 0.05 && d->last.write_s > 0.1);
    assert_true(there(10) && !there(1));
    assert_int_equal(checkpoint_writer_wait(&d->writer, &e), 0);
    assert_int_equal(d->reports, 2);
    assert_true(there(20) && d->last.stall_s < d->last.write_s + 60);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* Poll reports without waiting, as soon as the writer has ended. */
static void poll_reports_the_end(void **state)
{
    struct desk *d = *state;
    struct err e = {0};
    assert_int_equal(begin(d, 10, &e), 0);
    for (unsigned i = 0; i < 60000 && d->reports == 0; i++) {
        assert_int_equal(checkpoint_writer_poll(&d->writer, &e), 0);
        usleep(1000);
    }
    assert_int_equal(d->reports, 1);
    assert_true(there(10));
}

enum call { POLL, WAIT, BEGIN };

static int next_call(struct desk *d, enum call c, struct err *e)
{
    int rc = 0;
    switch (c) {
    case POLL:
        for (unsigned i = 0; i < 60000 && rc == 0; i++, usleep(1000))
            rc = checkpoint_writer_poll(&d->writer, e);
        return rc;
    case WAIT:
        return checkpoint_writer_wait(&d->writer, e);
    case BEGIN:
        return begin(d, 30, e);
    }
    return rc;
}

/* The disk full, here a limit on a file's size: the next call, whichever it is, fails once with the writer's
 * sentence; the checkpoint before is whole, nothing is left of the failed one, and the next one is written.
 */
static void a_failed_write_is_said_by_the_next_call(void **state)
{
    struct desk *d = *state;
    struct rlimit old, low;
    struct err e = {0};
    assert_int_equal(begin(d, 10, &e), 0);
    assert_int_equal(checkpoint_writer_wait(&d->writer, &e), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (enum call c = POLL; c <= BEGIN; c++) {
        e = (struct err){0};
        unsigned reports = d->reports;
        low = (struct rlimit){4096, old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
        assert_int_equal(begin(d, 20, &e), 0);
        int rc = next_call(d, c, &e);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(rc, -EFBIG);
        assert_int_equal(e.code, -EFBIG);
        assert_non_null(strstr(e.msg, "checkpoint of step 20"));
        assert_int_equal(d->reports, reports);
        assert_int_equal(checkpoint_writer_wait(&d->writer, &e), 0);
        assert_true(there(10) && !there(20));
        char tmp[128];
        snprintf(tmp, sizeof tmp, "%s/checkpoints/tmp-%012u", dir, 20);
        assert_int_equal(access(tmp, F_OK), -1);
    }
    signal(SIGXFSZ, handler);
    assert_int_equal(begin(d, 20, &e), 0);
    assert_int_equal(checkpoint_writer_wait(&d->writer, &e), 0);
    assert_true(there(20));
}

/* The directory cannot be made: said with its path. */
static void an_unusable_directory_is_named(void **state)
{
    struct desk *d = *state;
    struct err e = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/checkpoints", dir);
    assert_int_equal(fs_write_atomic(path, "", 0, &e), 0);
    assert_int_equal(begin(d, 10, &e), 0);
    assert_int_equal(checkpoint_writer_wait(&d->writer, &e), -ENOTDIR);
    assert_non_null(strstr(e.msg, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_moment_of_begin_is_written, setup, teardown),
        cmocka_unit_test_setup_teardown(wait_means_complete, setup, teardown),
        cmocka_unit_test_setup_teardown(one_is_in_flight_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(poll_reports_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_write_is_said_by_the_next_call, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unusable_directory_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
