/* leases_out: the trainer's end of the edge leases: which decoder may make which sample. Grants within the
 * slots that each decoder announces; grants again what a silent or forgetful decoder held; grants a second
 * time what holds up the oldest batch for much longer than clips take (a hedge): the first answer counts.
 * Clips of one video that follow one another go out in one grant. Loop thread only. */
#pragma once
#include <stdint.h>
#include "lib/manifest.h"
#include "lib/wire.h"
#include "services/trainer/batcher.h"

#define LEASES_DECODERS_MAX 1024
#define LEASES_SILENCE_S 3.0 /* a decoder not heard for so long has lost its leases */
#define LEASES_GRACE_S 2.0   /* a lease younger than this may be missing from a heartbeat */
#define LEASES_TIMES 512     /* durations that the 99th percentile is of */
#define LEASES_LATE_MAX 256
#define LEASES_GROUP_BYTES (UINT64_C(64) << 20) /* of the samples of one grant */

struct trainer;

struct lease_decoder {
    char name[64];
    struct wire_peer peer;
    uint32_t slots, leased;
    double heard_s;
    bool alive;
};

/* A lease whose position another one has filled: its slot is taken until the decoder lets go of it. */
struct late_lease {
    uint32_t decoder, stream, attempt;
    uint64_t position;
    double granted_s;
};

struct leases_out {
    struct trainer *trainer;
    struct lease_decoder decoders[LEASES_DECODERS_MAX];
    uint32_t n;
    uint64_t golden;             /* of the first decoder; others must agree */
    struct manifest_video video; /* scratch: too large for the stack */
    float times_s[LEASES_TIMES]; /* from grant to answer, the newest ones in a ring */
    uint64_t timed;
    struct late_lease late[LEASES_LATE_MAX];
    uint32_t n_late;
    uint64_t granted, regranted, refused, lost_decoders, hedged;
};

void leases_out_init(struct leases_out *l, struct trainer *t);
/* Envelopes of the clips socket that are not samples. */
void leases_out_message(struct leases_out *l, const struct wire_peer *from, const Xdc__Envelope *env);
/* Grants what can be granted now. */
void leases_out_pump(struct leases_out *l);
/* Every 250 ms: takes leases back from decoders that fell silent, and hedges. */
void leases_out_tick(struct leases_out *l);
/* An answer to a lease came: its decoder has a slot again. timed: it was no refusal. */
void leases_out_settled(struct leases_out *l, const struct slot_lease *lease, bool timed);
/* The position is about to be completed: leases of it that still live are late from now on. */
void leases_out_abandon(struct leases_out *l, struct slot_ref ref, const struct batch_slot *slot);
/* An answer that no live lease fits: the double of one that was hedged, or nothing. */
void leases_out_late(struct leases_out *l, const Xdc__LeaseKey *key);
/* False for a clip that its video is too short to have (data.clip_times: windows). */
bool leases_out_has_clip(struct leases_out *l, uint64_t clip);
/* Tells all decoders that the run has ended. */
void leases_out_finish(struct leases_out *l);
