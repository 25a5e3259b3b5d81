/* samples_out: edge samples, the decoder's side: an answer for every lease, sent straight from the worker's
 * slot. Used by the pool (answers) and the decoder's assembly. Loop thread, but for the network's release of
 * a slot, which comes from any thread and is passed on through one uv_async. Owns the records of slots on the
 * wire. A full socket is tried again every 5 ms; a worker gets its slot back only when ZeroMQ has let go of
 * the bytes. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>
#include "services/decoder/leases_in.h"
#include "services/decoder/pool.h"

struct samples_out;

/* One worker's slot on its way. */
struct samples_out_slot {
    struct samples_out *owner;
    atomic_uint parts; /* raw frames that the network still holds; any thread */
    unsigned sent;     /* samples that have gone: free once it is all of the job's and parts is 0 */
};

struct samples_out {
    struct pool *pool;
    struct leases_in *leases;
    struct samples_out_slot *slots; /* owned, one a worker */
    uv_async_t released; /* the last handle to be closed: the network may use it until its context is gone */
    uv_timer_t retry;
    unsigned waiting; /* answers that the socket did not take yet */
    uint64_t sent, dropped;
};

int samples_out_init(struct samples_out *s, uv_loop_t *loop, struct pool *pool, struct leases_in *leases,
                     struct err *e) WARN_UNUSED;
/* The pool's on_answer; `arg` is the struct samples_out. */
void samples_out_answer(void *arg, struct lease *lease);
/* The pool's on_sending. */
void samples_out_poke(void *arg);
/* Sends what waits; what is not taken is tried again by the timer. */
void samples_out_flush(struct samples_out *s);
/* No more retries: what the sockets do not take now is dropped. The release handle stays, and does not keep
 * the loop. */
void samples_out_stop(struct samples_out *s);
/* After the wire context is destroyed; closes the last handle, for which the loop has to run once more. */
void samples_out_close(struct samples_out *s);
