/* supervisor: the daemons of `xdc run` as child processes: starts them in their own sessions, starts them
 * again when they die, within a limit, and ends them in order. Used by cmd_run alone. Loop thread only. */
#pragma once
#include <limits.h>
#include <stdbool.h>
#include <uv.h>
#include "lib/conf.h"

#define SUPERVISOR_RESTARTS 8    /* of one child ... */
#define SUPERVISOR_WINDOW_S 60.0 /* ... within so long */

enum child_kind { CHILD_CLUSTERER, CHILD_TRAINER, CHILD_DECODER };

struct supervisor;

struct child {
    struct supervisor *s;
    enum child_kind kind;
    int index;
    char name[32]; /* "trainer-0" */
    char log[PATH_MAX];
    uv_process_t process;
    uv_timer_t again;
    bool running;
    int restarts;
    double window_start_s;
    int status; /* exit status of the last end; 128 + signal */
};

struct supervisor {
    uv_loop_t *loop;
    char bin_dir[PATH_MAX];
    const char *run_dir;    /* of the configuration */
    char **args;            /* -c FILE and --set options, NULL at the end */
    struct child *children; /* owned */
    int n;
    bool stopping;     /* no more restarts */
    bool asked;        /* to stop, and it waits for the checkpoint */
    bool finished;     /* the trainer has finished the run */
    int status;        /* exit status for the whole run */
    char reason[1200]; /* why it stopped, when it did not finish */
    uv_timer_t deadline;
    void (*on_note)(void *arg, const char *text); /* a line for the person */
    void *arg;
};

/* Starts a clusterer (with run.clusterer, where there are rounds), run.ranks trainers and run.decoders
 * decoders; their output goes to <run.dir>/logs/<name>.log. */
int supervisor_start(struct supervisor *s, uv_loop_t *loop, const struct conf *c, char **args,
                     void (*on_note)(void *arg, const char *text), void *arg, struct err *e) WARN_UNUSED;
/* First: the trainer checkpoints, then all end. Again: all are killed. */
void supervisor_stop(struct supervisor *s);
void supervisor_close(struct supervisor *s);
