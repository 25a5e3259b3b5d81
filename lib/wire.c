/* How ZMQ_FD meets libuv. The descriptor is edge-triggered: it tells that something changed, once, and any
 * call on the socket may swallow that. So readability alone decides nothing. Before the loop sleeps (prepare)
 * ZMQ_EVENTS is read; when messages wait, an idle handle keeps the loop from sleeping, and after its poll
 * (check) a bounded burst is read. What arrives after prepare raises the descriptor and wakes the loop. */
#include "lib/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define BURST 64 /* messages read in a turn of the loop, so that timers and other sockets get theirs */
#define ZERO_COPY_MIN (64 * 1024)
#define QUEUE_DEFAULT 1000
#define LINGER_MS 500
#define HANDLES 4
#define FRAMES_MAX (2 + WIRE_RAW_FRAMES_MAX) /* routing id, envelope, raw frames */

struct wire_context {
    void *zmq; /* owned */
};

struct wire {
    void *sock; /* owned; NULL once closed */
    enum wire_kind kind;
    size_t raw_frame_max;
    wire_on_message on_message;
    void *arg;
    struct wire_counters counters;
    uv_poll_t poll;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    int open_handles;
};

/* A message as it came: what is beyond FRAMES_MAX is read and forgotten. */
struct incoming {
    zmq_msg_t frames[FRAMES_MAX];
    size_t n;
    bool too_many;
};

/* What a zero-copy frame calls when ZeroMQ is done with it. */
struct release {
    void (*call)(void *arg);
    void *arg;
};

/* ZeroMQ's own codes lie far above errno's. */
static int zmq_code(void)
{
    int errnum = zmq_errno();
    if (errnum == ETERM)
        return XDC_ESTOPPED;
    return errnum < ZMQ_HAUSNUMERO || errnum == EHOSTUNREACH ? -errnum : -EPROTO;
}

static int zmq_fail(struct err *e, const char *what)
{
    int code = zmq_code();
    return err_set(e, code, "%s: %s", what, zmq_strerror(zmq_errno()));
}

int wire_context_create(struct wire_context **out, struct err *e)
{
    struct wire_context *c = calloc(1, sizeof *c);
    if (!c)
        return err_sys(e, ENOMEM, "create a ZeroMQ context");
    c->zmq = zmq_ctx_new();
    if (!c->zmq) {
        int rc = zmq_fail(e, "create a ZeroMQ context");
        free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void wire_context_destroy(struct wire_context *c)
{
    if (!c)
        return;
    while (zmq_ctx_term(c->zmq) < 0 && zmq_errno() == EINTR)
        continue;
    free(c);
}

/* receiving */

/* 0, or -EAGAIN when nothing waits. */
static int receive(struct wire *w, struct incoming *in)
{
    bool more = true;
    in->n = 0;
    in->too_many = false;
    while (more) {
        zmq_msg_t spare;
        bool fits = in->n < FRAMES_MAX;
        zmq_msg_t *m = fits ? &in->frames[in->n] : &spare;
        zmq_msg_init(m);
        int rc;
        do
            rc = zmq_msg_recv(m, w->sock, ZMQ_DONTWAIT);
        while (rc < 0 && zmq_errno() == EINTR);
        if (rc < 0) {
            zmq_msg_close(m);
            return -EAGAIN;
        }
        more = zmq_msg_more(m);
        if (fits) {
            in->n++;
        } else {
            in->too_many = true;
            zmq_msg_close(m);
        }
    }
    return 0;
}

static void forget(struct incoming *in)
{
    for (size_t i = 0; i < in->n; i++)
        zmq_msg_close(&in->frames[i]);
    in->n = 0;
}

/* Counts a message whose frames are too many, too few or too large; true when it may be parsed. */
static bool frames_fit(struct wire *w, struct incoming *in, size_t at)
{
    if (in->too_many || in->n < at + 1 || in->n > at + 1 + WIRE_RAW_FRAMES_MAX) {
        w->counters.malformed++;
        return false;
    }
    if (at == 1 && (zmq_msg_size(&in->frames[0]) == 0 || zmq_msg_size(&in->frames[0]) > WIRE_PEER_MAX)) {
        w->counters.malformed++;
        return false;
    }
    for (size_t i = at; i < in->n; i++) {
        if (zmq_msg_size(&in->frames[i]) > (i == at ? WIRE_ENVELOPE_MAX : w->raw_frame_max)) {
            w->counters.oversized++;
            return false;
        }
    }
    return true;
}

static int send_envelope(struct wire *w, const struct wire_peer *to, const Xdc__Envelope *env,
                         const struct wire_part *parts, size_t n);

/* The answer carries the peer's own protocol number, or the peer would drop it in turn. */
static void refuse_protocol(struct wire *w, const struct wire_peer *to, const Xdc__Envelope *got)
{
    char reason[128];
    snprintf(reason, sizeof reason,
             "protocol %u is not spoken here, only %d: use the same version of xdc on both sides",
             got->protocol, WIRE_PROTOCOL);
    Xdc__Refused refused = XDC__REFUSED__INIT;
    refused.reason = reason;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    env.protocol = got->protocol;
    env.run = got->run;
    env.body_case = XDC__ENVELOPE__BODY_REFUSED;
    env.refused = &refused;
    /* A peer that does not take its answer stays unanswered; send_envelope has counted it. */
    (void)!send_envelope(w, to, &env, NULL, 0);
}

static void deliver(struct wire *w, struct incoming *in)
{
    size_t at = w->kind == WIRE_ROUTER ? 1 : 0;
    if (!frames_fit(w, in, at))
        return;
    struct wire_peer from = {0};
    if (at == 1) {
        from.size = (uint8_t)zmq_msg_size(&in->frames[0]);
        memcpy(from.id, zmq_msg_data(&in->frames[0]), from.size);
    }
    size_t size = zmq_msg_size(&in->frames[at]);
    Xdc__Envelope *env = xdc__envelope__unpack(NULL, size, zmq_msg_data(&in->frames[at]));
    if (!env || env->protocol != WIRE_PROTOCOL || env->body_case == XDC__ENVELOPE__BODY__NOT_SET) {
        w->counters.malformed++;
        /* Without a number it is not of any xdc: no answer. */
        if (env && env->protocol != WIRE_PROTOCOL && env->protocol != 0 && w->kind == WIRE_ROUTER)
            refuse_protocol(w, &from, env);
    } else {
        struct wire_frame raw[WIRE_RAW_FRAMES_MAX] = {0};
        size_t n_raw = in->n - at - 1;
        for (size_t i = 0; i < n_raw; i++) {
            raw[i].data = zmq_msg_data(&in->frames[at + 1 + i]);
            raw[i].size = zmq_msg_size(&in->frames[at + 1 + i]);
            w->counters.bytes_in += raw[i].size;
        }
        w->counters.received++;
        w->counters.bytes_in += size;
        w->on_message(w->arg, &from, env, raw, n_raw);
    }
    if (env)
        xdc__envelope__free_unpacked(env, NULL);
}

static bool readable(struct wire *w)
{
    int events = 0;
    size_t size = sizeof events;
    return w->sock && zmq_getsockopt(w->sock, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN);
}

/* Its only work is to wake the loop; check reads. */
static void on_poll(uv_poll_t *h, int status, int events)
{
    (void)h;
    (void)status;
    (void)events;
}

static void on_idle(uv_idle_t *h)
{
    (void)h;
}

static void on_prepare(uv_prepare_t *h)
{
    struct wire *w = h->data;
    if (readable(w))
        uv_idle_start(&w->idle, on_idle);
    else
        uv_idle_stop(&w->idle);
}

static void on_check(uv_check_t *h)
{
    struct wire *w = h->data;
    /* The callback may close the wire: sock is then NULL, and the memory lasts until the loop's close
     * callbacks. */
    for (int i = 0; i < BURST && readable(w); i++) {
        struct incoming in;
        int rc = receive(w, &in);
        if (rc == 0)
            deliver(w, &in);
        forget(&in);
        if (rc < 0)
            break;
    }
}

/* opening */

static int set_int(void *sock, int option, int value, struct err *e)
{
    return zmq_setsockopt(sock, option, &value, sizeof value) < 0 ? zmq_fail(e, "set up a socket") : 0;
}

static int set_options(void *sock, const struct wire_options *o, struct err *e)
{
    int queue = o->queue_max > 0 ? o->queue_max : QUEUE_DEFAULT;
    int64_t frame_max = o->raw_frame_max > WIRE_ENVELOPE_MAX ? (int64_t)o->raw_frame_max : WIRE_ENVELOPE_MAX;
    int rc = set_int(sock, ZMQ_LINGER, LINGER_MS, e);
    if (rc == 0)
        rc = set_int(sock, ZMQ_SNDHWM, queue, e);
    if (rc == 0)
        rc = set_int(sock, ZMQ_RCVHWM, queue, e);
    if (rc == 0 && zmq_setsockopt(sock, ZMQ_MAXMSGSIZE, &frame_max, sizeof frame_max) < 0)
        rc = zmq_fail(e, "set the largest frame");
    if (rc == 0 && o->kind == WIRE_ROUTER) {
        rc = set_int(sock, ZMQ_ROUTER_MANDATORY, 1, e);
        if (rc == 0)
            rc = set_int(sock, ZMQ_ROUTER_HANDOVER, 1, e);
    } else if (rc == 0) {
        size_t len = o->id ? strlen(o->id) : 0;
        if (len == 0 || len > WIRE_PEER_MAX)
            return err_set(e, -EINVAL, "routing id '%s' must have 1 to %d bytes", o->id ? o->id : "",
                           WIRE_PEER_MAX);
        if (zmq_setsockopt(sock, ZMQ_ROUTING_ID, o->id, len) < 0)
            rc = zmq_fail(e, "set the routing id");
    }
    return rc;
}

static void start_handles(struct wire *w, uv_loop_t *loop)
{
    uv_prepare_init(loop, &w->prepare);
    uv_check_init(loop, &w->check);
    uv_idle_init(loop, &w->idle);
    w->poll.data = w->prepare.data = w->check.data = w->idle.data = w;
    w->open_handles = HANDLES;
    uv_poll_start(&w->poll, UV_READABLE, on_poll);
    uv_prepare_start(&w->prepare, on_prepare);
    uv_check_start(&w->check, on_check);
}

int wire_open(struct wire_context *c, uv_loop_t *loop, const struct wire_options *o, struct wire **out,
              struct err *e)
{
    struct wire *w = calloc(1, sizeof *w);
    if (!w)
        return err_sys(e, ENOMEM, "open a socket");
    w->kind = o->kind;
    w->raw_frame_max = o->raw_frame_max;
    w->on_message = o->on_message;
    w->arg = o->arg;
    int rc, fd = -1;
    size_t fd_size = sizeof fd;
    w->sock = zmq_socket(c->zmq, o->kind == WIRE_ROUTER ? ZMQ_ROUTER : ZMQ_DEALER);
    if (!w->sock) {
        rc = zmq_fail(e, "open a socket");
        goto fail;
    }
    rc = set_options(w->sock, o, e);
    if (rc < 0)
        goto fail;
    if (zmq_getsockopt(w->sock, ZMQ_FD, &fd, &fd_size) < 0) {
        rc = zmq_fail(e, "get a socket's descriptor");
        goto fail;
    }
    rc = uv_poll_init(loop, &w->poll, fd);
    if (rc < 0) {
        err_set(e, rc, "watch a socket: %s", uv_strerror(rc));
        goto fail;
    }
    start_handles(w, loop);
    *out = w;
    return 0;
fail:
    if (w->sock)
        zmq_close(w->sock);
    free(w);
    return rc;
}

/* Nothing authenticates peers here, so nothing but this host may be reached. */
static int check_endpoint(const char *endpoint, struct err *e)
{
    static const char *const local[] = {"ipc://", "tcp://127.0.0.1:", "tcp://[::1]:", "tcp://localhost:"};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) {
        if (strncmp(endpoint, local[i], strlen(local[i])) == 0)
            return 0;
    }
    return err_set(e, XDC_ECONF,
                   "endpoint %s: use ipc://PATH or tcp://127.0.0.1:PORT, only this host can be reached",
                   endpoint);
}

int wire_bind(struct wire *w, const char *endpoint, struct err *e)
{
    int rc = check_endpoint(endpoint, e);
    if (rc < 0 || zmq_bind(w->sock, endpoint) == 0)
        return rc;
    rc = zmq_fail(e, endpoint);
    err_wrap(e, "bind");
    return rc;
}

int wire_connect(struct wire *w, const char *endpoint, struct err *e)
{
    int rc = check_endpoint(endpoint, e);
    if (rc < 0 || zmq_connect(w->sock, endpoint) == 0)
        return rc;
    rc = zmq_fail(e, endpoint);
    err_wrap(e, "connect to");
    return rc;
}

/* sending */

static void on_free(void *data, void *hint)
{
    (void)data;
    struct release *r = hint;
    r->call(r->arg);
    free(r);
}

static void release_part(const struct wire_part *p)
{
    if (p->release)
        p->release(p->arg);
}

/* Takes the part's release on success and on failure. */
static int make_frame(zmq_msg_t *m, const struct wire_part *p)
{
    if (p->release && p->size >= ZERO_COPY_MIN) {
        struct release *r = malloc(sizeof *r);
        if (r) {
            r->call = p->release;
            r->arg = p->arg;
            /* ZeroMQ never writes to it. */
            if (zmq_msg_init_data(m, (void *)(uintptr_t)p->data, p->size, on_free, r) == 0)
                return 0;
            free(r);
        }
        release_part(p);
        return -ENOMEM;
    }
    int rc = zmq_msg_init_size(m, p->size) < 0 ? -ENOMEM : 0;
    if (rc == 0 && p->size > 0)
        memcpy(zmq_msg_data(m), p->data, p->size);
    release_part(p);
    return rc;
}

static int make_envelope(zmq_msg_t *m, const Xdc__Envelope *env)
{
    size_t size = xdc__envelope__get_packed_size(env);
    if (size > WIRE_ENVELOPE_MAX)
        return -EMSGSIZE;
    if (zmq_msg_init_size(m, size) < 0)
        return -ENOMEM;
    xdc__envelope__pack(env, zmq_msg_data(m));
    return 0;
}

/* Builds routing id, envelope and parts; every part's release is taken. Frames made so far are *n also on
 * failure. */
static int make_frames(const struct wire_peer *to, const Xdc__Envelope *env, const struct wire_part *parts,
                       size_t n_parts, zmq_msg_t *frames, size_t *n)
{
    int rc = 0;
    *n = 0;
    if (to) {
        rc = zmq_msg_init_size(&frames[0], to->size) < 0 ? -ENOMEM : 0;
        if (rc == 0)
            memcpy(zmq_msg_data(&frames[(*n)++]), to->id, to->size);
    }
    if (rc == 0)
        rc = make_envelope(&frames[*n], env);
    if (rc == 0)
        ++*n;
    for (size_t i = 0; i < n_parts; i++) {
        if (rc < 0) {
            release_part(&parts[i]);
            continue;
        }
        rc = make_frame(&frames[*n], &parts[i]);
        if (rc == 0)
            ++*n;
    }
    return rc;
}

/* When the first frame is taken, the rest must follow even after a failure: the peer may vanish between two
 * frames, and ZeroMQ then drops up to the last one; stopping early would make it drop the start of the next
 * message. */
static int send_frames(struct wire *w, zmq_msg_t *frames, size_t n)
{
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        int flags = ZMQ_DONTWAIT | (i + 1 < n ? ZMQ_SNDMORE : 0);
        int sent;
        do
            sent = zmq_msg_send(&frames[i], w->sock, flags);
        while (sent < 0 && zmq_errno() == EINTR);
        if (sent < 0 && rc == 0)
            rc = zmq_code();
        if (sent < 0 && i == 0)
            break;
    }
    return rc;
}

static int send_envelope(struct wire *w, const struct wire_peer *to, const Xdc__Envelope *env,
                         const struct wire_part *parts, size_t n)
{
    zmq_msg_t frames[FRAMES_MAX];
    size_t n_frames;
    int rc = make_frames(to, env, parts, n, frames, &n_frames);
    uint64_t bytes = 0;
    for (size_t i = to ? 1 : 0; i < n_frames; i++)
        bytes += zmq_msg_size(&frames[i]);
    if (rc == 0)
        rc = w->sock ? send_frames(w, frames, n_frames) : XDC_ESTOPPED;
    /* A frame that was sent is empty by now; closing the others gives their bytes back. */
    for (size_t i = 0; i < n_frames; i++)
        zmq_msg_close(&frames[i]);
    if (rc < 0) {
        w->counters.unsent++;
        return rc;
    }
    w->counters.sent++;
    w->counters.bytes_out += bytes;
    return 0;
}

int wire_send(struct wire *w, const struct wire_peer *to, Xdc__Envelope *env, const struct wire_part *parts,
              size_t n)
{
    assert(n <= WIRE_RAW_FRAMES_MAX && (to != NULL) == (w->kind == WIRE_ROUTER));
    env->protocol = WIRE_PROTOCOL;
    return send_envelope(w, to, env, parts, n);
}

const struct wire_counters *wire_counters(const struct wire *w)
{
    return &w->counters;
}

/* closing */

static void on_closed(uv_handle_t *h)
{
    struct wire *w = h->data;
    if (--w->open_handles == 0)
        free(w);
}

void wire_close(struct wire *w)
{
    if (!w || !w->sock)
        return;
    /* The handle first: the descriptor is gone after zmq_close. */
    uv_close((uv_handle_t *)&w->poll, on_closed);
    uv_close((uv_handle_t *)&w->prepare, on_closed);
    uv_close((uv_handle_t *)&w->check, on_closed);
    uv_close((uv_handle_t *)&w->idle, on_closed);
    zmq_close(w->sock);
    w->sock = NULL;
}
