/* feature_dump: the shards of a round's features, one of each trainer rank, as one dump. Used by clusterer
 * and command (readers); the trainer computes the hash. Blocking; one thread at a time per handle. Owns the
 * shards' handles. Rows = clip ids, in [0, total). Sentences name the shard that is wrong. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/feature_store.h"

struct feature_dump;

/* Opens all shards of `round_dir` (.../features/round-0003), as many as rank 0 was sealed with. -ENOENT when
 * one of them is not sealed yet; XDC_EMISMATCH when they are not of one run, manifest, round, weights, ranks,
 * dtype, encoders, total, or not in their place; XDC_EFORMAT when their rows do not follow one another over
 * [0, total), or as feature_store_open. */
int feature_dump_open(const char *round_dir, struct feature_dump **out, struct err *e) WARN_UNUSED;
void feature_dump_close(struct feature_dump *d);

/* Of the whole: first 0, rows == total, rank 0, ranks = shards, valid summed, hash of the dump. */
const struct feature_info *feature_dump_info(const struct feature_dump *d);
bool feature_dump_has(const struct feature_dump *d, uint32_t encoder, uint64_t row);
/* Rows [first, first + n) as f32 [n, dim], of any number of shards; absent rows are zero. */
int feature_dump_read(struct feature_dump *d, uint32_t encoder, uint64_t first, uint64_t n, float *out,
                      struct err *e) WARN_UNUSED;
/* The block of its shard that holds row `row`, as it is stored: a loan until the dump is closed. */
int feature_dump_block(const struct feature_dump *d, uint32_t encoder, uint64_t row,
                       struct feature_block *out, struct err *e) WARN_UNUSED;
/* feature_store_verify of every shard. */
int feature_dump_verify(struct feature_dump *d, struct err *e) WARN_UNUSED;

/* Of one shard its own hash, else XXH3 over the shards' hashes in the order of ranks, each a little-endian
 * u64. */
uint64_t feature_dump_hash(const uint64_t *hashes, uint32_t ranks);

/* A number that changes when a shard of `round_dir` is sealed, replaced or removed; the shards are not
 * opened. Those behind the first missing one do not count. -ENOENT when there is no rank 0. */
int feature_dump_mark(const char *round_dir, uint64_t *out_mark) WARN_UNUSED;
