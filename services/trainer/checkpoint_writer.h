/* checkpoint_writer: writes checkpoints beside the training, one at a time, each on a thread of its own.
 * Used by the training thread alone. Owns what is in flight. A failed write surfaces, once, in the next call
 * of any kind; the checkpoints before it are untouched. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "services/trainer/checkpoint.h"

struct checkpoint_report {
    uint64_t step;
    double stall_s; /* that the training stood still for it */
    double write_s; /* from the copy to the pruned directory */
};

/* Hears of each checkpoint that is complete, within a call of the training thread. */
typedef int (*checkpoint_on_written)(void *arg, const struct checkpoint_report *r, struct err *e);

struct checkpoint_writer {
    const char *run_dir; /* a loan */
    uint64_t run;
    struct checkpoint_keep keep;
    unsigned keep_dumps; /* dump_keep's, behind every checkpoint; 0 after init: all */
    checkpoint_on_written on_written;
    void *arg;
    bool busy;

    /* of the one in flight; what the thread writes is read when it is joined */
    pthread_t thread;
    uint64_t step;
    struct checkpoint taken; /* owned */
    double begun_s, stall_s, write_s;
    int result;
    struct err err;
    atomic_bool ended;
};

void checkpoint_writer_init(struct checkpoint_writer *w, const char *run_dir, uint64_t run,
                            const struct checkpoint_keep *keep, checkpoint_on_written on_written, void *arg);
/* Waits for the one in flight, copies everything, and returns while it is written. `since_s` is when the
 * training stood still (progress_now_s). */
int checkpoint_writer_begin(struct checkpoint_writer *w, const struct train_state *s, struct net *net,
                            struct quarantine *q, double since_s, struct err *e) WARN_UNUSED;
/* Reports the one in flight if it has ended; never waits. */
int checkpoint_writer_poll(struct checkpoint_writer *w, struct err *e) WARN_UNUSED;
/* Waits until nothing is in flight: after 0 every checkpoint that was begun is complete. */
int checkpoint_writer_wait(struct checkpoint_writer *w, struct err *e) WARN_UNUSED;
