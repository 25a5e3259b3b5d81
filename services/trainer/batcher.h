/* batcher: turns positions of a plan into batches in strict order. The loop thread fills positions as samples
 * come, in any order; the training thread takes whole batches in order. A reorder window of `depth` batches
 * bounds the memory. Owns the batches' buffers. Positions that cannot be filled become holes with a
 * disposition. */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/media/media.h"
#include "services/trainer/draw.h"
#include "services/trainer/phase.h"

#define BATCHER_STREAMS_MAX 2
#define BATCHER_DEPTH 4

/* One stream of positions: both modalities of one order, or one encoder's own order. */
struct plan_stream {
    bool video, audio; /* modalities that are decoded */
    struct draw *draw; /* loop thread only while the plan runs */
    uint32_t augment;  /* streams of other numbers augment the same clip in other ways */
};

/* What a phase needs decoded. */
struct plan {
    enum phase phase;
    uint32_t round, epoch;
    uint32_t streams;
    struct plan_stream stream[BATCHER_STREAMS_MAX];
    uint64_t positions;   /* of every stream, over all ranks */
    uint32_t batch;       /* positions of a batch over all ranks; the last one may be short */
    uint32_t rank, world; /* this process fills position p where p % world == rank, and world (0: 1) divides
                             batch: every rank has the same number of batches, the last one maybe empty */
    uint64_t first_batch; /* begin here: what was trained before an interruption is skipped */
    struct media_recipe recipe;
    /* Before a lease: 0 to lease, LEDGER_* to make a hole. Loop thread; `stream` is the index. */
    uint32_t (*check)(void *arg, uint32_t stream, uint64_t clip);
    void *arg;
};

enum slot_state { SLOT_OPEN, SLOT_LEASED, SLOT_DONE };

/* A position's permission to one decoder. */
struct slot_lease {
    uint32_t attempt, decoder;
    double granted_s;
};

/* One position of one stream. */
struct batch_slot {
    enum slot_state state;
    uint32_t disposition; /* LEDGER_TRAINED: a sample lies in the row */
    uint32_t reason;      /* media reason when quarantined */
    uint32_t attempts;    /* leases so far, which numbers them */
    uint64_t clip, hash;
    struct slot_lease leases[2]; /* while leased: those that live; the second one is a hedge */
    uint32_t n_leases;
};

struct batch_stream {
    struct batch_slot *slots; /* owned; [batch] */
    uint8_t *video;           /* owned; [batch, T, P, P, 3], NULL when not wanted */
    float *audio;             /* owned; [batch, 40, 100], NULL when not wanted */
};

struct batch {
    uint64_t index, first, end; /* number in the plan; its positions over all ranks */
    uint32_t n;                 /* rows here: positions first + rank, first + rank + world, ... below end */
    uint32_t pending;           /* slots not done, all streams */
    bool taken;
    struct batch_stream stream[BATCHER_STREAMS_MAX];
};

struct batcher {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock: */
    struct plan plan;
    bool active;
    bool stopped;        /* take returns XDC_ESTOPPED */
    uint64_t head, tail; /* batches [head, tail) are open or complete and not yet taken */
    uint64_t batches;    /* of the plan */
    struct batch ring[BATCHER_DEPTH];
    uint64_t filled; /* positions done, all plans */
    /* set once: */
    size_t video_bytes;      /* of one sample */
    uint32_t batch_max;      /* rows */
    void (*wake)(void *arg); /* tells the loop thread that there is room or a new plan; any thread */
    void *wake_arg;
};

struct slot_ref {
    uint64_t batch;
    uint32_t stream, row;
};

/* Which plan a lease was for. */
struct plan_key {
    uint32_t phase, round, epoch, stream;
};

int batcher_init(struct batcher *b, uint32_t batch_max, size_t video_bytes, void (*wake)(void *), void *arg,
                 struct err *e) WARN_UNUSED;
void batcher_close(struct batcher *b);

/* Any thread, while the plan stays: the position of a row. */
uint64_t batcher_position(const struct plan *p, uint64_t batch, uint32_t row);

/* Training thread. */

/* Begins a plan (copied); the one before is over, its leased positions are forgotten. */
void batcher_begin(struct batcher *b, const struct plan *p);
/* Waits for the next batch. 0, 1 at the plan's end, XDC_ESTOPPED. */
int batcher_take(struct batcher *b, struct batch **out) WARN_UNUSED;
void batcher_give(struct batcher *b, struct batch *batch);
/* Gives the plan up: draws nothing more, and waits until what was drawn is filled, which is thrown away.
 * After it (or batcher_stop) no lease of the plan lives, so that another one may begin. No batch may be
 * taken. */
void batcher_drain(struct batcher *b);
/* Ends the plan, finished or not: after it the loop thread touches neither its draws nor its check. */
void batcher_end(struct batcher *b);

/* Loop thread. */

void batcher_stop(struct batcher *b);
/* The next position to lease: *out_slot and its clip. False when there is none now. */
bool batcher_next(struct batcher *b, struct slot_ref *out, struct batch_slot **out_slot);
/* The oldest batch that is not taken. */
uint64_t batcher_head(struct batcher *b);
/* The slot at a position of the plan of this phase, round and epoch, or NULL when it is not in the window.
 * While the slot is leased the plan stays. */
struct batch_slot *batcher_find(struct batcher *b, const struct plan_key *key, uint64_t position,
                                struct slot_ref *out);
struct batch_slot *batcher_slot(struct batcher *b, struct slot_ref ref);
/* The position after it in the same stream; false where it is not in the window. */
bool batcher_after(struct batcher *b, struct slot_ref ref, struct slot_ref *out,
                   struct batch_slot **out_slot);
/* A lease begins: the slot is open, or has one. Returns it, with its number. */
struct slot_lease *batcher_lease(struct batch_slot *slot, uint32_t decoder, double now_s);
/* The live lease of that number, or NULL. */
struct slot_lease *batcher_live(struct batch_slot *slot, uint32_t attempt);
/* The lease is lost; without another one the position may be leased again. */
void batcher_unlease(struct batch_slot *slot, struct slot_lease *lease);
/* Puts a sample (sizes are checked by the caller) and completes the position. */
void batcher_fill(struct batcher *b, struct slot_ref ref, const void *video, const void *audio,
                  uint64_t hash);
/* Completes the position without a sample. */
void batcher_hole(struct batcher *b, struct slot_ref ref, uint32_t disposition, uint32_t reason);
/* Calls f for every leased slot in the window. */
void batcher_each_leased(struct batcher *b,
                         void (*f)(void *arg, struct slot_ref ref, struct batch_slot *slot), void *arg);
/* Copies of what /status shows. */
void batcher_progress(struct batcher *b, uint64_t *out_ready, uint64_t *out_open, uint64_t *out_filled);
