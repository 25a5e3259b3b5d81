/* pool: the media workers of a decoder, their slots, and the leases that are held.
 * Used by leases_in (adds leases), samples_out (gives slots and leases back) and status. Loop thread only.
 * Owns the workers and every lease from pool_add to pool_lease_done. A file that kills workers costs its own
 * clip: after `attempts` deaths the lease is answered with the reason. When no worker can be started the
 * leases wait. Leases of one grant go to one worker as one job; when it dies, those that have no answer yet
 are decoded one by one. A view that cannot be cut from a kept clip is decoded. A worker is replaced after
 `recycle` clips. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "lib/media/child.h"
#include "services/decoder/clip_cache.h"
#include "services/decoder/lease.h"

/* Bounds a heartbeat, which lists every held lease, to an envelope. */
#define POOL_SLOTS_MAX 1024

enum worker_state {
    WORKER_DOWN,    /* no process, or one that is started again with the next lease */
    WORKER_IDLE,    /* waits for a lease */
    WORKER_BUSY,    /* decodes */
    WORKER_SENDING, /* its slot holds samples that the network has not let go of */
};

struct pool;

struct worker {
    struct pool *pool;
    struct media_child child;
    enum worker_state state;
    struct lease *leases[MEDIA_CLIPS_MAX]; /* of the job, while busy; the pool's list owns them */
    unsigned n, answered;                  /* how many; the first `answered` of them have left */
    unsigned samples;                      /* answers whose bytes lie in the slot */
    double since_s;                        /* when the job was handed over */
    bool overdue;                          /* ended for taking too long */
    uint64_t clips;                        /* given to this process */
    uv_poll_t *poll;                       /* owned while the process runs; closed by the loop */
};

/* An answer is ready in lease->result (or lease->lost). lease->worker is NULL, or its slot holds the bytes
 * until pool_worker_free, which is due when worker->samples of them have been let go. The lease stays held
 * until pool_lease_done. */
typedef void (*pool_on_answer)(void *arg, struct lease *lease);

struct pool_options {
    uv_loop_t *loop;
    unsigned workers; /* > 0 */
    unsigned attempts;
    unsigned wall_s; /* a worker that takes longer is ended and its lease lost; 0: 60 */
    struct media_child_limits limits;
    uint64_t recycle;         /* clips; 0: never */
    unsigned slots;           /* leases held at a time; 0: two a worker */
    const char *media_root;   /* copied */
    struct clip_cache *cache; /* borrowed; NULL: nothing is kept */
    pool_on_answer on_answer;
    void (*on_sending)(
        void *arg); /* may be NULL: a job has ended whose samples may all have been let go of */
    void *arg;
};

struct pool {
    struct pool_options options;
    char *media_root;          /* owned */
    struct worker *workers;    /* owned */
    struct lease *head, *tail; /* owned: held leases, oldest first */
    unsigned slots, held, queued;
    bool stopping, dispatching;
    bool cannot_start; /* the last attempt to start a worker failed */
    char start_error[256];
    uint32_t sandbox; /* enum sandbox_part: what workers that have started lack none of */
    bool sandbox_known;
    uint64_t recycled;
    double retry_at_s;
    uint64_t decoded, lost, superseded, workers_died;
    uint64_t cut; /* of the decoded: from kept clips */
    uint64_t failed[MEDIA_REASONS];
};

/* Starts the workers; a worker that cannot be started is tried again by pool_tick. */
int pool_init(struct pool *p, const struct pool_options *o, struct err *e) WARN_UNUSED;
/* Takes the leases. One whose key is held is dropped; one beyond the slots, or while stopping, is answered
 * lost. */
void pool_add(struct pool *p, struct lease *const *leases, unsigned n);
/* Drops what `link` granted under another incarnation or phase. */
void pool_supersede(struct pool *p, unsigned link, uint64_t incarnation, uint32_t phase);
/* The answer is on the wire, or nobody wants it: frees the lease. */
void pool_lease_done(struct pool *p, struct lease *l);
/* The slot's bytes may be overwritten: the worker takes the next lease. */
void pool_worker_free(struct worker *w);
/* Ends workers that are past the wall time and starts those that could not be started; call about once a
 * second. */
void pool_tick(struct pool *p);
/* Keys of the leases of `link`, at most POOL_SLOTS_MAX; returns their number. */
unsigned pool_held(const struct pool *p, unsigned link, struct lease_key out[POOL_SLOTS_MAX]);
unsigned pool_running(const struct pool *p);
/* Answers everything unanswered lost and ends the workers whose slots are not on the wire. */
void pool_stop(struct pool *p);
/* Ends all workers and frees everything; the network must have let go of the slots. The loop still has to
 * run. */
void pool_close(struct pool *p);
