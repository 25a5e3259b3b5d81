/* unstable: the batches of a run on which a step could not be made since a loss or gradient was not finite:
 * <run.dir>/unstable.jsonl, one line each. Training is rolled back behind such a batch and passes it over
 * when it comes to it again, also after a restart. Used by the training thread alone. Owns its arrays. A
 * failed write leaves file and list as they were. */
#pragma once
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

struct unstable_place {
    uint32_t round, epoch; /* epoch within the round */
    uint64_t batch;        /* within the epoch */
};

struct unstable_list {
    char path[PATH_MAX];
    struct unstable_place *places; /* owned */
    size_t n;
    char *text; /* owned; the file */
};

/* Reads the list of a run; without a file it is empty. XDC_EFORMAT names the line that is none. Close it in
 * any case. */
int unstable_open(struct unstable_list *u, const char *run_dir, struct err *e) WARN_UNUSED;
/* Adds a batch; `fields` (a loan) say what happened, the place is put before them. On disk when it returns 0,
 * if this process is the one that writes the file. */
int unstable_add(struct unstable_list *u, const struct unstable_place *place, const json_t *fields,
                 bool writes, struct err *e) WARN_UNUSED;
bool unstable_has(const struct unstable_list *u, const struct unstable_place *place);
/* Safe on a zeroed struct. */
void unstable_close(struct unstable_list *u);
