/* draw: which clip stands at a position of a phase's order. Used by the batcher (loop thread), made by the
 * training thread. Read-only while a plan uses it. Owns the cluster lists of balance: resample. */
#pragma once
#include "lib/clip.h"
#include "services/trainer/targets.h"

enum draw_kind {
    DRAW_CLIP_ORDER, /* the clips of the set in the order of their ids */
    DRAW_SHUFFLED,   /* consecutive slices of one keyed order after another */
    DRAW_LISTED,     /* given clips, in their order */
    DRAW_RESAMPLED,  /* uniform over the clusters of one target, then over the cluster's clips */
};

struct draw {
    enum draw_kind kind;
    const struct clip_set *set;
    uint64_t seed;
    const char *purpose; /* of the key: "train", "stats", ... */
    uint32_t round, stream;
    uint64_t offset; /* added to every position: epochs and shards are slices of one order */
    struct clip_order order;
    uint64_t order_pass; /* which pass `order` is of */
    const uint64_t *listed;
    uint32_t clusters; /* non-empty */
    uint64_t *first;   /* owned; [clusters + 1] into members */
    uint32_t *members; /* owned; clip ids by cluster */
};

void draw_init_clip_order(struct draw *d, const struct clip_set *set, uint64_t offset);
/* The list stays the caller's. */
void draw_init_listed(struct draw *d, const uint64_t *clips);
void draw_init_shuffled(struct draw *d, const struct clip_set *set, uint64_t seed, const char *purpose,
                        uint32_t round, uint32_t stream, uint64_t offset);
/* Draws by the first head of `enc`. Takes 4 bytes a clip. */
int draw_init_resampled(struct draw *d, const struct clip_set *set, uint64_t seed, uint32_t round,
                        uint64_t offset, const struct targets *t, enum net_encoder enc,
                        struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void draw_close(struct draw *d);
uint64_t draw_at(struct draw *d, uint64_t position);
