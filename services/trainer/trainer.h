/* trainer: the state of one trainer process. The loop thread owns sockets, leases and status; the training
 * thread runs the phases (train_loop.c) and owns net, targets, ledger and checkpoints. They meet in the
 * batcher, in `shared` and in `wake`. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>
#include "lib/clip.h"
#include "lib/conf.h"
#include "lib/manifest.h"
#include "lib/status.h"
#include "lib/wire.h"
#include "services/trainer/batcher.h"
#include "services/trainer/early_stop.h"
#include "services/trainer/features_out.h"
#include "services/trainer/labels_in.h"
#include "services/trainer/leases_out.h"
#include "services/trainer/quarantine.h"
#include "services/trainer/rendezvous.h"
#include "services/trainer/samples_in.h"

/* What the training thread tells /status; under the lock. */
struct trainer_shared {
    pthread_mutex_t lock;
    enum phase phase;
    uint32_t round, epoch;
    uint64_t step, done, total; /* positions of the phase */
    double phase_start_s;
    uint64_t phase_first;      /* `done` when the phase began here */
    double loss[NET_ENCODERS]; /* running mean of the epoch */
    double accuracy[NET_ENCODERS];
    struct early_stop early[NET_ENCODERS];
    char paused[512]; /* why the extraction waits for room on the disk, or empty */
    json_t *quality;  /* owned; of the last table, or NULL */
    json_t *warnings; /* owned; of the round, or NULL: {code, encoder or source, value, sentence} */
};

struct trainer {
    struct conf conf;
    struct targets_method method;
    struct rendezvous meet;
    uint64_t incarnation, run, manifest_id;
    struct media_recipe recipe_eval, recipe_train;
    struct clip_set set;
    struct clip_set held; /* of the set: the hold-out */
    struct quarantine quarantine;
    uint64_t faulty_videos; /* of the set, by the doctor's quarantine */

    /* loop thread */
    uv_loop_t loop;
    uv_async_t wake; /* any thread may send */
    uv_timer_t tick;
    struct manifest *manifest; /* owned */
    struct wire_context *wires;
    struct wire *clips;
    struct leases_out leases;
    struct features_out features;
    struct labels_in labels;
    struct samples_in_counters samples;
    struct status_server *status;
    int lock_fd;
    bool closing;
    char unhealthy[512]; /* what trainer_unhealthy returned */

    /* both */
    struct batcher batcher;
    struct trainer_shared shared;
    atomic_bool stop;       /* finish the step, checkpoint, end */
    atomic_bool checkpoint; /* write one now */
    atomic_bool lost;       /* another rank has gone: end */
    double lost_s;          /* since when; loop thread */

    /* training thread */
    pthread_t thread;
    atomic_bool finished; /* the thread has ended: result and err are set */
    int result;
    struct err err;
};

/* Opens everything and starts the training thread; on failure everything is closed again. */
int trainer_open(struct trainer *t, const struct conf *c, const struct rendezvous *meet,
                 struct err *e) WARN_UNUSED;
/* Runs the loop until the run is finished or stopped. The training thread's result. */
int trainer_run(struct trainer *t, struct err *e) WARN_UNUSED;
void trainer_close(struct trainer *t);
/* Any thread: as on SIGTERM (checkpoint, then XDC_ESTOPPED), and as on SIGUSR1. */
void trainer_stop(void *trainer);
void trainer_checkpoint(void *trainer);
/* Any thread: another rank has gone; this one ends, at once if it does not come to an end by itself. */
void trainer_rank_lost(struct trainer *t);
/* Any thread: the clip is of the hold-out. */
bool trainer_held_out(const struct trainer *t, uint64_t clip);
/* Any thread: false for the encoder that net.encoders leaves out. */
bool trainer_wants(const struct trainer *t, enum net_encoder enc);

/* trainer_status.c */
json_t *trainer_status(void *trainer);
const char *trainer_unhealthy(void *trainer);
