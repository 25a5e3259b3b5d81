/* pool: real media workers on real files, and on files and workers that fail. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/fsutil.h"
#include "lib/progress.h"
#include "lib/media/sandbox.h"
#include "services/decoder/golden.h"
#include "services/decoder/pool.h"

#define ANSWERS_MAX 32
#define WORKER XDC_BIN_DIR "/xdc-media-worker"
#define VIDEO_BYTES (8 * 32 * 32 * 3)
#define AUDIO_BYTES (MEDIA_AUDIO_FLOATS * 4)

struct answer {
    uint64_t clip, hash;
    uint32_t reason, video_bytes, audio_bytes;
    bool lost;
    struct worker *worker;
};

/* One pool with its loop; answers are noted, and slots given back at once unless `keep`. */
struct fixture {
    char dir[64];
    uv_loop_t loop;
    struct pool pool;
    bool keep;
    unsigned n;
    struct answer answers[ANSWERS_MAX];
};

static void on_answer(void *arg, struct lease *l)
{
    struct fixture *f = arg;
    assert_true(f->n < ANSWERS_MAX);
    f->answers[f->n++] = (struct answer){
        .clip = l->key.clip,
        .hash = l->result.hash,
        .reason = l->result.reason,
        .video_bytes = l->result.video_bytes,
        .audio_bytes = l->result.audio_bytes,
        .lost = l->lost,
        .worker = l->worker,
    };
    struct worker *w = l->worker;
    pool_lease_done(&f->pool, l);
    if (w && !f->keep)
        pool_worker_free(w);
}

static void put_file(const struct fixture *f, const char *name, const void *data, size_t size)
{
    char path[PATH_MAX];
    struct err e;
    assert_int_equal(fs_path(path, &e, "%s/%s", f->dir, name), 0);
    assert_int_equal(fs_write_atomic(path, data, size, &e), 0);
}

static void open_pool(struct fixture *f, unsigned workers, unsigned attempts, unsigned wall_s)
{
    struct err e = {0};
    struct pool_options o = {
        .loop = &f->loop,
        .workers = workers,
        .attempts = attempts,
        .wall_s = wall_s,
        .limits = {.cpu_s = 5, .memory_mib = 512, .slot_bytes = 64 * 1024},
        .media_root = f->dir,
        .on_answer = on_answer,
        .arg = f,
    };
    memset(f->answers, 0, sizeof f->answers);
    f->n = 0;
    assert_int_equal(pool_init(&f->pool, &o, &e), 0);
}

static void close_pool(struct fixture *f)
{
    pool_close(&f->pool);
    uv_run(&f->loop, UV_RUN_DEFAULT);
}

static int setup(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    snprintf(f.dir, sizeof f.dir, "/tmp/xdc-test-pool-XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    assert_int_equal(uv_loop_init(&f.loop), 0);
    setenv("XDC_MEDIA_WORKER", WORKER, 1);
    put_file(&f, "good.mp4", golden_clip, golden_clip_size);
    put_file(&f, "garbage.mp4", "this is no film at all, whatever its name says", 46);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct err e;
    assert_int_equal(uv_loop_close(&f->loop), 0); /* no handle is left */
    return fs_remove_tree(f->dir, &e);
}

static void add(struct fixture *f, struct lease *l)
{
    pool_add(&f->pool, &l, 1);
}

static struct lease *make_lease(uint64_t clip, const char *uri, uint64_t size_bytes)
{
    struct lease *leases[MEDIA_CLIPS_MAX];
    unsigned n = 0;
    struct err e = {0};
    Xdc__LeaseKey key = XDC__LEASE_KEY__INIT;
    Xdc__Recipe recipe = XDC__RECIPE__INIT;
    Xdc__LeaseClip clip_part = XDC__LEASE_CLIP__INIT, *clips[] = {&clip_part};
    Xdc__LeaseGrant grant = XDC__LEASE_GRANT__INIT;
    key.incarnation = 7;
    key.phase = 2;
    key.clip = key.position = clip;
    recipe.frames = 8;
    recipe.resize_min = recipe.resize_max = 40;
    recipe.crop = 32;
    recipe.want_video = recipe.want_audio = true;
    grant.clips = clips;
    grant.n_clips = 1;
    clip_part.key = &key;
    grant.uri = (char *)uri;
    grant.size_bytes = size_bytes;
    grant.video_stream = grant.audio_stream = -1;
    clip_part.start_s = 0.2;
    grant.duration_s = 2;
    grant.recipe = &recipe;
    assert_int_equal(lease_from_grant(&grant, 0, 1, leases, &n, &e), 0);
    assert_int_equal(n, 1);
    return leases[0];
}

static struct lease *good_lease(uint64_t clip)
{
    return make_lease(clip, "good.mp4", golden_clip_size);
}

static void on_timer(uv_timer_t *t)
{
    *(bool *)t->data = true;
}

/* Runs the loop until `n` answers are there or `seconds` have passed. */
static void run_until(struct fixture *f, unsigned n, double seconds)
{
    bool over = false;
    uv_timer_t timer;
    uv_timer_init(&f->loop, &timer);
    timer.data = &over;
    uv_timer_start(&timer, on_timer, (uint64_t)(seconds * 1000), 0);
    while (f->n < n && !over)
        uv_run(&f->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&f->loop, UV_RUN_NOWAIT);
}

/* Equal leases give equal samples, whichever worker does them, and nothing stays held. */
static void decodes_leases(void **state)
{
    struct fixture *f = *state;
    open_pool(f, 2, 2, 0);
    assert_int_equal(f->pool.slots, 4);
    assert_int_equal(pool_running(&f->pool), 2);
    for (unsigned i = 0; i < 4; i++)
        add(f, good_lease(i));
    run_until(f, 4, 20);
    assert_int_equal(f->n, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(f->answers[i].reason, MEDIA_OK);
        assert_false(f->answers[i].lost);
        assert_int_equal(f->answers[i].video_bytes, VIDEO_BYTES);
        assert_int_equal(f->answers[i].audio_bytes, AUDIO_BYTES);
        assert_true(f->answers[i].hash != 0);
        assert_true(f->answers[i].hash == f->answers[0].hash);
    }
    assert_int_equal(f->pool.held, 0);
    assert_int_equal(f->pool.queued, 0);
    assert_int_equal(f->pool.decoded, 4);
    close_pool(f);
}

/* What is wrong with a file is its answer; the worker and the pool go on. */
static void bad_files_have_reasons(void **state)
{
    static const struct {
        const char *uri;
        uint64_t size;
        uint32_t reason;
    } cases[] = {
        {"missing.mp4", 10, MEDIA_OPEN_FAILED},
        {".", 10, MEDIA_OPEN_FAILED},
        {"good.mp4", 12345, MEDIA_CHANGED_SINCE_INDEX},
        {"garbage.mp4", 46, MEDIA_UNREADABLE},
    };
    struct fixture *f = *state;
    open_pool(f, 1, 2, 0);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        add(f, make_lease(i, cases[i].uri, cases[i].size));
        run_until(f, i + 1, 20);
        assert_int_equal(f->n, i + 1);
        assert_int_equal(f->answers[i].reason, cases[i].reason);
        assert_null(f->answers[i].worker);
        assert_int_equal(f->answers[i].video_bytes, 0);
        assert_true(f->pool.failed[cases[i].reason] > 0);
    }
    unsigned before = f->n;
    add(f, good_lease(99));
    run_until(f, before + 1, 20);
    assert_int_equal(f->answers[before].reason, MEDIA_OK);
    assert_int_equal(f->pool.workers_died, 0);
    close_pool(f);
}

/* A grant beyond the slots is answered lost, at once; one whose key is held is done once. */
static void bounds_and_doubles(void **state)
{
    struct fixture *f = *state;
    struct lease_key keys[POOL_SLOTS_MAX];
    open_pool(f, 1, 2, 0);
    add(f, good_lease(1));
    add(f, good_lease(2));
    add(f, good_lease(1));
    add(f, good_lease(2));
    assert_int_equal(f->n, 0);
    assert_int_equal(pool_held(&f->pool, 0, keys), 2);
    assert_int_equal(keys[0].clip, 1);
    assert_int_equal(keys[1].clip, 2);
    assert_int_equal(pool_held(&f->pool, 1, keys), 0);
    add(f, good_lease(3));
    assert_int_equal(f->n, 1);
    assert_int_equal(f->answers[0].clip, 3);
    assert_true(f->answers[0].lost);
    run_until(f, 3, 20);
    run_until(f, 4, 0.3);
    assert_int_equal(f->n, 3);
    assert_int_equal(f->pool.decoded, 2);
    close_pool(f);
}

/* A slot whose sample is on the wire is not written to: the next lease waits until it is given back. */
static void slot_waits_for_the_network(void **state)
{
    struct fixture *f = *state;
    f->keep = true;
    open_pool(f, 1, 2, 0);
    add(f, good_lease(1));
    add(f, good_lease(2));
    run_until(f, 2, 1.0);
    assert_int_equal(f->n, 1);
    assert_int_equal(f->pool.queued, 1);
    pool_worker_free(f->answers[0].worker);
    run_until(f, 2, 20);
    assert_int_equal(f->n, 2);
    close_pool(f);
}

/* Leases of an older incarnation or phase vanish without an answer, queued or running; newer ones are served.
 */
static void superseded_leases_vanish(void **state)
{
    struct fixture *f = *state;
    open_pool(f, 1, 2, 0);
    add(f, good_lease(1));
    add(f, good_lease(2));
    pool_supersede(&f->pool, 0, 8, 2);
    assert_int_equal(f->pool.queued, 0);
    struct lease *newer = good_lease(3);
    newer->key.incarnation = 8;
    add(f, newer);
    run_until(f, 1, 20);
    run_until(f, 2, 0.3);
    assert_int_equal(f->n, 1);
    assert_int_equal(f->answers[0].clip, 3);
    assert_int_equal(f->answers[0].reason, MEDIA_OK);
    assert_int_equal(f->pool.superseded, 2);
    close_pool(f);
}

/* A worker that dies on a clip: the clip is tried again in a fresh one; after `attempts` deaths it has its
 * reason. */
static void dead_workers(void **state)
{
    struct fixture *f = *state;
    for (unsigned attempts = 1; attempts <= 2; attempts++) {
        open_pool(f, 1, attempts, 0);
        pid_t pid = f->pool.workers[0].child.pid;
        assert_true(pid > 0);
        kill(pid, SIGSTOP); /* so that the clip cannot be done before the end */
        add(f, good_lease(1));
        kill(pid, SIGKILL);
        run_until(f, 1, 20);
        assert_int_equal(f->n, 1);
        uint32_t reason = f->answers[0].reason; /* SIGKILL is also what the out-of-memory killer sends */
        assert_true(attempts == 1 ? reason == MEDIA_WORKER_DIED || reason == MEDIA_MEMORY_LIMIT
                                  : reason == MEDIA_OK);
        assert_false(f->answers[0].lost);
        assert_int_equal(f->pool.workers_died, 1);
        add(f, good_lease(2));
        run_until(f, 2, 20);
        assert_int_equal(f->answers[1].reason, MEDIA_OK);
        close_pool(f);
    }
}

/* A worker that died between two clips costs nothing. */
static void idle_death_costs_nothing(void **state)
{
    struct fixture *f = *state;
    open_pool(f, 1, 1, 0);
    kill(f->pool.workers[0].child.pid, SIGKILL);
    usleep(50000);
    add(f, good_lease(1));
    run_until(f, 1, 20);
    assert_int_equal(f->n, 1);
    assert_int_equal(f->answers[0].reason, MEDIA_OK);
    close_pool(f);
}

/* A worker past the wall time is ended and its lease lost: that is no fault of the file. */
static void wall_time(void **state)
{
    struct fixture *f = *state;
    open_pool(f, 1, 2, 1);
    kill(f->pool.workers[0].child.pid, SIGSTOP);
    add(f, good_lease(1));
    run_until(f, 1, 1.2);
    assert_int_equal(f->n, 0);
    pool_tick(&f->pool);
    run_until(f, 1, 5);
    assert_int_equal(f->n, 1);
    assert_true(f->answers[0].lost);
    add(f, good_lease(2));
    run_until(f, 2, 20);
    assert_int_equal(f->answers[1].reason, MEDIA_OK);
    assert_false(f->answers[1].lost);
    close_pool(f);
}

/* Leases of one grant are one job: each has its own answer, equal to that of a lease by itself, and the slot
 * is free when the last of them has been let go. */
static void groups_share_a_worker(void **state)
{
    struct fixture *f = *state;
    struct lease *group[5];
    uint64_t single[5];
    open_pool(f, 1, 2, 0);
    f->pool.slots = 8;
    for (unsigned i = 0; i < 5; i++) {
        struct lease *l = good_lease(i);
        l->clip.start_s = 0.3 * i;
        add(f, l);
        run_until(f, i + 1, 20);
        single[i] = f->answers[i].hash;
    }
    f->n = 0;
    f->keep = true;
    for (unsigned i = 0; i < 5; i++) {
        group[i] = good_lease(10 + i);
        group[i]->clip.start_s = 0.3 * i;
        group[i]->group = 77;
    }
    pool_add(&f->pool, group, 5);
    add(f, good_lease(99));
    run_until(f, 6, 2.0);
    assert_int_equal(f->n, 5); /* 99 waits for the slot */
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(f->answers[i].clip, 10 + i);
        assert_int_equal(f->answers[i].reason, MEDIA_OK);
        assert_true(f->answers[i].hash == single[i]);
        assert_ptr_equal(f->answers[i].worker, &f->pool.workers[0]);
    }
    assert_int_equal(f->pool.workers[0].samples, 5);
    pool_worker_free(&f->pool.workers[0]);
    run_until(f, 6, 20);
    assert_int_equal(f->answers[5].clip, 99);
    close_pool(f);
}

/* A worker that dies on a group costs nobody a reason: its clips are done again, each alone. */
static void groups_survive_a_death(void **state)
{
    struct fixture *f = *state;
    struct lease *group[3];
    open_pool(f, 1, 1, 0);
    f->pool.slots = 8;
    for (unsigned i = 0; i < 3; i++) {
        group[i] = good_lease(i);
        group[i]->group = 5;
    }
    pool_add(&f->pool, group, 3); /* into a new worker: their slot is larger */
    kill(f->pool.workers[0].child.pid, SIGKILL);
    run_until(f, 3, 20);
    assert_int_equal(f->n, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(f->answers[i].reason, MEDIA_OK);
    assert_int_equal(f->pool.workers_died, 1);
    close_pool(f);
}

/* After so many clips a worker is another process. */
static void workers_are_recycled(void **state)
{
    struct fixture *f = *state;
    open_pool(f, 1, 2, 0);
    f->pool.options.recycle = 2;
    pid_t first = 0;
    for (unsigned i = 0; i < 5; i++) {
        add(f, good_lease(i));
        run_until(f, i + 1, 20);
        assert_int_equal(f->answers[i].reason, MEDIA_OK);
        if (i < 2)
            assert_true(first == 0 || first == f->pool.workers[0].child.pid);
        first = first ? first : f->pool.workers[0].child.pid;
    }
    assert_true(first != f->pool.workers[0].child.pid);
    assert_int_equal(f->pool.recycled, 2);
    assert_int_equal(f->pool.workers_died, 0);
    close_pool(f);
}

/* Without a worker program leases wait and the pool says why; once it is there, they are done. */
static void no_worker_program(void **state)
{
    struct fixture *f = *state;
    setenv("XDC_MEDIA_WORKER", "/nonexistent/xdc-media-worker", 1);
    open_pool(f, 2, 2, 0);
    assert_true(f->pool.cannot_start);
    assert_non_null(strstr(f->pool.start_error, "worker"));
    assert_int_equal(pool_running(&f->pool), 0);
    add(f, good_lease(1));
    run_until(f, 1, 0.3);
    assert_int_equal(f->n, 0);
    assert_int_equal(f->pool.held, 1);
    setenv("XDC_MEDIA_WORKER", "/bin/false", 1); /* starts, and is none */
    run_until(f, 1, 1.1);
    pool_tick(&f->pool);
    run_until(f, 1, 0.5);
    assert_true(f->pool.cannot_start);
    assert_int_equal(f->n, 0);
    setenv("XDC_MEDIA_WORKER", WORKER, 1);
    run_until(f, 1, 1.1);
    pool_tick(&f->pool);
    assert_false(f->pool.cannot_start);
    run_until(f, 1, 20);
    assert_int_equal(f->n, 1);
    assert_int_equal(f->answers[0].reason, MEDIA_OK);
    close_pool(f);
}

/* A recipe larger than the slots of before gets a larger slot. */
static void larger_recipe(void **state)
{
    struct fixture *f = *state;
    open_pool(f, 1, 2, 0);
    struct lease *l = good_lease(1);
    l->recipe.resize_min = l->recipe.resize_max = l->recipe.crop = 128;
    add(f, l);
    run_until(f, 1, 20);
    assert_int_equal(f->n, 1);
    assert_int_equal(f->answers[0].reason, MEDIA_OK);
    assert_int_equal(f->answers[0].video_bytes, 8 * 128 * 128 * 3);
    close_pool(f);
}

/* On stop everything held is answered lost, workers end, and what comes later is lost too. */
static void stop_gives_back(void **state)
{
    struct fixture *f = *state;
    open_pool(f, 1, 2, 0);
    add(f, good_lease(1));
    add(f, good_lease(2));
    pool_stop(&f->pool);
    assert_int_equal(f->n, 2);
    assert_true(f->answers[0].lost && f->answers[1].lost);
    assert_int_equal(pool_running(&f->pool), 0);
    add(f, good_lease(3));
    assert_int_equal(f->n, 3);
    assert_true(f->answers[2].lost);
    close_pool(f);
}

/* The golden hash is the same every time. */
static void golden_is_stable(void **state)
{
    struct err e = {0};
    struct media_child_limits limits = {.cpu_s = 5, .memory_mib = 512, .slot_bytes = 4096};
    uint64_t a = 0, b = 0;
    (void)state;
    uint32_t parts = 0;
    assert_int_equal(golden_hash(&limits, &a, &parts, &e), 0);
    assert_int_equal(golden_hash(&limits, &b, &parts, &e), 0);
    assert_true(a != 0 && a == b);
    assert_true(parts & SANDBOX_NO_NEW_PRIVS);
    setenv("XDC_MEDIA_WORKER", "/nonexistent/xdc-media-worker", 1);
    assert_true(golden_hash(&limits, &a, &parts, &e) < 0);
}

/* A worker that is killed at that moment is no verdict on the machine: the decoder may be started again. */
static void golden_worker_is_killed(void **state)
{
    struct fixture *f = *state;
    static const char script[] = "#!/bin/sh\nkill -9 $$\n";
    struct err e = {0};
    struct media_child_limits limits = {.cpu_s = 5, .memory_mib = 512, .slot_bytes = 4096};
    uint64_t hash;
    uint32_t parts;
    char path[PATH_MAX];
    put_file(f, "killed", script, sizeof script - 1);
    assert_int_equal(fs_path(path, &e, "%s/killed", f->dir), 0);
    assert_int_equal(chmod(path, 0700), 0);
    setenv("XDC_MEDIA_WORKER", path, 1);
    assert_int_equal(golden_hash(&limits, &hash, &parts, &e), XDC_ELOST);
    assert_int_equal(err_exit_status(XDC_ELOST), 69);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(decodes_leases),
        T(bad_files_have_reasons),
        T(bounds_and_doubles),
        T(slot_waits_for_the_network),
        T(superseded_leases_vanish),
        T(dead_workers),
        T(idle_death_costs_nothing),
        T(wall_time),
        T(groups_share_a_worker),
        T(groups_survive_a_death),
        T(workers_are_recycled),
        T(no_worker_program),
        T(larger_recipe),
        T(stop_gives_back),
        T(golden_is_stable),
        T(golden_worker_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
