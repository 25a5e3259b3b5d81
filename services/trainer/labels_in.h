/* labels_in: the trainer's end of the edge labels: asks the clusterer for the table of a dump until it is
 * there. The question is the loop's, the waiting the training thread's. Bulk is the label table file: where
 * the clusterer did not put it into the run's directory, it is pulled in pieces, written under a temporary
 * name, held against the hash that was announced, and renamed. */
#pragma once
#include <pthread.h>
#include "lib/file_pull.h"
#include "lib/label_table.h"
#include "lib/wire.h"

struct trainer;

/* How often a table that came altered is pulled. */
#define LABELS_PULL_TRIES 3

enum labels_state { LABELS_IDLE, LABELS_WANTED, LABELS_READY, LABELS_PULLING, LABELS_PULLED, LABELS_FAILED };

struct labels_in {
    struct trainer *trainer;
    struct wire *wire; /* loop thread */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum labels_state state; /* under the lock, as all below */
    uint32_t round;
    uint64_t features, table;
    struct file_pull pull; /* while pulling */
    uint64_t pull_end;     /* of the pieces that were asked for */
    uint64_t refused;      /* pieces that were not what was due */
    double asked_s;        /* when the clusterer was last asked, or last sent a piece */
    double done;           /* share of the clustering, as the clusterer says */
    int code;              /* why the clusterer failed, and its sentence */
    char detail[512];
};

int labels_in_open(struct labels_in *l, struct trainer *t, struct err *e) WARN_UNUSED;
void labels_in_close(struct labels_in *l);
/* Loop thread: asks again when a second has passed. */
void labels_in_pump(struct labels_in *l);
/* Loop thread: ends a waiting training thread. */
void labels_in_stop(struct labels_in *l);
/* Opens a round's table file; XDC_EMISMATCH names what of it is not as the run needs it: manifest, run,
 * round, dump, number of clips, k, or (unless 0) the hash. */
int labels_in_table(const struct trainer *t, uint32_t round, uint64_t features, uint64_t hash,
                    struct label_table **out, struct err *e) WARN_UNUSED;
/* Training thread: waits for the table of these features and opens it. XDC_ESTOPPED; XDC_EMISMATCH for a
 * table of another manifest, run, round or dump; the clusterer's code and sentence when it cannot make one.
 */
int labels_in_wait(struct labels_in *l, uint32_t round, uint64_t features, struct label_table **out,
                   struct err *e) WARN_UNUSED;
