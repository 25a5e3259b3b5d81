/* feature_copy: a sealed shard of a dump as it is stored, read block by block, and a replica made of such
 * blocks. Used by trainer/features_serve (reads) and clusterer/features_pull (writes). Blocking; one thread
 * at a time per handle. A replica is written as <dir>.tmp and goes on from the blocks that are there after
 * its writer was killed; after the system has been started anew it begins from nothing, since nothing is
 * synced before the seal. A replica gets its name only when it is what the record names, bit for bit. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/feature_store.h"

#define FEATURE_RAW_BITMAP (FEATURE_BLOCK_ROWS / 8)
#define FEATURE_RECORD_MAX 4096

/* A loan until the next call. values NULL: a block without any row. */
struct feature_raw {
    const uint8_t *present; /* [FEATURE_RAW_BITMAP] */
    const void *values;
    size_t size;
};

/* XXH3 of the values, its seed that of the bitmap, whose seed is the index; 0 for a block without any row. */
uint64_t feature_raw_check(uint64_t index, const struct feature_raw *b);
uint64_t feature_copy_blocks(const struct feature_info *info);
/* Bytes of the values of a stored block. */
size_t feature_copy_block_bytes(const struct feature_info *info, uint32_t encoder, uint64_t block);
/* Bytes of all that may be stored. */
uint64_t feature_copy_size(const struct feature_info *info);

struct feature_origin;

/* Opens a sealed shard; as feature_store_open, but no bitmap is read. */
int feature_origin_open(const char *dir, struct feature_origin **out, struct err *e) WARN_UNUSED;
void feature_origin_close(struct feature_origin *o);
const struct feature_info *feature_origin_info(const struct feature_origin *o);
/* Whether its directory still holds this shard: another process may have replaced it. */
bool feature_origin_is_current(const struct feature_origin *o);
/* The record's bytes, a loan until close. */
const void *feature_origin_record(const struct feature_origin *o, size_t *out_size);
/* -EINVAL: no such encoder or block; XDC_EFORMAT: it does not have the size it must have. */
int feature_origin_block(const struct feature_origin *o, uint32_t encoder, uint64_t block,
                         struct feature_raw *out, struct err *e) WARN_UNUSED;

struct feature_replica;

/* Goes on with <dir>.tmp if it is of this record, else begins it. What is there is read and hashed: blocking
 * for as long as that takes. XDC_EFORMAT: no record; -EEXIST: <dir> is there. */
int feature_replica_open(const char *dir, const void *record, size_t size, struct feature_replica **out,
                         struct err *e) WARN_UNUSED;
/* NULL is fine; what was put stays in <dir>.tmp. */
void feature_replica_close(struct feature_replica *r);
const struct feature_info *feature_replica_info(const struct feature_replica *r);
/* The block that is wanted next: encoder by encoder, ascending. False: none is missing. */
bool feature_replica_next(const struct feature_replica *r, uint32_t *encoder, uint64_t *block);
/* Blocks that were there when it was opened, and all that are there. */
uint64_t feature_replica_found(const struct feature_replica *r);
uint64_t feature_replica_done(const struct feature_replica *r);
/* Puts the block that is wanted next. XDC_EFORMAT: another one, or not of its size, and nothing is changed;
 * other failures end the writing. */
int feature_replica_put(struct feature_replica *r, uint32_t encoder, uint64_t block,
                        const struct feature_raw *b, struct err *e) WARN_UNUSED;
/* Holds all against the record's hashes, seals, syncs, renames to <dir>. XDC_EFORMAT: they are not those that
 * were sealed; <dir>.tmp is then removed. The handle can only be closed. */
int feature_replica_seal(struct feature_replica *r, struct err *e) WARN_UNUSED;
