/* ledger: what became of every drawn position, appended where a batch enters the net; one file per epoch.
 * Used by the trainer (writer), `xdc explain` (reader) and checkers. One thread. Owns the descriptor. Fixed
 * 48-byte little-endian records, so that a reader in any language is ten lines (docs/formats.md). */
#pragma once
#include <stdint.h>
#include "lib/err.h"

enum ledger_disposition {
    LEDGER_TRAINED = 1,
    LEDGER_QUARANTINED = 2,
    LEDGER_UNLABELLED = 3,
    LEDGER_HELD_OUT = 4,
    LEDGER_UNSTABLE = 5 /* of a batch on which no step could be made */
};

struct ledger_record {
    uint64_t step;
    uint64_t position;
    uint64_t clip;
    uint64_t labels; /* hash of the label table in force */
    uint64_t sample; /* XXH3 of the sample's bytes, 0 without one */
    uint32_t stream;
    uint32_t disposition; /* enum ledger_disposition */
};

struct ledger;

/* Where an open ledger stands: what a checkpoint stores. */
struct ledger_mark {
    uint32_t epoch; /* counted over the whole run */
    uint64_t size_bytes;
    uint64_t hash; /* running hash of all records of all epochs so far */
};

/* Opens <dir>/epoch-NNNNNN.led of mark->epoch, cut back to mark->size_bytes; removes later epochs' files. A
 * file shorter than the mark is XDC_EFORMAT. */
int ledger_open(const char *dir, const struct ledger_mark *mark, struct ledger **out,
                struct err *e) WARN_UNUSED;
/* Appends n records with one write. */
int ledger_append(struct ledger *l, const struct ledger_record *records, size_t n, struct err *e) WARN_UNUSED;
/* Syncs this epoch's file and starts the next one's. */
int ledger_next_epoch(struct ledger *l, struct err *e) WARN_UNUSED;
/* Syncs and says where it stands. */
int ledger_sync(struct ledger *l, struct ledger_mark *out, struct err *e) WARN_UNUSED;
/* Gives the records of one epoch's file to `on_record`, in order; the bytes of an unfinished one at the end
 * are left out. *hash is the running hash before them, then behind them; NULL: not wanted. -ENOENT, or
 * another errno code. */
typedef void (*ledger_on_record)(void *arg, const struct ledger_record *r);
int ledger_read(const char *path, ledger_on_record on_record, void *arg, uint64_t *hash,
                struct err *e) WARN_UNUSED;
/* NULL is fine. */
void ledger_close(struct ledger *l);
