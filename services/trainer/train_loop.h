/* train_loop: the training thread: goes from phase to phase, straight down. Ordinary blocking code: batches
 * come from the batcher, labels from labels_in. Owns net, targets, ledger, events. */
#pragma once
#include "lib/ledger.h"
#include "lib/progress.h"
#include "lib/run_warning.h"
#include "services/trainer/batcher.h"
#include "services/trainer/checkpoint_writer.h"
#include "services/trainer/events.h"
#include "services/trainer/harvest.h"
#include "services/trainer/health.h"
#include "services/trainer/targets.h"
#include "services/trainer/unstable.h"

struct trainer;

struct train_loop {
    struct trainer *t;
    const struct targets_method *method; /* the trainer's */
    struct net *net;                     /* owned */
    double flop[NET_ENCODERS];           /* of one clip forward */
    struct targets targets;
    struct ledger *ledger;   /* owned */
    struct harvest *harvest; /* owned; what the epoch writes its features to, or NULL */
    struct events events;
    struct train_state state;
    struct checkpoint_writer writer;
    struct unstable_list unstable;             /* owned */
    double checkpoint_at_s;                    /* when the last one was begun, or the run */
    bool checkpoint_now;                       /* a rank wants one behind this batch */
    bool parting;                              /* the ranks have agreed to stop */
    double phase_start_s, waited_s, stepped_s; /* of the phase: for batches, and within the net's steps */
    uint64_t phase_clips;                      /* samples that the phase used, for its rate */
    double clips; /* used since the start; a clip of two streams counts half in each */
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
/* train_probe.c: with train.probe, an event about the features of the sealed dump; nothing depends on it. */
int train_probe(struct train_loop *l, struct err *e) WARN_UNUSED;
/* train_epoch.c: one epoch from state.batch on, ledger and all; then the state stands at the next epoch's
 * start. */
int train_epoch(struct train_loop *l, struct err *e) WARN_UNUSED;
/* train_harvest.c: with train.harvest. */
/* Opens l->harvest, where the next extraction takes the features of this epoch of so many positions. */
int train_harvest_begin(struct train_loop *l, uint64_t positions, struct err *e) WARN_UNUSED;
/* What was kept for the round that the state stands in, for reading; NULL where there is nothing. */
int train_harvest_read(struct train_loop *l, struct harvest **out, struct err *e) WARN_UNUSED;
/* train_validate.c: */
/* False for an encoder that has stopped for the round, or that the run is not of. */
bool train_learns(const struct train_loop *l, enum net_encoder enc);
/* Losses on the hold-out, means over an encoder's heads. */
struct validation {
    bool measured[NET_ENCODERS]; /* there is a finite loss */
    double loss[NET_ENCODERS], accuracy[NET_ENCODERS];
};
/* After an epoch's last batch, while the state still stands there: goes over the hold-out, if there is one,
 * and decides who stops. When it is stopped itself nothing has changed. */
int train_validate(struct train_loop *l, struct validation *out, struct err *e) WARN_UNUSED;
/* export.c: PHASE_EXPORT: <run.dir>/export/video.safetensors and audio.safetensors; with train.ema
 * video-ema.safetensors and audio-ema.safetensors too. */
int train_export(struct train_loop *l, struct err *e) WARN_UNUSED;

/* Shared by the parts. */

/* Opens the ledger at the state's mark: what lies behind it is void. */
int train_open_ledger(struct train_loop *l, struct err *e) WARN_UNUSED;

/* Epochs of the round that the state stands in. */
uint32_t train_epochs(const struct train_loop *l);
/* "video", "audio", or what the method calls its encoders. */
const char *train_encoder(const struct train_loop *l, enum net_encoder enc);
/* The rows of a stream that the encoder sees. */
const void *train_rows(const struct train_loop *l, enum net_encoder enc, const struct batch_stream *s);
/* A stream with what one of the encoders sees, or with what both see. */
struct plan_stream train_stream(const struct train_loop *l, bool first, bool second, struct draw *draw);
/* Added to the epoch of an augmentation: of the second encoder where both see the same, and of the passes of
 * an extraction. */
#define AUGMENT_SECOND (1u << 31)
#define AUGMENT_EXTRACT (1u << 30)
/* train_checkpoint.c */
void train_checkpoint_init(struct train_loop *l);
/* Begins a checkpoint of the state as it stands; it is written, by rank 0, while the training goes on. What
 * keeps one from being written is said by the next call. Collective. */
int train_checkpoint(struct train_loop *l, struct err *e) WARN_UNUSED;
/* True when one is asked for here, or due by train.checkpoint_s. */
bool train_checkpoint_due(const struct train_loop *l);
/* Behind a batch: begins one if a rank wanted it when the batch was taken, or this one wants it and is alone.
 * Collective. */
int train_checkpoint_if_due(struct train_loop *l, struct err *e) WARN_UNUSED;
/* Returns when what was begun is complete, for what counts on it being there: rank 0 alone has any. */
int train_checkpoint_wait(struct train_loop *l, struct err *e) WARN_UNUSED;
/* train_ranks.c: what the ranks do together; all of it is collective but the last. */
/* Meets the other ranks: when it returns 0, processes that were ranks of this run before are gone. */
int train_meet(struct train_loop *l, struct err *e) WARN_UNUSED;
/* XDC_EMISMATCH when the ranks do not stand at one step with the same weights. */
int train_agree_on_state(struct train_loop *l, struct err *e) WARN_UNUSED;
/* XDC_EMISMATCH names the first rank whose value is not rank 0's. */
int train_agree(struct train_loop *l, const char *what, uint64_t value, struct err *e) WARN_UNUSED;
/* Returns when all ranks are here. */
int train_barrier(struct train_loop *l, struct err *e) WARN_UNUSED;
/* Each of the n values becomes its sum over the ranks. */
int train_sum(struct train_loop *l, double *values, size_t n, struct err *e) WARN_UNUSED;
/* batcher_take; XDC_ESTOPPED on all ranks when one of them stops. */
int train_take(struct train_loop *l, struct batch **out, struct err *e) WARN_UNUSED;
/* Every rank's quarantine becomes that of all. */
int train_merge_quarantine(struct train_loop *l, struct err *e) WARN_UNUSED;
/* Syncs the ledger and the harvest; the state has the marks of all ranks. */
int train_gather_marks(struct train_loop *l, struct err *e) WARN_UNUSED;
/* The ranks may end from now on. */
int train_leave(struct train_loop *l, struct err *e) WARN_UNUSED;
/* What `rc` with `e` is when it came of a lost rank: XDC_ELOST with its name; else `rc`. */
int train_name_lost(struct train_loop *l, int rc, struct err *e) WARN_UNUSED;
/* train_health.c: warnings, each once a round for its encoder or source (`kind` says which it is, `name` its
 * name): in the log, as an event and in /status, with what to do. */
int train_warn(struct train_loop *l, enum run_warning warning, const char *kind, const char *name,
               double value, struct err *e, const char *fmt, ...) PRINTF_LIKE(7, 8) WARN_UNUSED;
/* Puts one on /status alone; false when it is there. */
bool train_show_warning(struct train_loop *l, const char *code, const char *kind, const char *name,
                        double value, const char *sentence);
/* After an epoch, while the state still stands in it. */
int train_warn_loss(struct train_loop *l, enum net_encoder enc, double loss, struct err *e) WARN_UNUSED;
/* After adoption: of every source. */
int train_warn_clusters(struct train_loop *l, struct err *e) WARN_UNUSED;
/* After an extraction. */
int train_warn_features(struct train_loop *l, enum net_encoder enc, const struct health_range *r,
                        struct err *e) WARN_UNUSED;
/* train_unstable.c: batches on which no step could be made. */
/* Reads the list of them. XDC_EUNSTABLE as below. */
int train_unstable_open(struct train_loop *l, struct err *e) WARN_UNUSED;
/* XDC_EUNSTABLE, with what to try, where there are more of them than limits.max_rollbacks allows. */
int train_unstable_limit(const struct train_loop *l, struct err *e) WARN_UNUSED;
/* True where the state stands before one of them: no encoder makes a step on it. Says so in the log. */
bool train_unstable_passes(const struct train_loop *l);
/* Puts the batch at which the state stands on the list, for good, with the clips that the encoder was given;
 * *e says why. Returns XDC_EUNSTABLE with *e as it was, or what kept it from being written. */
int train_note_unstable(struct train_loop *l, const struct batch *b, uint32_t stream, enum net_encoder enc,
                        struct err *e) WARN_UNUSED;
/* After a phase that ended with XDC_EUNSTABLE: everything is as the newest checkpoint has it. XDC_EUNSTABLE
 * when there have been too many, or there is no checkpoint. */
int train_roll_back(struct train_loop *l, struct err *e) WARN_UNUSED;
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
