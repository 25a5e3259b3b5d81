/* train_dump: this rank's shard of a round's dump while it is extracted: begun or gone on with, written
 * beside the extraction, sealed. Used by train_extract. Training thread. Owns the writer. Waits, and says so,
 * where the disk is full. */
#pragma once
#include "services/trainer/dump_writer.h"
#include "services/trainer/train_loop.h"

struct train_dump {
    struct train_loop *l;
    struct dump_writer *writer; /* owned; NULL: not begun */
    uint32_t dims[NET_ENCODERS], encoders;
    enum feature_dtype dtype;
    uint64_t missing[FEATURE_ENCODERS_MAX]; /* the first clip that an encoder of the dump may lack, */
    uint64_t there[FEATURE_ENCODERS_MAX];   /* and rows before it, as an earlier process left them */
    uint64_t from, kept;                    /* of the pass: clips before are in the dump, so many with rows */
    bool slow;                              /* it was said that the disk is what limits the extraction */
};

/* Begins the shard, or goes on with that of an earlier process: its quarantined clips are in the quarantine
 * then. XDC_ESTOPPED while it waits for room. */
int train_dump_begin(struct train_dump *d, struct train_loop *l, uint64_t weights, uint64_t heads,
                     const uint32_t dims[NET_ENCODERS], struct err *e) WARN_UNUSED;
/* Sets `from` and `kept` to those of a pass. */
void train_dump_enter(struct train_dump *d, uint32_t pass);
/* What a batch has brought into the quarantine; before its rows. */
int train_dump_note(struct train_dump *d, const struct batch_stream *s, uint32_t n,
                    struct err *e) WARN_UNUSED;
/* encoder: of the dump. */
int train_dump_put(struct train_dump *d, uint32_t encoder, uint64_t clip, const float *row,
                   struct err *e) WARN_UNUSED;
int train_dump_seal(struct train_dump *d, uint64_t *out_hash, struct err *e) WARN_UNUSED;
/* After the seal: adds the rows of the earlier process to an encoder's range, of all passes. */
int train_dump_add_kept(const struct train_dump *d, enum net_encoder enc, struct health_range *r,
                        struct err *e) WARN_UNUSED;
/* Safe on a zeroed one. */
void train_dump_close(struct train_dump *d);
