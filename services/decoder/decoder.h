/* decoder: the process that turns leases into samples: its parts, put together and taken apart.
 * Used by main and status. Loop thread only. Owns everything of the process. It keeps nothing on disk and may
 * be killed at any moment: its leases return to the trainer. */
#pragma once
#include <uv.h>
#include "lib/daemon.h"
#include "lib/progress.h"
#include "lib/status.h"
#include "lib/wire.h"
#include "services/decoder/leases_in.h"
#include "services/decoder/pool.h"
#include "services/decoder/samples_out.h"

#define DECODER_RANKS_MAX CONF_RANKS_MAX

struct decoder {
    struct daemon daemon;
    uv_loop_t loop;
    char id[WIRE_PEER_MAX + 1];        /* decoder-<host>-<pid>-<random> */
    char name[32];                     /* decoder-<index> */
    struct wire_context *wire_context; /* owned */
    struct clip_cache *cache;          /* owned; NULL: none */
    struct pool pool;
    struct leases_in leases;
    struct samples_out samples;
    struct status_server *status; /* owned */
    struct progress progress;     /* clips answered */
    uv_timer_t tick, ending;
    bool stopping;
    int exit_status;
};

/* Starts all parts, bottom first; `daemon` is filled in by daemon_begin. On failure the process can only
 * exit. */
int decoder_start(struct decoder *d, struct err *e) WARN_UNUSED;
/* Refuses new work, answers held leases lost, closes all handles: the loop then runs empty. */
void decoder_stop(void *arg);
/* After the loop has run empty: frees everything. */
void decoder_close(struct decoder *d);

/* Serves /status, /metrics and /healthz on the socket of d->name. */
int decoder_status_start(struct decoder *d, struct err *e) WARN_UNUSED;
