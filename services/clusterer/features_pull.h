/* features_pull: makes replicas of sealed dumps in the clusterer's own directory (cluster.dir), from each
 * rank's end of the edge features. Used by features_in. Loop thread; opening and sealing run on a worker
 * thread; a block is written on the loop, and all of the last seconds synced there. One shard at a time, one
 * window of blocks in flight. A frame that is not exactly what is due is refused and counted. A break at
 * either end costs the blocks in flight; a shard that is not what its record names is discarded and pulled
 * again, up to FEATURES_PULL_TRIES times, then its round has failed. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "lib/file_pull.h"
#include "lib/wire.h"
#include "services/clusterer/replica.h"
#include "services/clusterer/rounds.h"

#define FEATURES_PULL_TRIES 3
/* The largest block that a dump may have. */
#define FEATURES_FRAME_MAX ((size_t)256 << 20)

struct clusterer;

enum pull_state {
    PULL_IDLE,
    PULL_OPENING, /* on the worker thread */
    PULL_TABLE,   /* the table of the round before comes */
    PULL_BLOCKS,
    PULL_HEADS,
    PULL_SEALING, /* on the worker thread */
    PULL_PAUSED,  /* until retry_s */
};

/* What a rank has sealed, by its last notice. */
struct pull_notice {
    bool known, done;
    unsigned bad; /* times that it was not what its record names */
    struct feature_record record;
    struct feature_info info;
};

struct features_pull {
    struct clusterer *clusterer;
    struct wire *wires[CONF_RANKS_MAX]; /* loans */
    uint32_t ranks;
    struct pull_notice notice[CONF_RANKS_MAX];
    enum pull_state state;
    uint32_t rank;         /* whose shard is pulled */
    bool abandoned;        /* another shard is due once the worker returns */
    uint64_t window_end;   /* block behind the last one that was asked for */
    unsigned wrong_in_row; /* frames refused since the last good one */
    double heard_s, retry_s;
    struct replica replica; /* the worker's while opening and sealing */
    struct file_pull file;  /* of a file that comes */
    uint64_t file_end;      /* of the pieces that were asked for */
    uv_work_t work;
    struct round_entry failed; /* what labels_out answers; detail empty: nothing failed */
    char said[256];            /* the last sentence that was logged */
    uint64_t blocks, bytes, refused, replicas;
};

void features_pull_init(struct features_pull *p, struct clusterer *c, uint32_t ranks);
/* After the loop has ended its work. */
void features_pull_close(struct features_pull *p);
/* A worker thread is in it. */
bool features_pull_busy(const struct features_pull *p);
/* Rank `rank` says that its shard of a round is sealed. */
void features_pull_sealed(struct features_pull *p, uint32_t rank, const Xdc__DumpSealed *m,
                          const struct wire_frame *raw, size_t n_raw);
/* Any of the answers to a request. */
void features_pull_answer(struct features_pull *p, uint32_t rank, const Xdc__Envelope *env,
                          const struct wire_frame *raw, size_t n_raw);
/* A few times a second: asks again for what did not come, tries again what failed. */
void features_pull_tick(struct features_pull *p);
/* The entry of a round that cannot be pulled, or NULL. */
const struct round_entry *features_pull_failed(const struct features_pull *p, uint32_t round);
/* Removes the replicas of rounds before the one before `round`, whose table is there. */
void features_pull_clean(struct features_pull *p, uint32_t round);
/* A new reference. */
json_t *features_pull_status(const struct features_pull *p);
