/* worker_pool: many files, each a job for a sandboxed media worker, several at a time; a worker that dies
 * costs its file alone. Used by `xdc index` and `xdc doctor`. Blocking; one thread; owns the workers while it
 * runs. */
#pragma once
#include <signal.h>
#include "lib/media/child.h"

struct pool_task {
    uint64_t id; /* the caller's */
    struct media_job job;
    struct media_file file; /* the pool closes it, and gives its window to the job */
    double wall_s;          /* then the file counts as MEDIA_DECODE_TIMEOUT: a dead mount */
};

struct pool_calls {
    /* 1: *out is the next task; 0: there are no more; negative: an error that ends the work. */
    int (*next)(void *arg, struct pool_task *out, struct err *e);
    /* A task is done; `slot` holds what the worker left there. Negative ends the work. */
    int (*done)(void *arg, const struct pool_task *t, const struct media_result *r, const uint8_t *slot,
                struct err *e);
    /* Some time has gone by: a fifth of a second at most. */
    void (*tick)(void *arg);
};

/* Runs all tasks with `jobs` workers. XDC_ESTOPPED when *stop became non-zero; tasks in flight are then given
 * up. */
int pool_run(const struct pool_calls *calls, void *arg, const struct media_child_limits *limits,
             unsigned jobs, const volatile sig_atomic_t *stop, struct err *e) WARN_UNUSED;
