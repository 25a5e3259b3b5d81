/* features_serve: sends sealed shards of this rank to clusterers that have no share in the run's directory:
 * blocks and files by name, as they are stored. Used by features_out. Loop thread only: one block or piece in
 * a turn of the loop. What is in flight to a peer is bounded by its request, and a peer has one. Owns the
 * handle of the shard that was asked for last. What is asked for and not there is refused by name. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "lib/feature_copy.h"
#include "lib/wire.h"

#define FEATURES_SERVE_PEERS 8
/* Bytes of blocks that one request may ask for; one block always. */
#define FEATURES_WINDOW_BYTES ((uint64_t)8 << 20)
#define FEATURES_WINDOW_BLOCKS 64

struct trainer;

/* What a peer still gets. */
struct features_wanted {
    struct wire_peer peer;
    uint32_t round, encoder, left; /* left: blocks or pieces; 0: nothing */
    uint64_t shard, next;          /* block, or byte of a file */
    Xdc__DumpPart part;
};

struct features_serve {
    struct trainer *trainer;
    struct wire *wire; /* a loan */
    uv_idle_t turn;
    bool turn_open;
    struct feature_store *origin; /* owned; NULL: none */
    double used_s;                /* when the origin was last read */
    struct features_wanted wanted[FEATURES_SERVE_PEERS];
    uint32_t at;    /* whose turn it is */
    uint8_t *piece; /* owned: of files */
    uint64_t blocks, bytes, refused;
};

int features_serve_open(struct features_serve *s, struct trainer *t, struct wire *wire,
                        struct err *e) WARN_UNUSED;
void features_serve_close(struct features_serve *s);
/* The record of this rank's sealed shard of `round`; NULL where there is none. A loan until the next call. */
const void *features_serve_record(struct features_serve *s, uint32_t round, uint64_t *out_shard,
                                  size_t *out_size);
/* A peer's request takes the place of the one before. */
void features_serve_request(struct features_serve *s, const struct wire_peer *from,
                            const Xdc__DumpRequest *r);
/* Every few seconds: closes what nobody has read for a while, tries again what could not be sent. */
void features_serve_tick(struct features_serve *s);
