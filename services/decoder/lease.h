/* lease: one permission of a trainer for one sample, from the grant to the moment its answer is on the wire.
 * Used by leases_in (makes it), pool (works on it) and samples_out (answers it). Loop thread; pure data and
 * two functions. The pool owns every lease in its list of held ones. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "leases.pb-c.h"
#include "lib/media/media.h"

/* The same fields as LeaseKey in leases.proto. */
struct lease_key {
    uint64_t incarnation;
    uint32_t phase, round, epoch, stream;
    uint64_t position, clip;
    uint32_t attempt;
};

enum lease_state {
    LEASE_QUEUED,   /* waits for a worker */
    LEASE_RUNNING,  /* a worker has it */
    LEASE_ANSWERED, /* its answer waits for the socket */
};

struct worker;

struct lease {
    struct lease_key key;
    unsigned link; /* the trainer rank it came from */
    uint64_t size_bytes;
    int32_t video_stream, audio_stream; /* -1: the best one */
    double duration_s;
    struct media_clip clip;
    struct media_recipe recipe;
    char *uri;      /* owned */
    uint64_t group; /* leases of one grant, which share a job, have the same; 0: none */

    enum lease_state state;
    bool superseded;       /* of an older incarnation or phase: dropped without an answer */
    bool lost;             /* the answer: given up, no fault of the file */
    unsigned failures;     /* workers that died on it */
    struct worker *worker; /* whose slot holds the sample; NULL while queued and for answers without bytes */
    struct media_result result; /* the answer */
    struct lease *prev, *next;
};

/* Copies a grant: a lease for each of its clips, *out_n of them, in out[0..]. XDC_EFORMAT when it has no uri,
 * recipe or clip, a clip without a key, or sizes beyond any slot; then there is none. */
int lease_from_grant(const Xdc__LeaseGrant *grant, unsigned link, uint64_t group,
                     struct lease *out[MEDIA_CLIPS_MAX], unsigned *out_n, struct err *e) WARN_UNUSED;
/* NULL is fine. */
void lease_destroy(struct lease *l);
bool lease_key_equal(const struct lease_key *a, const struct lease_key *b);
/* Fills a message for sending; it owns nothing. */
void lease_key_to_message(const struct lease_key *k, Xdc__LeaseKey *out);
