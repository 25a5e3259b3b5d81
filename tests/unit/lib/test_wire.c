/* Real sockets on a real loop over ipc in a directory of the test's own. */
#include "lib/wire.h"
#include "lib/fsutil.h"

#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#define RAW_MAX (256 * 1024)
#define WAIT_MS 5000

/* One end, and what it has seen. */
struct end {
    struct wire *wire;
    int messages;
    struct wire_peer from;
    Xdc__Envelope__BodyCase body;
    uint32_t last_round;
    char text[256];
    size_t n_raw, raw_size[WIRE_RAW_FRAMES_MAX];
    uint8_t first[WIRE_RAW_FRAMES_MAX], last[WIRE_RAW_FRAMES_MAX];
    bool echo;           /* send every message's raw frames back */
    bool close_on_first; /* close the wire from its own callback */
    bool in_order;
};

struct fixture {
    char dir[64];
    char endpoint[128];
    uv_loop_t loop;
    uv_timer_t tick;
    int left_ms;
    struct wire_context *context;
    struct end router, dealer;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err e;
    snprintf(f->dir, sizeof f->dir, "/tmp/xdc-test-wire-XXXXXX");
    if (!mkdtemp(f->dir) || wire_context_create(&f->context, &e) < 0)
        return -1;
    snprintf(f->endpoint, sizeof f->endpoint, "ipc://%s/s", f->dir);
    *state = f;
    return uv_loop_init(&f->loop) < 0 ? -1 : uv_timer_init(&f->loop, &f->tick);
}

/* Whatever a test did, the loop must run empty and close: no handle may be left. */
static int tear_down(void **state)
{
    struct fixture *f = *state;
    wire_close(f->router.wire);
    wire_close(f->dealer.wire);
    uv_close((uv_handle_t *)&f->tick, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&f->loop);
    wire_context_destroy(f->context);
    if (fs_remove_tree(f->dir, NULL) < 0)
        rc = -1;
    free(f);
    return rc;
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct end *end = arg;
    end->messages++;
    end->from = *from;
    end->body = env->body_case;
    if (env->body_case == XDC__ENVELOPE__BODY_DUMP_SEALED) {
        end->in_order = end->messages == 1 || env->dump_sealed->round == end->last_round + 1;
        end->last_round = env->dump_sealed->round;
    }
    if (env->body_case == XDC__ENVELOPE__BODY_REFUSED)
        snprintf(end->text, sizeof end->text, "%s", env->refused->reason);
    end->n_raw = n_raw;
    struct wire_part parts[WIRE_RAW_FRAMES_MAX] = {0};
    for (size_t i = 0; i < n_raw; i++) {
        end->raw_size[i] = raw[i].size;
        end->first[i] = raw[i].size ? *(const uint8_t *)raw[i].data : 0;
        end->last[i] = raw[i].size ? ((const uint8_t *)raw[i].data)[raw[i].size - 1] : 0;
        parts[i] = (struct wire_part){.data = raw[i].data, .size = raw[i].size};
    }
    if (end->echo) {
        Xdc__Envelope back = *env;
        assert_int_equal(wire_send(end->wire, from, &back, parts, n_raw), 0);
    }
    if (end->close_on_first) {
        wire_close(end->wire);
        end->wire = NULL;
    }
}

static void open_end(struct fixture *f, struct end *end, enum wire_kind kind, const char *id, int queue)
{
    struct err e;
    struct wire_options o = {.kind = kind,
                             .id = id,
                             .raw_frame_max = RAW_MAX,
                             .queue_max = queue,
                             .on_message = on_message,
                             .arg = end};
    assert_int_equal(wire_open(f->context, &f->loop, &o, &end->wire, &e), 0);
}

static void open_both(struct fixture *f)
{
    struct err e;
    open_end(f, &f->router, WIRE_ROUTER, NULL, 0);
    open_end(f, &f->dealer, WIRE_DEALER, "decoder-7", 0);
    assert_int_equal(wire_bind(f->router.wire, f->endpoint, &e), 0);
    assert_int_equal(wire_connect(f->dealer.wire, f->endpoint, &e), 0);
}

static void on_tick(uv_timer_t *t)
{
    ((struct fixture *)t->data)->left_ms--;
}

/* Runs the loop until *counter reaches `want`; false after WAIT_MS. The tick alone would not read a socket.
 */
static bool run_until(struct fixture *f, const void *counter, uint64_t want, bool is_u64, int ms)
{
    f->tick.data = f;
    f->left_ms = ms;
    uv_timer_start(&f->tick, on_tick, 1, 1);
    bool done = false;
    while (!done && f->left_ms > 0) {
        uv_run(&f->loop, UV_RUN_ONCE);
        done = (is_u64 ? *(const uint64_t *)counter : (uint64_t) * (const int *)counter) >= want;
    }
    uv_timer_stop(&f->tick);
    return done;
}

static bool wait_messages(struct fixture *f, const struct end *end, int want)
{
    return run_until(f, &end->messages, (uint64_t)want, false, WAIT_MS);
}

static bool wait_counter(struct fixture *f, const uint64_t *counter, uint64_t want)
{
    return run_until(f, counter, want, true, WAIT_MS);
}

static void let_run(struct fixture *f, int ms)
{
    static const int never;
    run_until(f, &never, 1, false, ms);
}

static int send_round(struct end *end, const struct wire_peer *to, uint32_t round,
                      const struct wire_part *parts, size_t n)
{
    Xdc__DumpSealed body = XDC__DUMP_SEALED__INIT;
    body.round = round;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    env.body_case = XDC__ENVELOPE__BODY_DUMP_SEALED;
    env.dump_sealed = &body;
    return wire_send(end->wire, to, &env, parts, n);
}

static atomic_int released;

static void on_release(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    atomic_fetch_add(&released, 1);
}

/* Bytes that are poisoned once released, so that ASan sees a use after it. */
static void on_release_free(void *arg)
{
    free(arg);
    atomic_fetch_add(&released, 1);
}

/* An envelope and two raw frames, one copied and one not, arrive whole with the sender's id, and the answer
 * goes back. */
static void round_trip(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    f->router.echo = true;
    atomic_store(&released, 0);
    uint8_t *big = malloc(RAW_MAX), *small = malloc(1000);
    memset(big, 1, RAW_MAX);
    memset(small, 3, 1000);
    big[RAW_MAX - 1] = 2;
    struct wire_part parts[] = {{big, RAW_MAX, on_release_free, big}, {small, 1000, on_release_free, small}};
    assert_int_equal(send_round(&f->dealer, NULL, 5, parts, 2), 0);
    assert_true(atomic_load(&released) >= 1); /* the small one at once */
    assert_true(wait_messages(f, &f->dealer, 1));
    assert_int_equal(f->router.messages, 1);
    assert_int_equal(f->router.from.size, strlen("decoder-7"));
    assert_memory_equal(f->router.from.id, "decoder-7", strlen("decoder-7"));
    assert_int_equal(f->dealer.from.size, 0);
    const struct end *ends[] = {&f->router, &f->dealer};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ends[i]->last_round, 5);
        assert_int_equal(ends[i]->n_raw, 2);
        assert_int_equal(ends[i]->raw_size[0], RAW_MAX);
        assert_int_equal(ends[i]->raw_size[1], 1000);
        assert_int_equal(ends[i]->first[0], 1);
        assert_int_equal(ends[i]->last[0], 2);
        assert_int_equal(ends[i]->last[1], 3);
    }
    const struct wire_counters *r = wire_counters(f->router.wire), *d = wire_counters(f->dealer.wire);
    assert_int_equal(r->received, 1);
    assert_int_equal(r->sent, 1);
    assert_int_equal(d->bytes_in, r->bytes_out);
    assert_int_equal(d->bytes_out, r->bytes_in);
    assert_true(r->bytes_in > RAW_MAX + 1000);
    assert_int_equal(r->malformed + r->oversized + r->unsent, 0);
    for (int ms = 0; ms < WAIT_MS && atomic_load(&released) < 2; ms++)
        usleep(1000);
    assert_int_equal(atomic_load(&released), 2);
}

/* Far more messages than one burst all arrive, in order, though nothing but their arrival wakes the loop. */
static void many_messages(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    assert_int_equal(send_round(&f->dealer, NULL, 1, NULL, 0), 0);
    assert_true(wait_messages(f, &f->router, 1));
    f->router.in_order = true;
    for (uint32_t i = 2; i <= 900; i++)
        assert_int_equal(send_round(&f->dealer, NULL, i, NULL, 0), 0);
    /* all are in the router's queue before the loop runs again: one edge for all */
    usleep(100000);
    int turns = 0;
    while (f->router.messages < 900 && turns < 1000) {
        int before = f->router.messages;
        uv_run(&f->loop, UV_RUN_ONCE);
        assert_true(f->router.messages - before <= 64);
        assert_true(f->router.in_order);
        turns++;
    }
    assert_int_equal(f->router.messages, 900);
    assert_true(turns >= 14);
}

/* A message that arrives while this side only sends is not forgotten: sending swallows the descriptor's edge.
 */
static void edge_swallowed_by_send(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    assert_int_equal(send_round(&f->dealer, NULL, 1, NULL, 0), 0);
    assert_true(wait_messages(f, &f->router, 1));
    for (int i = 0; i < 50; i++) {
        struct wire_peer to = f->router.from;
        assert_int_equal(send_round(&f->dealer, NULL, (uint32_t)i + 2, NULL, 0), 0);
        usleep(2000);
        assert_int_equal(send_round(&f->router, &to, 1, NULL, 0), 0);
        /* without a timer: only the socket can end the loop's sleep */
        while (f->router.messages < i + 2)
            uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_true(wait_messages(f, &f->dealer, 50));
}

/* A plain DEALER that sends what it likes. */
static void *raw_dealer(struct fixture *f, void **out_context, const char *id)
{
    int linger = 0;
    *out_context = zmq_ctx_new();
    void *s = zmq_socket(*out_context, ZMQ_DEALER);
    assert_int_equal(zmq_setsockopt(s, ZMQ_ROUTING_ID, id, strlen(id)), 0);
    assert_int_equal(zmq_setsockopt(s, ZMQ_LINGER, &linger, sizeof linger), 0);
    assert_int_equal(zmq_connect(s, f->endpoint), 0);
    return s;
}

static void raw_send(void *s, const void *data, size_t size, bool more)
{
    assert_int_equal(zmq_send(s, data, size, more ? ZMQ_SNDMORE : 0), (int)size);
}

/* A good envelope with `protocol`; an empty body when `body` is false. */
static size_t pack(uint8_t *out, uint32_t protocol, bool body)
{
    Xdc__FeaturesHello hello = XDC__FEATURES_HELLO__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    env.protocol = protocol;
    env.run = 99;
    if (body) {
        env.body_case = XDC__ENVELOPE__BODY_FEATURES_HELLO;
        env.features_hello = &hello;
    }
    return xdc__envelope__pack(&env, out);
}

/* Bytes that are no message are counted and dropped, and the good one behind them arrives. */
static void malformed(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    void *context, *s = raw_dealer(f, &context, "stranger");
    const struct wire_counters *c = wire_counters(f->router.wire);
    uint8_t good[64], bare[64];
    size_t n_good = pack(good, WIRE_PROTOCOL, true), n_bare = pack(bare, WIRE_PROTOCOL, false);
    raw_send(s, "\xff\xff\xff\xff", 4, false); /* no protobuf */
    raw_send(s, "", 0, false);                 /* empty */
    raw_send(s, good, n_good - 1, false);      /* cut off */
    raw_send(s, bare, n_bare, false);          /* no body */
    raw_send(s, good, n_good, true);           /* a raw frame too many */
    for (int i = 0; i < 3; i++)
        raw_send(s, "x", 1, i < 2);
    raw_send(s, good, n_good, true); /* far too many */
    for (int i = 0; i < 20; i++)
        raw_send(s, "x", 1, i < 19);
    assert_true(wait_counter(f, &c->malformed, 6));
    assert_int_equal(f->router.messages, 0);
    raw_send(s, good, n_good, false);
    assert_true(wait_messages(f, &f->router, 1));
    assert_int_equal(f->router.body, XDC__ENVELOPE__BODY_FEATURES_HELLO);
    assert_int_equal(f->router.from.size, strlen("stranger"));
    assert_int_equal(c->malformed, 6);
    assert_int_equal(c->received, 1);
    zmq_close(s);
    zmq_ctx_term(context);
}

/* Frames over their limit are counted before anything is parsed; a frame over both limits costs its sender
 * the connection. */
static void oversized(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    void *context, *s = raw_dealer(f, &context, "stranger");
    const struct wire_counters *c = wire_counters(f->router.wire);
    uint8_t good[64];
    size_t n_good = pack(good, WIRE_PROTOCOL, true);
    uint8_t *big = calloc(1, RAW_MAX + 1);
    raw_send(s, big, WIRE_ENVELOPE_MAX + 1, false);
    assert_true(wait_counter(f, &c->oversized, 1));
    raw_send(s, good, n_good, true);
    raw_send(s, big, RAW_MAX, false); /* exactly the limit */
    assert_true(wait_messages(f, &f->router, 1));
    assert_int_equal(f->router.raw_size[0], RAW_MAX);
    raw_send(s, good, n_good, true);
    raw_send(s, big, RAW_MAX + 1, false);
    assert_int_equal(send_round(&f->dealer, NULL, 1, NULL, 0), 0);
    assert_true(wait_messages(f, &f->router, 2));
    let_run(f, 50);
    assert_int_equal(f->router.messages, 2);
    assert_int_equal(c->malformed, 0);
    zmq_close(s);
    zmq_ctx_term(context);

    /* a raw limit below the envelope's is counted too, since ZeroMQ lets such a frame in */
    struct end tiny = {0};
    struct err e;
    struct wire_options o = {
        .kind = WIRE_ROUTER, .raw_frame_max = 100, .on_message = on_message, .arg = &tiny};
    assert_int_equal(wire_open(f->context, &f->loop, &o, &tiny.wire, &e), 0);
    snprintf(f->endpoint, sizeof f->endpoint, "ipc://%s/tiny", f->dir);
    assert_int_equal(wire_bind(tiny.wire, f->endpoint, &e), 0);
    s = raw_dealer(f, &context, "stranger");
    raw_send(s, good, n_good, true);
    raw_send(s, big, 101, false);
    assert_true(wait_counter(f, &wire_counters(tiny.wire)->oversized, 1));
    assert_int_equal(tiny.messages, 0);
    zmq_close(s);
    zmq_ctx_term(context);
    wire_close(tiny.wire);
    free(big);
}

/* Another protocol is not delivered; the answer names both versions in an envelope that the peer accepts. */
static void other_protocol(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    void *context, *s = raw_dealer(f, &context, "from-the-future");
    int timeout = WAIT_MS;
    zmq_setsockopt(s, ZMQ_RCVTIMEO, &timeout, sizeof timeout);
    uint8_t bytes[256];
    raw_send(s, bytes, pack(bytes, 77, true), false);
    assert_true(wait_counter(f, &wire_counters(f->router.wire)->malformed, 1));
    assert_int_equal(f->router.messages, 0);
    int n = zmq_recv(s, bytes, sizeof bytes, 0);
    assert_true(n > 0 && n < (int)sizeof bytes);
    Xdc__Envelope *env = xdc__envelope__unpack(NULL, (size_t)n, bytes);
    assert_non_null(env);
    assert_int_equal(env->protocol, 77);
    assert_int_equal(env->run, 99);
    assert_int_equal(env->body_case, XDC__ENVELOPE__BODY_REFUSED);
    assert_non_null(strstr(env->refused->reason, "protocol 77"));
    assert_non_null(strstr(env->refused->reason, "only 1"));
    xdc__envelope__free_unpacked(env, NULL);
    zmq_close(s);
    zmq_ctx_term(context);
}

/* A DEALER too drops what it cannot read, and takes a Refused. */
static void dealer_side(void **state)
{
    struct fixture *f = *state;
    struct err e;
    int linger = 0;
    void *context = zmq_ctx_new(), *s = zmq_socket(context, ZMQ_ROUTER);
    zmq_setsockopt(s, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_bind(s, f->endpoint), 0);
    open_end(f, &f->dealer, WIRE_DEALER, "d", 0);
    assert_int_equal(wire_connect(f->dealer.wire, f->endpoint, &e), 0);
    assert_int_equal(send_round(&f->dealer, NULL, 1, NULL, 0), 0);
    uint8_t bytes[256];
    assert_int_equal(zmq_recv(s, bytes, sizeof bytes, 0), 1);
    assert_true(zmq_recv(s, bytes, sizeof bytes, 0) > 0);
    raw_send(s, "d", 1, true);
    raw_send(s, bytes, pack(bytes, 2, true), false);
    Xdc__Refused refused = XDC__REFUSED__INIT;
    refused.reason = (char[]){"go away"};
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    env.protocol = WIRE_PROTOCOL;
    env.body_case = XDC__ENVELOPE__BODY_REFUSED;
    env.refused = &refused;
    raw_send(s, "d", 1, true);
    raw_send(s, bytes, xdc__envelope__pack(&env, bytes), false);
    assert_true(wait_messages(f, &f->dealer, 1));
    assert_string_equal(f->dealer.text, "go away");
    assert_int_equal(wire_counters(f->dealer.wire)->malformed, 1);
    assert_int_equal(wire_counters(f->dealer.wire)->sent, 1);
    zmq_close(s);
    zmq_ctx_term(context);
}

/* Unknown, departed and replaced peers: the router hears -EHOSTUNREACH at once, and a reconnecting id takes
 * over. */
static void peers_come_and_go(void **state)
{
    struct fixture *f = *state;
    struct err e;
    open_both(f);
    struct wire_peer nobody = {.size = 3, .id = "abc"};
    atomic_int mine = 0;
    static uint8_t big[128 * 1024];
    struct wire_part parts[] = {{big, sizeof big, on_release, &mine}, {big, 10, on_release, &mine}};
    assert_int_equal(send_round(&f->router, &nobody, 1, parts, 2), -EHOSTUNREACH);
    assert_int_equal(atomic_load(&mine), 2);
    assert_int_equal(wire_counters(f->router.wire)->unsent, 1);
    assert_int_equal(wire_counters(f->router.wire)->sent, 0);

    assert_int_equal(send_round(&f->dealer, NULL, 1, NULL, 0), 0);
    assert_true(wait_messages(f, &f->router, 1));
    struct wire_peer to = f->router.from;
    struct end second = {0};
    open_end(f, &second, WIRE_DEALER, "decoder-7", 0);
    assert_int_equal(wire_connect(second.wire, f->endpoint, &e), 0);
    assert_int_equal(send_round(&second, NULL, 2, NULL, 0), 0);
    assert_true(wait_messages(f, &f->router, 2));
    assert_int_equal(send_round(&f->router, &to, 3, NULL, 0), 0);
    assert_true(wait_messages(f, &second, 1));
    assert_int_equal(f->dealer.messages, 0);

    wire_close(f->dealer.wire);
    f->dealer.wire = NULL;
    wire_close(second.wire);
    int rc = 0;
    for (int i = 0; i < 200 && rc != -EHOSTUNREACH; i++) {
        let_run(f, 10);
        rc = send_round(&f->router, &to, 4, NULL, 0);
    }
    assert_int_equal(rc, -EHOSTUNREACH);
}

/* A full queue refuses and gives the bytes back; what was queued and never sent is given back at the end. */
static void queue_full(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct wire_context *context;
    struct wire_options o = {
        .kind = WIRE_DEALER, .id = "d", .queue_max = 2, .on_message = on_message, .arg = &f->dealer};
    assert_int_equal(wire_context_create(&context, &e), 0);
    assert_int_equal(wire_open(context, &f->loop, &o, &f->dealer.wire, &e), 0);
    assert_int_equal(wire_connect(f->dealer.wire, f->endpoint, &e), 0); /* nobody is there */
    static uint8_t big[64 * 1024];
    atomic_int given[8] = {0};
    int accepted = 0, rc = 0;
    for (int i = 0; i < 8; i++) {
        struct wire_part part = {big, sizeof big, on_release, &given[i]};
        rc = send_round(&f->dealer, NULL, (uint32_t)i, &part, 1);
        if (rc == 0)
            accepted++;
        else
            assert_int_equal(rc, -EAGAIN);
        assert_int_equal(atomic_load(&given[i]), rc == 0 ? 0 : 1);
    }
    assert_int_equal(accepted, 2);
    assert_int_equal(wire_counters(f->dealer.wire)->sent, 2);
    assert_int_equal(wire_counters(f->dealer.wire)->unsent, 6);
    wire_close(f->dealer.wire);
    f->dealer.wire = NULL;
    uv_run(&f->loop, UV_RUN_NOWAIT);
    wire_context_destroy(context);
    for (int i = 0; i < 8; i++)
        assert_int_equal(atomic_load(&given[i]), 1);
}

/* A message over the envelope's limit is refused on this side, and its parts are given back. */
static void envelope_too_large(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    char *text = malloc(WIRE_ENVELOPE_MAX + 1);
    memset(text, 'x', WIRE_ENVELOPE_MAX);
    text[WIRE_ENVELOPE_MAX] = '\0';
    Xdc__Refused refused = XDC__REFUSED__INIT;
    refused.reason = text;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    env.body_case = XDC__ENVELOPE__BODY_REFUSED;
    env.refused = &refused;
    atomic_int mine = 0;
    static uint8_t big[128 * 1024];
    struct wire_part parts[] = {{big, sizeof big, on_release, &mine}, {big, 1, on_release, &mine}};
    assert_int_equal(wire_send(f->dealer.wire, NULL, &env, parts, 2), -EMSGSIZE);
    assert_int_equal(atomic_load(&mine), 2);
    assert_int_equal(wire_counters(f->dealer.wire)->unsent, 1);
    free(text);
}

/* A wire may be closed from its own callback in the middle of a burst. */
static void close_in_callback(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    f->router.close_on_first = true;
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(send_round(&f->dealer, NULL, i, NULL, 0), 0);
    assert_true(wait_messages(f, &f->router, 1));
    let_run(f, 20);
    assert_int_equal(f->router.messages, 1);
}

/* What cannot be opened says why, and leaves nothing open. */
static void open_failures(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct wire *w;
    static const char *const bad_id[] = {
        NULL, "", "0123456789012345678901234567890123456789012345678901234567890123456789"};
    for (size_t i = 0; i < sizeof bad_id / sizeof bad_id[0]; i++) {
        struct wire_options o = {.kind = WIRE_DEALER, .id = bad_id[i], .on_message = on_message};
        assert_int_equal(wire_open(f->context, &f->loop, &o, &w, &e), -EINVAL);
        assert_non_null(strstr(e.msg, "routing id"));
    }
    open_both(f);
    static const struct {
        const char *endpoint;
        int want;
    } cases[] = {
        {"tcp://0.0.0.0:5555", XDC_ECONF}, {"tcp://*:5555", XDC_ECONF}, {"tcp://10.0.0.1:5555", XDC_ECONF},
        {"inproc://x", XDC_ECONF},         {"nonsense", XDC_ECONF},     {"ipc:///no/such/dir/s", -ENOENT},
        {"tcp://127.0.0.1:x", -EINVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(wire_bind(f->router.wire, cases[i].endpoint, &e), cases[i].want);
        assert_non_null(strstr(e.msg, cases[i].endpoint));
    }
    assert_int_equal(wire_bind(f->router.wire, "tcp://127.0.0.1:*", &e), 0);
    assert_int_equal(wire_connect(f->dealer.wire, "tcp://example.org:1", &e), XDC_ECONF);
    wire_close(NULL);
    wire_context_destroy(NULL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(round_trip),         T(many_messages),     T(edge_swallowed_by_send),
        T(malformed),          T(oversized),         T(other_protocol),
        T(dealer_side),        T(peers_come_and_go), T(queue_full),
        T(envelope_too_large), T(close_in_callback), T(open_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
