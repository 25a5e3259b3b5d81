/* checkpoint: all that a run needs to go on, bit for bit: weights, heads, momentum, and where the run stands.
 * Training thread only. Equal states give equal bytes: no time, no process id is in it. On failure the
 * checkpoints before are untouched. */
#pragma once
#include "lib/ledger.h"
#include "lib/torch/net.h"
#include "services/trainer/phase.h"
#include "services/trainer/quarantine.h"

/* Where a run stands. */
struct train_state {
    enum phase phase;
    uint32_t round, epoch;     /* epoch within the round */
    uint64_t batch;            /* batches of the epoch that are trained */
    uint64_t step;             /* of the run */
    uint64_t labels, features; /* hashes of the table and the dump in force, 0 for none */
    struct ledger_mark ledger;
    /* sums over the epoch so far, for its record: */
    double loss[NET_ENCODERS];
    uint64_t labelled[NET_ENCODERS], correct[NET_ENCODERS];
};

/* Writes checkpoints/step-<step>, reads it back, then removes all but the newest `keep`. A checkpoint of the
 * same step is replaced. */
int checkpoint_write(const char *run_dir, uint64_t run, const struct train_state *s, struct net *net,
                     struct quarantine *q, unsigned keep, struct err *e) WARN_UNUSED;
/* Restores the newest whole one. -ENOENT when there is none; XDC_EMISMATCH when it is of another run. */
int checkpoint_restore(const char *run_dir, uint64_t run, struct train_state *s, struct net *net,
                       struct quarantine *q, unsigned *out_skipped, struct err *e) WARN_UNUSED;
