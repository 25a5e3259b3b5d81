/* child: one command of this program, run to its end as a process of its own, its output in a file: the steps
 * of long work. Used by eval finetune and sweep. Blocking; one thread, one child at a time. SIGINT, SIGTERM
 * and SIGHUP that this process gets meanwhile go on to the child, which ends with this process. */
#pragma once
#include "lib/err.h"

struct child {
    const char *const *args; /* of the command, from its name on, NULL behind them */
    const char *log;         /* stderr is appended to it, and stdout without `out` */
    const char *out;         /* file that gets stdout alone; NULL: the log */
};

/* 0 when it ended with exit status 0. Else the code that its status stands for, with the last line that it
 * wrote; XDC_ESTOPPED when a signal to this process ended it. */
int child_run(const struct child *c, struct err *e) WARN_UNUSED;
