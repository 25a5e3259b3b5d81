/* leases_out: the trainer's end of the edge leases: which decoder may make which sample. Grants within the
 * slots that each decoder announces; grants again what a silent or forgetful decoder held. Loop thread only.
 */
#pragma once
#include <stdint.h>
#include "lib/manifest.h"
#include "lib/wire.h"
#include "services/trainer/batcher.h"

#define LEASES_DECODERS_MAX 1024
#define LEASES_SILENCE_S 3.0 /* a decoder not heard for so long has lost its leases */
#define LEASES_GRACE_S 2.0   /* a lease younger than this may be missing from a heartbeat */

struct trainer;

struct lease_decoder {
    char name[64];
    struct wire_peer peer;
    uint32_t slots, leased;
    double heard_s;
    bool alive;
};

struct leases_out {
    struct trainer *trainer;
    struct lease_decoder decoders[LEASES_DECODERS_MAX];
    uint32_t n;
    uint64_t golden;             /* of the first decoder; others must agree */
    struct manifest_video video; /* scratch: too large for the stack */
    uint64_t granted, regranted, refused, lost_decoders;
};

void leases_out_init(struct leases_out *l, struct trainer *t);
/* Envelopes of the clips socket that are not samples. */
void leases_out_message(struct leases_out *l, const struct wire_peer *from, const Xdc__Envelope *env);
/* Grants what can be granted now. */
void leases_out_pump(struct leases_out *l);
/* Every 250 ms: takes leases back from decoders that fell silent. */
void leases_out_tick(struct leases_out *l);
/* A sample came for a slot leased to `decoder`. */
void leases_out_settled(struct leases_out *l, uint32_t decoder);
/* Tells all decoders that the run has ended. */
void leases_out_finish(struct leases_out *l);
