/* checkpoint: all that a run needs to go on, bit for bit: weights, heads, momentum, and where the run stands.
 * Taken and restored by the training thread; once taken it is a copy that any one thread may write. Equal
 * states give equal bytes: no time, no process id is in it. On failure the checkpoints before are untouched.
 */
#pragma once
#include <jansson.h>
#include "lib/checkpoint_dir.h"
#include "lib/conf.h"
#include "lib/ledger.h"
#include "lib/torch/net.h"
#include "services/trainer/early_stop.h"
#include "services/trainer/phase.h"
#include "services/trainer/quarantine.h"

/* Where a run stands. */
struct train_state {
    enum phase phase;
    uint32_t round, epoch;                      /* epoch within the round */
    uint64_t batch;                             /* batches of the epoch that are trained */
    uint64_t step;                              /* of the run */
    uint64_t labels, features;                  /* hashes of the table and the dump in force, 0 for none */
    uint32_t ranks;                             /* that trained it */
    struct ledger_mark ledgers[CONF_RANKS_MAX]; /* by rank */
    /* sums over the epoch so far, for its record: */
    double loss[NET_ENCODERS];
    uint64_t labelled[NET_ENCODERS], correct[NET_ENCODERS];
    struct early_stop early[NET_ENCODERS]; /* of the round */
};

/* Everything as it was at one moment. */
struct checkpoint {
    uint64_t step;
    json_t *state;                /* owned */
    struct net_snapshot *weights; /* owned */
};

/* Copies it all; on failure *out is empty. */
int checkpoint_take(struct checkpoint *out, uint64_t run, const struct train_state *s, struct net *net,
                    struct quarantine *q, struct err *e) WARN_UNUSED;
/* Writes checkpoints/step-<step>, reads it back and compares it with the copy, then removes what `keep` does
 * not name. A checkpoint of the same step is replaced. */
int checkpoint_write(struct checkpoint *c, const char *run_dir, const struct checkpoint_keep *keep,
                     struct err *e) WARN_UNUSED;
void checkpoint_free(struct checkpoint *c);
/* Restores the newest whole one; on_refused (may be NULL) hears of newer ones that are not. -ENOENT when
 * there is none; XDC_EMISMATCH when it is of another run. */
int checkpoint_restore(const char *run_dir, uint64_t run, struct train_state *s, struct net *net,
                       struct quarantine *q, checkpoint_dir_on_refused on_refused, void *arg,
                       struct err *e) WARN_UNUSED;
