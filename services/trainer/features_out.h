/* features_out: the trainer's end of the edge features: writes a round's dump and tells the clusterer that it
 * is sealed; features_serve sends it to clusterers elsewhere. The dump is written by the training thread, the
 * notices are the loop's. A notice is only a hint. */
#pragma once
#include <pthread.h>
#include "lib/feature_store.h"
#include "lib/torch/net.h"
#include "lib/wire.h"
#include "services/trainer/features_serve.h"

#define FEATURES_PEERS_MAX 16

struct trainer;

struct features_peer {
    struct wire_peer id;
    bool pulls; /* has no share in the run's directory */
};

struct features_out {
    struct trainer *trainer;
    struct wire *wire;                              /* loop thread */
    struct features_peer peers[FEATURES_PEERS_MAX]; /* loop thread */
    uint32_t n_peers;
    struct features_serve serve; /* loop thread */
    pthread_mutex_t lock;
    bool sealed, pending; /* under the lock; pending: not yet announced */
    uint32_t round;
    uint64_t hash;
};

int features_out_open(struct features_out *f, struct trainer *t, struct err *e) WARN_UNUSED;
void features_out_close(struct features_out *f);
/* Loop thread: sends what is pending, and serves what was asked for. */
void features_out_pump(struct features_out *f);
/* Loop thread: tells the clusterer that the run has ended. */
void features_out_finish(struct features_out *f);
/* Training thread: this rank's shard of the dump of `round` is sealed, whose hash is `hash`; wakes the loop.
 */
void features_out_sealed(struct features_out *f, uint32_t round, uint64_t hash);

/* Training thread: path of this rank's shard of a round's dump. */
int features_out_dir(const struct trainer *t, uint32_t round, char out[4096], struct err *e) WARN_UNUSED;
/* The clips of the set, in clip order, that this rank extracts: those from place `first` on, `n` of them; and
 * the rows of its shard, which hold them. */
struct features_share {
    uint64_t first, n;
    uint64_t first_row, rows;
};
struct features_share features_out_share(const struct trainer *t);
/* Writes the heads with which the round's labels are made; *out_hash is XXH3 of the file. */
int features_out_heads(const struct trainer *t, struct net *net, uint32_t round, uint64_t *out_hash,
                       struct err *e) WARN_UNUSED;
/* Begins this rank's shard of the dump of a round, or goes on with it: of both encoders, for each pass of the
 * method. `heads`: of features_out_heads, whose file rank 0's shard takes along; 0: none. -ENOSPC, naming the
 * free space, below limits.disk_reserve_mib, which the writing leaves free too. */
int features_out_create(struct trainer *t, uint32_t round, uint64_t weights, uint64_t heads,
                        const uint32_t dims[NET_ENCODERS], struct feature_store **out,
                        struct err *e) WARN_UNUSED;
