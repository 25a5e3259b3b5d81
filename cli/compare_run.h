/* compare_run: a run as `xdc compare` reads it: its record, its events, and the classes of its manifest. Used
 * by cmd_compare, compare_pairs, compare_labels and compare_agreement. Blocking; one thread. Owns what it
 * holds. Fails where the directory is no run, or a record is damaged; a manifest that cannot be read is said
 * in no_truth. */
#pragma once
#include <jansson.h>
#include "cli/run_events.h"
#include "lib/conf.h"
#include "lib/label_table.h"

struct compare_run {
    const char *dir; /* a loan */
    json_t *record;  /* owned: run.json */
    struct conf conf;
    uint64_t run, manifest;   /* identities */
    struct run_events events; /* owned */
    uint32_t rounds;          /* that events, labels or features know of */
    uint32_t *truth;          /* owned, [videos], LABEL_NONE for unknown; NULL: there are no classes, */
    uint64_t videos;
    struct err no_truth; /* and why */
};

/* -ENOENT: no run directory; XDC_EFORMAT, errno codes. On failure it can be closed. */
int compare_run_open(struct compare_run *r, const char *dir, struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void compare_run_close(struct compare_run *r);

/* {"dir", "run", "manifest", "method", "versions", "finished"}; NULL without memory. */
json_t *compare_run_head(const struct compare_run *r);
