/* leases_in: edge leases, the decoder's side: one socket to each trainer rank: hello, heartbeats, grants, the
 * run's end. Used by the decoder's assembly; samples_out sends through its sockets. Loop thread only. Owns
 * sockets and a timer. A silent trainer is greeted every 2 s for ever: it may not be up yet, or be
 * restarting. */
#pragma once
#include <stdbool.h>
#include <uv.h>
#include "lib/conf.h"
#include "lib/wire.h"
#include "services/decoder/pool.h"

struct leases_in;

/* The edge to one trainer rank. */
struct leases_in_link {
    struct leases_in *owner;
    struct wire *wire; /* owned */
    unsigned index;    /* rank */
    uint64_t run;      /* as the trainer last said; 0 before */
    bool granted;      /* incarnation and phase are known */
    uint64_t incarnation;
    uint32_t phase;
    double heard_s, hello_s, heartbeat_s; /* monotonic; 0: never */
    bool finished;
};

struct leases_in_options {
    uv_loop_t *loop;
    struct wire_context *context;
    struct pool *pool;
    const char *id; /* routing id; kept, not copied */
    uint64_t golden;
    unsigned links;
    const char (*endpoints)[CONF_STRING_MAX];          /* one a link; used by start only */
    void (*on_refused)(void *arg, const char *reason); /* the trainer cannot use this decoder */
    void (*on_finished)(void *arg);                    /* every rank has said that the run is over */
    void *arg;
};

struct leases_in {
    struct leases_in_options options;
    struct leases_in_link *links; /* owned */
    struct leases_in_room *room;  /* owned */
    uv_timer_t timer;
    bool started, refused;
    uint64_t grants; /* leases */
    uint64_t malformed, groups;
};

/* Connects and says hello. On failure nothing is left but handles that the loop closes. */
int leases_in_start(struct leases_in *in, const struct leases_in_options *o, struct err *e) WARN_UNUSED;
/* wire_send on a link; the run is filled in. */
int leases_in_send(struct leases_in *in, unsigned link, Xdc__Envelope *env, const struct wire_part *parts,
                   size_t n) WARN_UNUSED;
/* Seconds since anything came from the trainer heard last, or -1. */
double leases_in_heard_s(const struct leases_in *in);
/* The sum over the links. */
struct wire_counters leases_in_counters(const struct leases_in *in);
/* Closes the sockets; what is queued has a second to leave. */
void leases_in_stop(struct leases_in *in);
/* Frees what stop could not; after the loop has run. */
void leases_in_close(struct leases_in *in);
