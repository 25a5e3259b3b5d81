/* events: events.jsonl, one JSON object a line with the wall time: phases, epochs, labels, checkpoints. For
 * people and plots; nothing in a run depends on it. Training thread only. */
#pragma once
#include <jansson.h>
#include "lib/err.h"

struct events {
    int fd;
};

int events_open(struct events *ev, const char *run_dir, struct err *e) WARN_UNUSED;
/* Adds "time" and "event" to `fields` (takes the reference) and appends the line with one write. */
int events_write(struct events *ev, const char *event, json_t *fields, struct err *e) WARN_UNUSED;
void events_close(struct events *ev);
