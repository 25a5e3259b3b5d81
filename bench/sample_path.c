/* sample_path: how fast leased, checked and copied samples go from a decoder's process to a trainer's through
 * lib/wire, and how fast bare libzmq moves messages of the same sizes over the same transport (PUSH and PULL,
 * zero-copy, nothing looked at). In turns. Usage: bench_sample_path [ROUNDS]. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#include <zmq.h>
#include "lib/wire.h"
#include "services/trainer/sample_check.h"

enum { SLOTS = 4, ROUNDS = 5, SIZES = 3 };
#define BYTES_A_RUN (UINT64_C(1500) << 20)

static const size_t sizes[SIZES] = {8 * 112 * 112 * 3, 32 * 112 * 112 * 3, 32 * 224 * 224 * 3};
static uint8_t *video, *batch;
static size_t bytes;
static uint64_t samples, hash;

static void die(const char *what)
{
    fprintf(stderr, "bench_sample_path: %s\n", what);
    exit(70);
}

static double now_s(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Our sender: a sample for every lease. */
struct sender {
    uv_loop_t loop;
    struct wire *wire;
    uv_timer_t retry;
    unsigned due;
    bool over;
};

static void on_released(void *arg)
{
    (void)arg;
}

static void send_due(struct sender *s)
{
    for (; s->due; s->due--) {
        Xdc__LeaseKey key = XDC__LEASE_KEY__INIT;
        Xdc__Sample sample = XDC__SAMPLE__INIT;
        Xdc__Envelope env = XDC__ENVELOPE__INIT;
        struct wire_part part = {video, bytes, on_released, NULL};
        sample.key = &key;
        sample.video_bytes = (uint32_t)bytes;
        sample.hash = hash;
        env.body_case = XDC__ENVELOPE__BODY_SAMPLE;
        env.sample = &sample;
        if (wire_send(s->wire, NULL, &env, &part, 1))
            return; /* the timer tries again */
    }
}

static void on_retry(uv_timer_t *t)
{
    send_due(t->data);
}

static void on_lease(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                     const struct wire_frame *raw, size_t n)
{
    struct sender *s = arg;
    (void)from, (void)raw, (void)n;
    s->over = env->body_case == XDC__ENVELOPE__BODY_RUN_FINISHED;
    if (s->over)
        uv_stop(&s->loop);
    else if (env->body_case == XDC__ENVELOPE__BODY_LEASE_GRANT)
        s->due++;
    send_due(s);
}

static void run_sender(const char *endpoint)
{
    static struct sender s;
    struct wire_context *context;
    struct wire_options o = {
        .kind = WIRE_DEALER, .id = "decoder", .raw_frame_max = 1, .on_message = on_lease, .arg = &s};
    struct err e;
    Xdc__Hello hello = XDC__HELLO__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    uv_loop_init(&s.loop);
    uv_timer_init(&s.loop, &s.retry);
    s.retry.data = &s;
    if (wire_context_create(&context, &e) || wire_open(context, &s.loop, &o, &s.wire, &e) ||
        wire_connect(s.wire, endpoint, &e))
        die(e.msg);
    uv_timer_start(&s.retry, on_retry, 5, 5);
    env.body_case = XDC__ENVELOPE__BODY_HELLO;
    env.hello = &hello;
    if (wire_send(s.wire, NULL, &env, NULL, 0))
        die("hello");
    uv_run(&s.loop, UV_RUN_DEFAULT);
    _exit(0);
}

/* Our receiver: grants, checks, copies into a batch. */
struct receiver {
    uv_loop_t loop;
    struct wire *wire;
    struct wire_peer peer;
    uint64_t taken;
    double begin_s, end_s;
};

static void grant(struct receiver *r)
{
    Xdc__LeaseKey key = XDC__LEASE_KEY__INIT;
    Xdc__LeaseClip clip = XDC__LEASE_CLIP__INIT, *clips[] = {&clip};
    Xdc__LeaseGrant lease = XDC__LEASE_GRANT__INIT;
    Xdc__Recipe recipe = XDC__RECIPE__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    clip.key = &key;
    lease.clips = clips;
    lease.n_clips = 1;
    lease.recipe = &recipe;
    lease.uri = (char *)"class/video.mp4";
    env.body_case = XDC__ENVELOPE__BODY_LEASE_GRANT;
    env.lease_grant = &lease;
    if (wire_send(r->wire, &r->peer, &env, NULL, 0))
        die("grant");
}

static void finish(struct receiver *r)
{
    Xdc__RunFinished finished = XDC__RUN_FINISHED__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    env.body_case = XDC__ENVELOPE__BODY_RUN_FINISHED;
    env.run_finished = &finished;
    r->end_s = now_s();
    if (wire_send(r->wire, &r->peer, &env, NULL, 0))
        die("finish");
    uv_stop(&r->loop);
}

static void on_sample(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                      const struct wire_frame *raw, size_t n)
{
    struct receiver *r = arg;
    const struct sample_shape shape = {true, false, bytes};
    const void *frames, *none;
    if (env->body_case == XDC__ENVELOPE__BODY_HELLO) {
        r->peer = *from;
        r->begin_s = now_s();
        for (int i = 0; i < SLOTS; i++)
            grant(r);
        return;
    }
    if (!sample_check(&shape, env->sample, raw, n, &frames, &none))
        die("a sample is not what was sent");
    memcpy(batch + r->taken % 8 * bytes, frames, bytes);
    if (++r->taken == samples)
        finish(r);
    else if (r->taken + SLOTS <= samples)
        grant(r);
}

static double run_ours(const char *endpoint)
{
    static struct receiver r;
    struct wire_context *context;
    struct wire_options o = {.kind = WIRE_ROUTER, .raw_frame_max = bytes, .on_message = on_sample, .arg = &r};
    struct err e;
    memset(&r, 0, sizeof r);
    pid_t child = fork(); /* before the context: threads do not survive it */
    if (child == 0) {
        usleep(100000);
        run_sender(endpoint);
    }
    uv_loop_init(&r.loop);
    if (wire_context_create(&context, &e) || wire_open(context, &r.loop, &o, &r.wire, &e) ||
        wire_bind(r.wire, endpoint, &e))
        die(e.msg);
    uv_run(&r.loop, UV_RUN_DEFAULT);
    wire_close(r.wire);
    uv_run(&r.loop, UV_RUN_DEFAULT);
    wire_context_destroy(context);
    uv_loop_close(&r.loop);
    waitpid(child, NULL, 0);
    return r.end_s - r.begin_s;
}

static void no_free(void *data, void *hint)
{
    (void)data, (void)hint;
}

static void set_curve(void *socket, bool server)
{
    static const char *const server_secret = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";
    static const char *const server_public = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    static const char *const client_secret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";
    static const char *const client_public = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
    int one = 1;
    if (server) {
        zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &one, sizeof one);
        zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, server_secret, 40);
        return;
    }
    zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server_public, 40);
    zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, client_public, 40);
    zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, client_secret, 40);
}

static void push_all(const char *endpoint, bool curve)
{
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_PUSH);
    int hwm = SLOTS;
    zmq_setsockopt(socket, ZMQ_SNDHWM, &hwm, sizeof hwm);
    if (curve)
        set_curve(socket, false);
    zmq_connect(socket, endpoint);
    for (uint64_t i = 0; i < samples; i++) {
        zmq_msg_t head, body;
        zmq_msg_init_size(&head, 40);
        zmq_msg_init_data(&body, video, bytes, no_free, NULL);
        zmq_msg_send(&head, socket, ZMQ_SNDMORE);
        zmq_msg_send(&body, socket, 0);
    }
    zmq_close(socket);
    zmq_ctx_term(context);
    _exit(0);
}

static double run_bare(const char *endpoint, bool curve)
{
    pid_t child = fork();
    if (child == 0) {
        usleep(100000);
        push_all(endpoint, curve);
    }
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_PULL);
    double begin = 0;
    int hwm = SLOTS;
    zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    if (curve)
        set_curve(socket, true);
    if (zmq_bind(socket, endpoint))
        die("bind");
    for (uint64_t i = 0; i < samples; i++) {
        for (int part = 0; part < 2; part++) {
            zmq_msg_t m;
            zmq_msg_init(&m);
            if (zmq_msg_recv(&m, socket, 0) < 0)
                die("receive");
            begin = begin > 0 ? begin : now_s();
            zmq_msg_close(&m);
        }
    }
    double took = now_s() - begin;
    zmq_close(socket);
    zmq_ctx_term(context);
    waitpid(child, NULL, 0);
    return took;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, by_size);
    return t[n / 2];
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : ROUNDS, port = 20000 + getpid() % 20000;
    char ipc[64], tcp[64];
    double ours[64], bare[64];
    if (rounds < 1 || rounds > 64)
        die("1 to 64 rounds");
    for (int s = 0; s < SIZES; s++) {
        bytes = sizes[s];
        samples = BYTES_A_RUN / bytes;
        video = malloc(bytes);
        batch = malloc(8 * bytes);
        if (!video || !batch)
            die("memory");
        memset(video, 7, bytes);
        memset(batch, 0, 8 * bytes);
        hash = XXH3_64bits(video, bytes);
        for (int t = 0; t < 3; t++) {
            for (int i = 0; i < rounds; i++) {
                snprintf(ipc, sizeof ipc, "ipc:///tmp/xdc-bench-%d-%d-%d-%d", getpid(), s, t, i);
                snprintf(tcp, sizeof tcp, "tcp://127.0.0.1:%d", port++);
                ours[i] = t < 2 ? run_ours(t ? tcp : ipc) : 0;
                snprintf(tcp, sizeof tcp, "tcp://127.0.0.1:%d", port++);
                bare[i] = run_bare(t ? tcp : ipc, t == 2);
            }
            double a = median(ours, rounds), b = median(bare, rounds);
            double mib = (double)samples * (double)bytes / 1048576;
            if (t < 2)
                printf("%.2f MB %s: ours %.0f MiB/s, bare %.0f MiB/s, ratio %.2f\n", (double)bytes / 1e6,
                       t ? "tcp" : "ipc", mib / a, mib / b, b / a);
            else
                printf("%.2f MB tcp + CURVE: bare %.0f MiB/s\n", (double)bytes / 1e6, mib / b);
            fflush(stdout);
        }
        free(video);
        free(batch);
    }
    return 0;
}
