/* rounds: what the clusterer knows of the sealed dumps of its run. Used by clusterer.c and labels_out. Loop
 * thread only. Owns one array. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

enum round_state {
    ROUND_WAITING, /* shards of its dump are not sealed yet */
    ROUND_WORKING,
    ROUND_READY,
    ROUND_FAILED,
};

struct round_entry {
    uint32_t round;
    uint64_t features; /* hash of the dump; 0 where it could not be opened */
    enum round_state state;
    uint64_t table;   /* hash, when ready */
    double retry_s;   /* progress_now_s() at which a failed one is tried again; infinite: when the dump has
                         changed */
    bool seen;        /* by the scan that is running */
    uint64_t mark;    /* feature_dump_mark of what was looked at; another one: look again */
    int code;         /* why it failed */
    char detail[512]; /* the same in a sentence */
};

struct rounds {
    struct round_entry *entry; /* owned */
    uint32_t n, room;
};

void rounds_close(struct rounds *r);
/* NULL when there is none. Valid until the next add or drop. */
struct round_entry *rounds_find(struct rounds *r, uint32_t round);
/* Finds or adds. NULL when out of memory. */
struct round_entry *rounds_get(struct rounds *r, uint32_t round);
/* Drops the entries not seen; marks the others unseen. */
void rounds_drop_unseen(struct rounds *r);
