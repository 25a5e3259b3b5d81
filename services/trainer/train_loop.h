/* train_loop: the training thread: goes from phase to phase, straight down. Ordinary blocking code: batches
 * come from the batcher, labels from labels_in. Owns net, targets, ledger, events. */
#pragma once
#include "lib/ledger.h"
#include "lib/progress.h"
#include "services/trainer/batcher.h"
#include "services/trainer/checkpoint_writer.h"
#include "services/trainer/events.h"
#include "services/trainer/targets.h"

struct trainer;

struct train_loop {
    struct trainer *t;
    const struct targets_method *method;
    struct net *net;           /* owned */
    double flop[NET_ENCODERS]; /* of one clip forward */
    struct targets targets;
    struct ledger *ledger; /* owned */
    struct events events;
    struct train_state state;
    struct checkpoint_writer writer;
    double checkpoint_at_s; /* when the last one was begun, or the run */
    double phase_start_s;
    uint64_t phase_clips; /* samples that the phase used, for its rate */
    double clips;         /* used since the start; a clip of two streams counts half in each */
};

/* The thread's whole life. 0 when the run is finished, XDC_ESTOPPED when it was stopped with a checkpoint. */
int train_loop_run(struct trainer *t, struct err *e) WARN_UNUSED;

/* Parts of it, one file each. All return XDC_ESTOPPED when the trainer stops. */

/* train_measure.c: PHASE_STATS and PHASE_WARM (algorithms.md 1.5 [R], 1.8). */
int train_measure_stats(struct train_loop *l, struct err *e) WARN_UNUSED;
int train_measure_warm(struct train_loop *l, struct err *e) WARN_UNUSED;
/* train_extract.c: PHASE_EXTRACT: the features of all clips of the set, sealed; state.features is their hash.
 */
int train_extract(struct train_loop *l, struct err *e) WARN_UNUSED;
/* train_epoch.c: one epoch from state.batch on, ledger and all; then the state stands at the next epoch's
 * start. */
int train_epoch(struct train_loop *l, struct err *e) WARN_UNUSED;
/* export.c: PHASE_EXPORT: <run.dir>/export/video.safetensors and audio.safetensors. */
int train_export(struct train_loop *l, struct err *e) WARN_UNUSED;

/* Shared by the parts. */

/* Epochs of the round that the state stands in. */
uint32_t train_epochs(const struct train_loop *l);
/* train_checkpoint.c */
void train_checkpoint_init(struct train_loop *l);
/* Begins a checkpoint of the state as it stands; it is written while the training goes on. What keeps one
 * from being written is said by the next call. */
int train_checkpoint(struct train_loop *l, struct err *e) WARN_UNUSED;
/* Between batches: begins one that is asked for or due by train.checkpoint_s. */
int train_checkpoint_if_due(struct train_loop *l, struct err *e) WARN_UNUSED;
/* Returns when what was begun is complete, for what counts on it being there. */
int train_checkpoint_wait(struct train_loop *l, struct err *e) WARN_UNUSED;
/* Shows phase, round, epoch and 0 of `total` positions in /status; begins the phase's clock. */
void train_show_phase(struct train_loop *l, uint64_t done, uint64_t total);
/* Shows progress: `done` positions. */
void train_show_done(struct train_loop *l, uint64_t done);
/* Puts the batch's failed clips into the quarantine; XDC_EMEDIA when too many are in it. Counts the samples
 * used. */
int train_note_batch(struct train_loop *l, const struct plan *p, const struct batch *b,
                     struct err *e) WARN_UNUSED;
/* Moves the rows with a sample to the front: *out_rows is their number; rows[i] is the original row. */
uint32_t train_compact(const struct trainer *t, struct batch_stream *s, uint32_t n, bool video, bool audio,
                       uint32_t *rows);
