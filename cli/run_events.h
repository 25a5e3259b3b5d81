/* run_events: the record of a run, events.jsonl, by rounds. Used by run_summary and `xdc compare`. Blocking;
 * one thread; owns its JSON. Lines that are no JSON, as the torn last one of a live run, are passed over.
 * Fails as fs_read does. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "lib/err.h"

/* Of a round the last event of each kind, since events may repeat after a restart; NULL: none. */
struct run_round {
    json_t *extract, *labels, *epoch; /* owned */
    json_t *phases; /* owned: {name: {"seconds", "clips", "ended"}}, the sums of all its lines: a phase that
                       was stopped or rolled back has several */
};

struct run_events {
    struct run_round *round; /* owned, [n] */
    size_t n;
    bool finished;
};

int run_events_read(const char *run_dir, struct run_events *out, struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void run_events_close(struct run_events *r);
