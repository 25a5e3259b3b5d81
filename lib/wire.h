/* wire: ZeroMQ sockets on a libuv loop: one Envelope frame, then raw frames. The only file with wire.c that
 * sees zmq.h. Used by every edge. Loop thread only. Owns sockets and handles. What arrives malformed or
 * oversized is counted and dropped; what is for another protocol counts as malformed, and a ROUTER answers it
 * with Refused in the sender's own protocol number. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "envelope.pb-c.h"
#include "lib/err.h"

#define WIRE_PROTOCOL 1
#define WIRE_ENVELOPE_MAX (64 * 1024)
#define WIRE_RAW_FRAMES_MAX 2
#define WIRE_PEER_MAX 64

struct wire_context;
struct wire;

enum wire_kind { WIRE_ROUTER, WIRE_DEALER };

/* Routing id of a peer; empty on a DEALER. */
struct wire_peer {
    uint8_t size;
    uint8_t id[WIRE_PEER_MAX];
};

/* A raw frame received: a loan for the call. */
struct wire_frame {
    const void *data;
    size_t size;
};

/* A raw frame to send. With `release`, sent without a copy from 64 KiB up: release(arg) is called exactly
 * once, from any thread, when the bytes may be reused, on success and on failure alike. */
struct wire_part {
    const void *data;
    size_t size;
    void (*release)(void *arg);
    void *arg;
};

struct wire_counters {
    uint64_t received, sent; /* messages */
    uint64_t bytes_in, bytes_out;
    uint64_t malformed, oversized; /* dropped */
    uint64_t unsent;               /* refused by the socket: queue full or peer gone */
};

/* `env` and `raw` are loans for the call. The envelope's protocol is already checked and its body is set. */
typedef void (*wire_on_message)(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                                const struct wire_frame *raw, size_t n_raw);

struct wire_options {
    enum wire_kind kind;
    const char *id;       /* explicit routing id of a DEALER */
    size_t raw_frame_max; /* bytes; larger frames are dropped before they are parsed */
    int queue_max;        /* messages per peer and direction (ZeroMQ's HWM), 0: 1000 */
    wire_on_message on_message;
    void *arg;
};

int wire_context_create(struct wire_context **out, struct err *e) WARN_UNUSED;
/* After every wire of it is closed; waits at most a second for what is queued. NULL is fine. */
void wire_context_destroy(struct wire_context *c);

int wire_open(struct wire_context *c, uv_loop_t *loop, const struct wire_options *o, struct wire **out,
              struct err *e) WARN_UNUSED;
/* Endpoints: ipc://PATH, or tcp:// of this host's loopback; others are XDC_ECONF, since peers are not
 * authenticated. */
int wire_bind(struct wire *w, const char *endpoint, struct err *e) WARN_UNUSED;
int wire_connect(struct wire *w, const char *endpoint, struct err *e) WARN_UNUSED;

/* Sends `env` (protocol is filled in) and `n` parts. `to` is the peer on a ROUTER, NULL on a DEALER. Never
 * blocks. 0, -EAGAIN (queue full), -EHOSTUNREACH (that peer is gone), -EMSGSIZE (envelope over its limit),
 * -ENOMEM. */
int wire_send(struct wire *w, const struct wire_peer *to, Xdc__Envelope *env, const struct wire_part *parts,
              size_t n) WARN_UNUSED;

const struct wire_counters *wire_counters(const struct wire *w);
/* Closes the socket (linger 0.5 s); memory goes with the loop's close callbacks. NULL is fine. */
void wire_close(struct wire *w);
