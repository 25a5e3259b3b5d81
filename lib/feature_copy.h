/* feature_copy: a block of a sealed dump as it travels, and a replica made of such blocks, which is a dump
 * that feature_store writes. Used by trainer/features_serve (reads) and clusterer/features_pull (writes).
 * Blocking; one thread at a time per handle. A replica is written as <dir>.tmp, where an interrupted one goes
 * on as any dump does, and gets its name only when it is what the record names, bit for bit. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/feature_store.h"

/* values NULL: a block without any row. */
struct feature_raw {
    const uint8_t *present; /* [FEATURE_BITMAP_BYTES] */
    const void *values;     /* [rows, dim] of the dump's dtype */
    size_t size;            /* bytes of values */
};

/* XXH3 of the values, its seed that of the bitmap, whose seed is the index; 0 for a block without any row. */
uint64_t feature_raw_check(uint64_t index, const struct feature_raw *b);
/* A block of a dump that is open for reading; a loan until the dump is closed. -EINVAL: no such encoder or
 * block; XDC_EFORMAT: it is not as its bitmap says. */
int feature_raw_read(const struct feature_store *s, uint32_t encoder, uint64_t block, struct feature_raw *out,
                     struct err *e) WARN_UNUSED;

struct feature_replica;

/* Goes on with <dir>.tmp if it is of this record, else begins it. What is there is read and hashed: blocking
 * for as long as that takes. XDC_EFORMAT: no record; -EEXIST: <dir> is there. */
int feature_replica_open(const char *dir, const struct feature_record *record, struct feature_replica **out,
                         struct err *e) WARN_UNUSED;
/* NULL is fine; what was put stays in <dir>.tmp. */
void feature_replica_close(struct feature_replica *r);
/* The block that is wanted next: encoder by encoder, ascending. False: none is missing. */
bool feature_replica_next(const struct feature_replica *r, uint32_t *encoder, uint64_t *block);
/* Blocks that were there when it was opened, and all that are there. */
uint64_t feature_replica_found(const struct feature_replica *r);
uint64_t feature_replica_done(const struct feature_replica *r);
/* Puts the block that is wanted next. XDC_EFORMAT: another one, not of its size, or with a bitmap that does
 * not fit, and nothing is changed; other failures are those of feature_store_put_block. */
int feature_replica_put(struct feature_replica *r, uint32_t encoder, uint64_t block,
                        const struct feature_raw *b, struct err *e) WARN_UNUSED;
/* Seals and renames to <dir>, once all is held against the record. XDC_EFORMAT: it is not what was sealed, or
 * not whole; <dir>.tmp is then removed. The handle can only be closed. */
int feature_replica_seal(struct feature_replica *r, struct err *e) WARN_UNUSED;
