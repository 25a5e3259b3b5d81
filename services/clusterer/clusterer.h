/* clusterer: the state of the clusterer process: finds sealed dumps, clusters them one after another, answers
 * for them. One uv loop owns everything; a job computes on a worker thread. The directory of the run, or the
 * clusterer's own, is the only memory: whatever is lost in a crash is found again by looking. A second
 * clusterer of the directory waits for the first one's lock. */
#pragma once
#include <jansson.h>
#include <stdatomic.h>
#include <uv.h>
#include "lib/conf.h"
#include "lib/status.h"
#include "lib/wire.h"
#include "services/clusterer/cluster_job.h"
#include "services/clusterer/features_in.h"
#include "services/clusterer/labels_out.h"
#include "services/clusterer/rounds.h"

struct clusterer {
    struct conf conf;
    uint64_t run, manifest; /* identities */

    /* loop thread */
    uv_loop_t loop;
    uv_timer_t tick;
    uv_timer_t deadline;        /* of stopping */
    struct wire_context *wires; /* owned */
    struct features_in features;
    struct labels_out labels;
    struct status_server *status; /* owned */
    struct rounds rounds;
    json_t *last;    /* owned: quality of the last table, or NULL */
    uint64_t tables; /* made by this process */
    int lock_fd;
    struct nearest_device *device; /* a loan, or NULL: the CPU */
    bool device_said;              /* that it is lost */
    bool pulls;  /* cluster.dir: conf.run.dir is then that directory, and dumps come over the edge */
    bool active; /* holds the lock */
    bool standby_said;
    bool working, stopping, abandoned;
    double job_start_s;

    /* the job: the worker's while `working`, then the loop's */
    uv_work_t work;
    struct cluster_job job;
    atomic_bool stop; /* both */
};

/* Reads the manifest's identity, makes the run's directory, opens the loop. On failure all is closed again.
 * device: a loan until clusterer_close, or NULL: k-means computes on the CPU. */
int clusterer_open(struct clusterer *c, const struct conf *conf, struct nearest_device *device,
                   struct err *e) WARN_UNUSED;
/* Runs the loop until stopped; 0, or what made going on impossible. */
int clusterer_run(struct clusterer *c, struct err *e) WARN_UNUSED;
/* After run. Where a job did not end in time (abandoned) its memory is left to the process's end. */
void clusterer_close(struct clusterer *c);
/* Loop thread: as on SIGTERM. A running job is abandoned; nothing of it is on disk. */
void clusterer_stop(void *clusterer);
/* Looks at the feature store now. */
void clusterer_look(struct clusterer *c);
/* Share of the running job, 0 without one. */
double clusterer_done(const struct clusterer *c);

/* clusterer_status.c */
json_t *clusterer_status(void *clusterer);
const char *clusterer_unhealthy(void *clusterer);
