/* feature_store_impl: what the two halves of feature_store share: feature_store.c reads, feature_writer.c
 * writes. For them alone. */
#pragma once
#include <xxhash.h>
#include "lib/feature_progress.h"
#include "lib/feature_record.h"
#include "lib/feature_store.h"
#include "lib/store.h"
#include "lib/store_file.h"

/* Of an encoder while reading. */
struct feature_reader {
    unsigned rows_db, valid_db;
    uint8_t *valid; /* owned: the bitmap of all rows in whole blocks */
};

struct feature_writer;

struct feature_store {
    struct feature_info info;
    char *dir; /* owned */
    bool sealed;
    /* reading: */
    struct store store;
    struct feature_record record;
    struct feature_reader reader[FEATURE_ENCODERS_MAX];
    /* writing: */
    struct feature_writer *writer; /* owned */
};

/* The last block has only the rows that there are. */
uint64_t feature_block_rows(const struct feature_info *info, uint64_t block);
bool feature_in_shard(const struct feature_info *info, uint64_t row);
uint64_t feature_count_bits(const uint8_t *bits, uint64_t bytes);
/* Adds a stored block to the hash of its encoder. */
void feature_hash_block(XXH3_state_t *hash, uint64_t block, const uint8_t *bits, const void *values,
                        size_t bytes);

/* NULL is fine. */
void feature_writer_close(struct feature_writer *w);
