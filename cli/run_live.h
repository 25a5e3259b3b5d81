/* run_live: the daemons of a configuration, started, shown and ended: what `xdc run`, `xdc embed` and
 * eval finetune share.
 * Blocking: a loop of its own until the run ends or is stopped. Fails with the sentence of what could not be
 * started; what a daemon gave up for is in run_end. */
#pragma once
#include "lib/daemon.h"

struct run_end {
    int status;        /* exit status, where there is a reason */
    char reason[1200]; /* why it did not finish, or empty */
};

/* Makes the run's directory and takes its run.lock, which ends with the process or the close of *out_fd.
 * XDC_ELOCKED names the owner; `owner` is the command that takes it: "xdc run". */
int run_live_lock(const char *owner, const char *dir, int *out_fd, struct err *e) WARN_UNUSED;

/* Runs the daemons of d->conf, with `args` (-c and --set, NULL behind them) for all of them. d: its
 * configuration is loaded; SIGTERM and SIGINT stop. */
int run_live(struct daemon *d, char **args, struct run_end *out, struct err *e) WARN_UNUSED;

/* Removes the directory of a run that nobody runs, and that of its sockets; 0 too where there is none. */
int run_live_remove(const char *dir, struct err *e) WARN_UNUSED;
