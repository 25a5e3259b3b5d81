/* leases_in and samples_out: the decoder's edges against a real ROUTER socket in the trainer's place. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/fsutil.h"
#include "lib/progress.h"
#include "services/decoder/golden.h"
#include "services/decoder/leases_in.h"
#include "services/decoder/samples_out.h"

#define WORKER XDC_BIN_DIR "/xdc-media-worker"
#define GOLDEN UINT64_C(0x1122334455667788)
#define RUN UINT64_C(0xfeedfacecafe)
#define SAMPLES_MAX 32

struct got_sample {
    struct lease_key key;
    uint32_t reason, video_bytes, audio_bytes;
    uint64_t run, hash;
    bool lost;
    size_t raw[2], n_raw;
};

/* Both ends: the decoder's edges and pool, and a socket that does what a test says. */
struct fixture {
    char dir[64];
    char endpoint[1][CONF_STRING_MAX];
    uv_loop_t loop;
    struct wire_context *context;
    struct pool pool;
    struct leases_in in;
    struct samples_out out;
    struct wire *router;
    struct wire_peer peer;
    unsigned hellos, heartbeats, n;
    uint32_t hello_slots;
    uint64_t hello_golden;
    char hello_id[80];
    size_t held;        /* of the last heartbeat */
    uint64_t held_clip; /* its first lease */
    struct got_sample samples[SAMPLES_MAX];
    unsigned refused, finished;
    char reason[128];
};

static void note_sample(struct fixture *f, const Xdc__Envelope *env, const struct wire_frame *raw,
                        size_t n_raw)
{
    const Xdc__Sample *s = env->sample;
    assert_true(f->n < SAMPLES_MAX && s->key);
    struct got_sample *g = &f->samples[f->n++];
    *g = (struct got_sample){.reason = s->reason,
                             .video_bytes = s->video_bytes,
                             .audio_bytes = s->audio_bytes,
                             .run = env->run,
                             .hash = s->hash,
                             .lost = s->lost,
                             .n_raw = n_raw};
    g->key = (struct lease_key){.incarnation = s->key->incarnation,
                                .phase = s->key->phase,
                                .round = s->key->round,
                                .epoch = s->key->epoch,
                                .stream = s->key->stream,
                                .position = s->key->position,
                                .clip = s->key->clip,
                                .attempt = s->key->attempt};
    for (size_t i = 0; i < n_raw; i++)
        g->raw[i] = raw[i].size;
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct fixture *f = arg;
    f->peer = *from;
    switch (env->body_case) {
    case XDC__ENVELOPE__BODY_HELLO:
        f->hellos++;
        f->hello_slots = env->hello->slots;
        f->hello_golden = env->hello->golden;
        snprintf(f->hello_id, sizeof f->hello_id, "%s", env->hello->decoder);
        break;
    case XDC__ENVELOPE__BODY_HEARTBEAT:
        f->heartbeats++;
        f->held = env->heartbeat->n_held;
        f->held_clip = f->held ? env->heartbeat->held[0]->clip : 0;
        break;
    case XDC__ENVELOPE__BODY_SAMPLE:
        note_sample(f, env, raw, n_raw);
        break;
    default:
        fail_msg("a message of kind %d", env->body_case);
    }
}

static void on_refused(void *arg, const char *reason)
{
    struct fixture *f = arg;
    f->refused++;
    snprintf(f->reason, sizeof f->reason, "%s", reason);
}

static void on_finished(void *arg)
{
    ((struct fixture *)arg)->finished++;
}

static void open_router(struct fixture *f)
{
    struct err e = {0};
    struct wire_options o = {
        .kind = WIRE_ROUTER, .raw_frame_max = 1 << 24, .on_message = on_message, .arg = f};
    assert_int_equal(wire_open(f->context, &f->loop, &o, &f->router, &e), 0);
    assert_int_equal(wire_bind(f->router, f->endpoint[0], &e), 0);
}

static int setup(void **state)
{
    static struct fixture f;
    struct err e = {0};
    char path[PATH_MAX];
    memset(&f, 0, sizeof f);
    snprintf(f.dir, sizeof f.dir, "/tmp/xdc-test-leases-XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    snprintf(f.endpoint[0], sizeof f.endpoint[0], "ipc://%s/clips", f.dir);
    assert_int_equal(fs_path(path, &e, "%s/good.mp4", f.dir), 0);
    assert_int_equal(fs_write_atomic(path, golden_clip, golden_clip_size, &e), 0);
    setenv("XDC_MEDIA_WORKER", WORKER, 1);
    assert_int_equal(uv_loop_init(&f.loop), 0);
    assert_int_equal(wire_context_create(&f.context, &e), 0);
    struct pool_options p = {
        .loop = &f.loop,
        .workers = 1,
        .attempts = 2,
        .limits = {.cpu_s = 5, .memory_mib = 512, .slot_bytes = 1 << 20},
        .media_root = f.dir,
        .on_answer = samples_out_answer,
        .arg = &f.out,
    };
    assert_int_equal(pool_init(&f.pool, &p, &e), 0);
    assert_int_equal(samples_out_init(&f.out, &f.loop, &f.pool, &f.in, &e), 0);
    struct leases_in_options o = {
        .loop = &f.loop,
        .context = f.context,
        .pool = &f.pool,
        .id = "decoder-test-1",
        .golden = GOLDEN,
        .links = 1,
        .endpoints = (const char(*)[CONF_STRING_MAX])f.endpoint,
        .on_refused = on_refused,
        .on_finished = on_finished,
        .arg = &f,
    };
    assert_int_equal(leases_in_start(&f.in, &o, &e), 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct err e;
    pool_stop(&f->pool);
    samples_out_stop(&f->out);
    leases_in_stop(&f->in);
    wire_close(f->router);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    wire_context_destroy(f->context);
    samples_out_close(&f->out);
    pool_close(&f->pool);
    leases_in_close(&f->in);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    return fs_remove_tree(f->dir, &e);
}

static void on_timer(uv_timer_t *t)
{
    *(bool *)t->data = true;
}

/* Runs the loop until *count >= n or `seconds` have passed. */
static void run_until(struct fixture *f, const unsigned *count, unsigned n, double seconds)
{
    bool over = false;
    uv_timer_t timer;
    uv_timer_init(&f->loop, &timer);
    timer.data = &over;
    uv_timer_start(&timer, on_timer, (uint64_t)(seconds * 1000), 0);
    while (*count < n && !over)
        uv_run(&f->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&f->loop, UV_RUN_NOWAIT);
}

static void send_env(struct fixture *f, Xdc__Envelope *env)
{
    env->run = RUN;
    assert_int_equal(wire_send(f->router, &f->peer, env, NULL, 0), 0);
}

static void send_grant(struct fixture *f, uint64_t incarnation, uint64_t clip, uint32_t crop)
{
    Xdc__LeaseKey key = XDC__LEASE_KEY__INIT;
    Xdc__Recipe recipe = XDC__RECIPE__INIT;
    Xdc__LeaseClip clip_part = XDC__LEASE_CLIP__INIT, *clips[] = {&clip_part};
    Xdc__LeaseGrant grant = XDC__LEASE_GRANT__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    key.incarnation = incarnation;
    key.phase = 3;
    key.round = 4;
    key.epoch = 5;
    key.stream = 1;
    key.position = clip + 1000;
    key.clip = clip;
    key.attempt = 6;
    recipe.frames = 8;
    recipe.resize_min = recipe.resize_max = recipe.crop = crop;
    recipe.want_video = recipe.want_audio = true;
    grant.clips = clips;
    grant.n_clips = 1;
    clip_part.key = &key;
    grant.uri = (char *)"good.mp4";
    grant.size_bytes = golden_clip_size;
    grant.video_stream = grant.audio_stream = -1;
    grant.duration_s = 2;
    grant.recipe = &recipe;
    env.body_case = XDC__ENVELOPE__BODY_LEASE_GRANT;
    env.lease_grant = &grant;
    send_env(f, &env);
}

static void acknowledge(struct fixture *f)
{
    Xdc__Heartbeat beat = XDC__HEARTBEAT__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    env.body_case = XDC__ENVELOPE__BODY_HEARTBEAT;
    env.heartbeat = &beat;
    send_env(f, &env);
}

/* Hello says who, how many slots and the golden hash; it is repeated while nobody answers, and no more once
 * heard. */
static void hello_until_heard(void **state)
{
    struct fixture *f = *state;
    open_router(f);
    run_until(f, &f->hellos, 1, 5);
    assert_int_equal(f->hellos, 1);
    assert_string_equal(f->hello_id, "decoder-test-1");
    assert_int_equal(f->hello_slots, 2);
    assert_true(f->hello_golden == GOLDEN);
    assert_true(leases_in_heard_s(&f->in) < 0);
    run_until(f, &f->hellos, 2, 4);
    assert_int_equal(f->hellos, 2);
    acknowledge(f);
    unsigned before = f->heartbeats, hellos = f->hellos;
    for (unsigned i = 1; i <= 3; i++) {
        run_until(f, &f->heartbeats, before + i, 3);
        acknowledge(f);
    }
    assert_int_equal(f->heartbeats, before + 3);
    assert_int_equal(f->hellos, hellos);
    assert_true(leases_in_heard_s(&f->in) >= 0);
}

/* A grant comes back as a sample under its whole key; samples from 64 KiB are sent from the slot, which is
 * then used again. */
static void grants_become_samples(void **state)
{
    struct fixture *f = *state;
    static const uint32_t crops[] = {32, 112, 112, 112};
    open_router(f);
    run_until(f, &f->hellos, 1, 5);
    for (unsigned i = 0; i < 4; i++) {
        send_grant(f, 9, i, crops[i]);
        run_until(f, &f->n, i + 1, 20);
        assert_int_equal(f->n, i + 1);
        const struct got_sample *s = &f->samples[i];
        const struct lease_key key = {9, 3, 4, 5, 1, i + 1000, i, 6};
        assert_true(lease_key_equal(&s->key, &key));
        assert_true(s->run == RUN);
        assert_int_equal(s->reason, 0);
        assert_int_equal(s->n_raw, 2);
        assert_int_equal(s->raw[0], 8 * crops[i] * crops[i] * 3);
        assert_int_equal(s->raw[0], s->video_bytes);
        assert_int_equal(s->raw[1], MEDIA_AUDIO_FLOATS * 4);
        assert_int_equal(s->raw[1], s->audio_bytes);
    }
    assert_true(f->samples[1].hash == f->samples[2].hash && f->samples[1].hash == f->samples[3].hash);
    assert_true(f->samples[0].hash != f->samples[1].hash);
    assert_int_equal(f->pool.held, 0);
    assert_int_equal(f->out.sent, 4);
}

/* Heartbeats list the leases held. */
static void heartbeats_list_leases(void **state)
{
    struct fixture *f = *state;
    open_router(f);
    run_until(f, &f->hellos, 1, 5);
    kill(f->pool.workers[0].child.pid, SIGSTOP);
    send_grant(f, 9, 41, 32);
    send_grant(f, 9, 42, 32);
    acknowledge(f);
    run_until(f, &f->heartbeats, f->heartbeats + 2, 5);
    assert_int_equal(f->held, 2);
    assert_int_equal(f->held_clip, 41);
    kill(f->pool.workers[0].child.pid, SIGCONT);
    run_until(f, &f->n, 2, 20);
    acknowledge(f);
    run_until(f, &f->heartbeats, f->heartbeats + 2, 5);
    assert_int_equal(f->held, 0);
}

/* A new incarnation: what the old one granted is neither done nor answered. */
static void new_incarnation(void **state)
{
    struct fixture *f = *state;
    unsigned never = 0;
    open_router(f);
    run_until(f, &f->hellos, 1, 5);
    kill(f->pool.workers[0].child.pid, SIGSTOP);
    send_grant(f, 9, 1, 32);
    send_grant(f, 9, 2, 32);
    send_grant(f, 10, 3, 32);
    run_until(f, &never, 1, 0.5);
    kill(f->pool.workers[0].child.pid, SIGCONT);
    run_until(f, &f->n, 1, 20);
    run_until(f, &f->n, 2, 0.5);
    assert_int_equal(f->n, 1);
    assert_true(f->samples[0].key.incarnation == 10);
    assert_int_equal(f->samples[0].key.clip, 3);
    assert_int_equal(f->samples[0].reason, 0);
    assert_false(f->samples[0].lost);
}

/* A trainer that goes and comes back on the same endpoint is greeted again and served. */
static void trainer_restarts(void **state)
{
    struct fixture *f = *state;
    unsigned never = 0;
    open_router(f);
    run_until(f, &f->hellos, 1, 5);
    acknowledge(f);
    run_until(f, &never, 1, 0.2);
    wire_close(f->router);
    f->router = NULL;
    run_until(f, &never, 1, 0.5);
    open_router(f);
    unsigned before = f->hellos;
    run_until(f, &f->hellos, before + 1, 8);
    assert_int_equal(f->hellos, before + 1);
    send_grant(f, 11, 7, 112);
    run_until(f, &f->n, 1, 20);
    assert_int_equal(f->n, 1);
    assert_int_equal(f->samples[0].reason, 0);
}

/* While stopping, grants that still come are answered lost. */
static void stopping_answers_lost(void **state)
{
    struct fixture *f = *state;
    open_router(f);
    run_until(f, &f->hellos, 1, 5);
    kill(f->pool.workers[0].child.pid, SIGSTOP);
    send_grant(f, 9, 1, 32);
    send_grant(f, 9, 2, 32);
    run_until(f, &f->n, 1, 0.3);
    assert_int_equal(f->n, 0);
    pool_stop(&f->pool);
    send_grant(f, 9, 3, 32);
    run_until(f, &f->n, 3, 5);
    assert_int_equal(f->n, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(f->samples[i].lost);
        assert_int_equal(f->samples[i].n_raw, 0);
    }
}

/* Refused and RunFinished are told once, with the reason. */
static void refused_and_finished(void **state)
{
    struct fixture *f = *state;
    Xdc__Refused refused = XDC__REFUSED__INIT;
    Xdc__RunFinished finished = XDC__RUN_FINISHED__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    open_router(f);
    run_until(f, &f->hellos, 1, 5);
    refused.reason = (char *)"the golden clip differs";
    env.body_case = XDC__ENVELOPE__BODY_REFUSED;
    env.refused = &refused;
    send_env(f, &env);
    send_env(f, &env);
    env.body_case = XDC__ENVELOPE__BODY_RUN_FINISHED;
    env.run_finished = &finished;
    send_env(f, &env);
    send_env(f, &env);
    run_until(f, &f->finished, 2, 0.5);
    assert_int_equal(f->refused, 1);
    assert_string_equal(f->reason, "the golden clip differs");
    assert_int_equal(f->finished, 1);
}

/* Grants that make no sense are refused by name and leave nothing. */
static void grants_that_make_no_sense(void **state)
{
    static const char *const faults[] = {"no key", "no uri", "no recipe", "frames",
                                         "crop",   "resize", "not finite"};
    (void)state;
    for (unsigned i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        Xdc__LeaseKey key = XDC__LEASE_KEY__INIT;
        Xdc__Recipe recipe = XDC__RECIPE__INIT;
        Xdc__LeaseClip clip_part = XDC__LEASE_CLIP__INIT, *clips[] = {&clip_part};
        Xdc__LeaseGrant grant = XDC__LEASE_GRANT__INIT;
        struct lease *leases[MEDIA_CLIPS_MAX];
        unsigned n = 9;
        struct err e = {0};
        recipe.frames = recipe.crop = recipe.resize_min = recipe.resize_max = 16;
        recipe.want_video = true;
        grant.clips = clips;
        grant.n_clips = 1;
        clip_part.key = i == 0 ? NULL : &key;
        grant.uri = (char *)(i == 1 ? "" : "a.mp4");
        grant.recipe = i == 2 ? NULL : &recipe;
        if (i == 3)
            recipe.frames = 0;
        if (i == 4)
            recipe.crop = UINT32_MAX;
        if (i == 5)
            recipe.resize_max = 1u << 30;
        if (i == 6)
            clip_part.start_s = (double)NAN;
        assert_int_equal(lease_from_grant(&grant, 0, 1, leases, &n, &e), XDC_EFORMAT);
        assert_non_null(strstr(e.msg, faults[i]));
        assert_int_equal(n, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(hello_until_heard),      T(grants_become_samples),
        T(heartbeats_list_leases), T(new_incarnation),
        T(trainer_restarts),       T(stopping_answers_lost),
        T(refused_and_finished),   cmocka_unit_test(grants_that_make_no_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
