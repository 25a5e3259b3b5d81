/* feature_record: what a sealed dump says of itself, as the bytes under key 0 of its database "meta"
 * (docs/formats.md), and what an unsealed one is begun with. Used by feature_store, and by the ends of the
 * edge features, over which it travels. Pure; any thread; owns nothing. `dir` names the dump in sentences. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "lib/feature_store.h"

struct feature_record_encoder {
    char name[32];
    uint32_t dim;
    uint32_t zero;
    uint64_t valid;
    uint64_t hash; /* XXH3 over the stored blocks: index u64, bitmap, values */
};
_Static_assert(sizeof(struct feature_record_encoder) == 56, "no padding");

struct feature_record {
    char magic[8];
    uint32_t version;
    uint32_t block_rows;
    uint64_t manifest, run, weights, heads, rows, first, total;
    uint32_t round, rank, ranks, dtype;
    uint32_t encoders;
    uint32_t zero;
    struct feature_record_encoder encoder[FEATURE_ENCODERS_MAX];
    uint64_t hash; /* XXH3 of all before it */
};
_Static_assert(sizeof(struct feature_record) == 96 + 32 * 56 + 8, "no padding");

/* Bounds of what a caller and a file may say; 0 or `code`. */
int feature_info_check(const char *dir, const struct feature_info *info, int code, struct err *e) WARN_UNUSED;

/* `hashes` are the encoders'. */
void feature_record_fill(const struct feature_info *info, const uint64_t hashes[], struct feature_record *r);

/* 0, or XDC_EFORMAT: no record of this version, altered, or out of bounds. */
int feature_record_parse(const char *dir, const void *data, size_t size, struct feature_info *out,
                         struct err *e) WARN_UNUSED;
