/* feature_store: the features of one round and rank, in LMDB: one named database per encoder, blocks of 1024
 * rows. Used by trainer/features_out (writer), feature_dump, which reads the shards of all ranks as one, and
 * feature_copy, which makes replicas. One thread at a time per handle. Written as <dir>.tmp, where an
 * interrupted writer goes on; sealed, synced, renamed; never modified after. Rows in clip order: row = clip
 * id, in [first, first + rows); absent rows are zero and in place, a bitmap per encoder says which rows are
 * there. Layout: docs/formats.md. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

#define FEATURE_BLOCK_ROWS 1024
#define FEATURE_BITMAP_BYTES (FEATURE_BLOCK_ROWS / 8)
#define FEATURE_ENCODERS_MAX 32
#define FEATURE_RANKS_MAX 1024

enum feature_dtype { FEATURE_F32 = 1, FEATURE_F16 = 2, FEATURE_BF16 = 3 };

struct feature_encoder {
    char name[32];
    uint32_t dim;
    uint64_t valid; /* rows present; filled on seal */
};

struct feature_info {
    uint64_t manifest; /* identity */
    uint64_t run;      /* identity of the run */
    uint64_t weights;  /* hash of the weights that made the features */
    uint64_t heads;    /* XXH3 of rank 0's heads.safetensors beside it, 0: none */
    uint64_t rows;     /* clips of this shard, present or not */
    uint64_t first;    /* clip id of its first row */
    uint64_t total;    /* rows of all shards together: the run's clips */
    uint32_t round, rank, ranks;
    enum feature_dtype dtype;
    uint32_t encoders;
    struct feature_encoder encoder[FEATURE_ENCODERS_MAX];
    uint64_t hash; /* XXH3 over all blocks and bitmaps and the fields above; filled on seal */
};

struct feature_store;
struct feature_record;

/* Why a row is absent: kept with an unsealed dump for the writer that goes on with it. */
struct feature_note {
    uint64_t row;
    uint32_t reason; /* the caller's */
};

/* A stored block: a loan until the handle is closed. */
struct feature_block {
    const void *values;   /* [rows, dim] of `dtype`; NULL: no row is there */
    const uint8_t *valid; /* bit i % 8 of byte i / 8: row first + i is there */
    uint64_t first, rows;
    uint32_t dim;
    enum feature_dtype dtype;
};

/* Writing. */

/* Begins a dump at <dir>.tmp, or goes on with an unfinished one of the same `info`: what it has of whole
 * blocks is read and compared with the hashes that were kept with it; from the first that is not as it was
 * on, all is dropped. One that is of anything else is replaced. -EEXIST when <dir> is there; -EINVAL when
 * `info` makes no dump: rank >= ranks, or rows outside of [0, total). */
int feature_store_create(const char *dir, const struct feature_info *info, struct feature_store **out,
                         struct err *e) WARN_UNUSED;
/* As create, for a copy of the sealed dump that `record` is of: an unfinished copy of any other, or a dump
 * that was begun with the same fields, is replaced, and sealing gives exactly this record or XDC_EFORMAT. Its
 * feature_store_info counts no rows and has no hash before that. XDC_EFORMAT: no such record. */
int feature_store_create_copy(const char *dir, const struct feature_record *record,
                              struct feature_store **out, struct err *e) WARN_UNUSED;
/* Free MiB that writing leaves in the file system; 0 after create. */
void feature_store_reserve(struct feature_store *s, uint64_t mib);
/* The first row that an encoder may lack: those before it are in the dump, as far as they will ever be. */
uint64_t feature_store_missing(const struct feature_store *s, uint32_t encoder);
/* The notes of the writer before; a loan. Some may be of rows from `missing` on. */
uint64_t feature_store_notes(const struct feature_store *s, const struct feature_note **out);
/* Puts row `row` of encoder `encoder`: f32 [dim], converted to the dump's dtype. Rows of one encoder ascend
 * strictly; those before feature_store_missing are passed over. A full block is written at the next call, and
 * is then found again if the process ends; every few seconds all is synced, and then survives the system's
 * end. -EINVAL (no such row or encoder, or out of order), -ERANGE (a value that is not finite in the dump's
 * dtype) and -ENOSPC (no room beside the reserve) leave the dump as it was: after -ENOSPC the same call may
 * be made again. */
int feature_store_put(struct feature_store *s, uint32_t encoder, uint64_t row, const float *values,
                      struct err *e) WARN_UNUSED;
/* Puts the rows of a whole block as they are stored, in place of feature_store_put of each: `present` is its
 * bitmap [FEATURE_BITMAP_BYTES], `values` [rows, dim] of the dump's dtype, feature_block_bytes long, absent
 * rows zero; both are copied and the values not looked at. Blocks of one encoder ascend, those without any
 * row are left out, those before feature_store_missing passed over. The block is written now, or, while there
 * is no room for it, at the next call. Failures are those of put, -ENOSPC where the block before still has no
 * room, and XDC_EFORMAT: the bitmap is empty or names rows beyond the last. */
int feature_store_put_block(struct feature_store *s, uint32_t encoder, uint64_t block, const uint8_t *present,
                            const void *values, struct err *e) WARN_UNUSED;
/* Keeps a note, as durable as the rows that are put after it. -ENOSPC as put. */
int feature_store_note(struct feature_store *s, uint64_t row, uint32_t reason, struct err *e) WARN_UNUSED;
/* Fills up to `rows`, hashes, syncs, renames to <dir>. The handle can then only be closed. -ENOSPC as put;
 * XDC_EFORMAT: a copy is not what was sealed, and <dir>.tmp stays. */
int feature_store_seal(struct feature_store *s, uint64_t *out_hash, struct err *e) WARN_UNUSED;

/* Reading. */

/* Opens a sealed dump read-only. -ENOENT when there is none (an unsealed one counts as none); XDC_EFORMAT
 * when its structure is cut or altered (altered values are found by verify). */
int feature_store_open(const char *dir, struct feature_store **out, struct err *e) WARN_UNUSED;
/* NULL is fine; an unsealed writer leaves <dir>.tmp for the next create, without the blocks that were not
 * full. */
void feature_store_close(struct feature_store *s);

const struct feature_info *feature_store_info(const struct feature_store *s);
/* The record of a dump that is open for reading (docs/formats.md); a loan until close. */
const struct feature_record *feature_store_record(const struct feature_store *s);
/* Whether the directory still holds this dump: another process may have removed or replaced it. */
bool feature_store_is_current(const struct feature_store *s);
bool feature_store_has(const struct feature_store *s, uint32_t encoder, uint64_t row);
/* Rows [first, first + n) as f32 [n, dim]; absent rows are zero. */
int feature_store_read(struct feature_store *s, uint32_t encoder, uint64_t first, uint64_t n, float *out,
                       struct err *e) WARN_UNUSED;
/* The block that holds row `row`, as it is stored, without a copy. */
int feature_store_block(const struct feature_store *s, uint32_t encoder, uint64_t row,
                        struct feature_block *out, struct err *e) WARN_UNUSED;
/* Recomputes the hash over everything stored; XDC_EFORMAT when it is not the sealed one. */
int feature_store_verify(struct feature_store *s, struct err *e) WARN_UNUSED;

uint64_t feature_block_count(const struct feature_info *info);
/* Bytes of the values of a block; the last one has only the rows that there are. */
size_t feature_block_bytes(const struct feature_info *info, uint32_t encoder, uint64_t block);
size_t feature_value_bytes(enum feature_dtype dtype);
/* n stored values as f32; exact. */
void feature_values_to_float(enum feature_dtype dtype, const void *in, float *out, size_t n);
