/* events: the record of a run for people and plots: events.jsonl, one JSON object a line with wall time and
 * step (phases, epochs, labels, checkpoints), and the numbers in them as TensorBoard scalars. Nothing in a
 * run depends on it. Training thread only. Owns the descriptors; a failed write leaves whole lines and
 * records. */
#pragma once
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include "lib/tfevents.h"

struct events {
    int fd;                     /* owned; of events.jsonl */
    const uint64_t *step;       /* the run's */
    char tensorboard[PATH_MAX]; /* the directory; empty: no TensorBoard files are wanted */
    struct tfevents *scalars;   /* owned; NULL until there is a number to write */
    uint64_t first_step;        /* what earlier processes wrote from here on is void */
};

/* `step` is read at each event. `resumed`: a checkpoint at *step has been restored, and what was written up
 * to there stands; without one nothing does. */
int events_open(struct events *ev, const char *run_dir, bool tensorboard, const uint64_t *step, bool resumed,
                struct err *e) WARN_UNUSED;
/* With fd -1 it does nothing, else: adds "event", "time" and "step" to `fields` (takes the reference) and
 * appends the line with one write; the table in events.c says which fields become scalars. */
int events_write(struct events *ev, const char *event, json_t *fields, struct err *e) WARN_UNUSED;
void events_close(struct events *ev);
