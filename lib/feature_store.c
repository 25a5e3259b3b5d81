/* The reading half of feature_store. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "lib/feature_record.h"
#include "lib/feature_store_impl.h"
#include "lib/fsutil.h"
#include "lib/half.h"

size_t feature_value_bytes(enum feature_dtype dtype)
{
    return dtype == FEATURE_F32 ? 4 : 2;
}

void feature_values_to_float(enum feature_dtype dtype, const void *in, float *out, size_t n)
{
    if (dtype == FEATURE_F16)
        half_to_float(in, out, n);
    else if (dtype == FEATURE_BF16)
        bfloat_to_float(in, out, n);
    else
        memcpy(out, in, n * sizeof *out);
}

uint64_t feature_block_count(const struct feature_info *info)
{
    return (info->rows + FEATURE_BLOCK_ROWS - 1) / FEATURE_BLOCK_ROWS;
}

uint64_t feature_block_rows(const struct feature_info *info, uint64_t block)
{
    uint64_t left = info->rows - block * FEATURE_BLOCK_ROWS;
    return left < FEATURE_BLOCK_ROWS ? left : FEATURE_BLOCK_ROWS;
}

size_t feature_block_bytes(const struct feature_info *info, uint32_t encoder, uint64_t block)
{
    return feature_block_rows(info, block) * info->encoder[encoder].dim * feature_value_bytes(info->dtype);
}

bool feature_in_shard(const struct feature_info *info, uint64_t row)
{
    return row >= info->first && row - info->first < info->rows;
}

static bool bit(const uint8_t *bits, uint64_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

uint64_t feature_count_bits(const uint8_t *bits, uint64_t bytes)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < bytes; i++)
        sum += (uint64_t)__builtin_popcount(bits[i]);
    return sum;
}

void feature_hash_block(XXH3_state_t *hash, uint64_t block, const uint8_t *bits, const void *values,
                        size_t bytes)
{
    XXH3_64bits_update(hash, &block, sizeof block);
    XXH3_64bits_update(hash, bits, FEATURE_BITMAP_BYTES);
    XXH3_64bits_update(hash, values, bytes);
}

static int open_databases(struct feature_store *s, struct err *e)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < s->info.encoders; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s/valid", s->info.encoder[i].name);
        rc = store_db(&s->store, s->info.encoder[i].name, false, &s->reader[i].rows_db, e);
        if (rc == 0)
            rc = store_db(&s->store, name, false, &s->reader[i].valid_db, e);
    }
    return rc;
}

/* The bitmap of all rows, from those of the stored blocks; the count must be the sealed one. */
static int read_bitmaps(struct feature_store *s, uint32_t encoder, struct err *e)
{
    struct feature_reader *r = &s->reader[encoder];
    const struct feature_encoder *info = &s->info.encoder[encoder];
    uint64_t blocks = feature_block_count(&s->info), keys, found = 0;
    r->valid = calloc(blocks + 1, FEATURE_BITMAP_BYTES);
    if (!r->valid)
        return err_sys(e, ENOMEM, "open %s", s->dir);
    int rc = store_count(&s->store, r->valid_db, &keys, e);
    for (uint64_t b = 0; rc == 0 && b < blocks; b++) {
        const void *bits;
        size_t size;
        rc = store_get(&s->store, r->valid_db, b, &bits, &size, e);
        if (rc == -ENOENT) {
            rc = 0;
            continue;
        }
        if (rc == 0 && size != FEATURE_BITMAP_BYTES)
            rc = err_set(e, XDC_EFORMAT, "%s: bitmap %llu of %s has %zu bytes", s->dir, (unsigned long long)b,
                         info->name, size);
        if (rc == 0)
            memcpy(r->valid + b * FEATURE_BITMAP_BYTES, bits, FEATURE_BITMAP_BYTES);
        found++;
    }
    if (rc < 0)
        return rc;
    uint64_t valid = feature_count_bits(r->valid, blocks * FEATURE_BITMAP_BYTES), beyond = 0;
    for (uint64_t row = s->info.rows; row < blocks * FEATURE_BLOCK_ROWS; row++)
        beyond += bit(r->valid, row);
    if (valid != info->valid || beyond || keys != found)
        return err_set(e, XDC_EFORMAT, "%s: the bitmaps of %s count %llu rows, sealed with %llu", s->dir,
                       info->name, (unsigned long long)valid, (unsigned long long)info->valid);
    return 0;
}

static int read_record(struct feature_store *s, unsigned meta_db, struct err *e)
{
    const void *value;
    size_t size;
    int rc = store_get(&s->store, meta_db, 0, &value, &size, e);
    if (rc == -ENOENT)
        return err_set(e, XDC_EFORMAT, "%s: has no record of itself", s->dir);
    if (rc == 0)
        rc = feature_record_parse(s->dir, value, size, &s->info, e);
    if (rc == 0)
        memcpy(&s->record, value, sizeof s->record);
    return rc;
}

static int load(struct feature_store *s, const char *dir, struct err *e)
{
    char path[PATH_MAX];
    unsigned meta_db;
    s->sealed = true;
    s->dir = strdup(dir);
    if (!s->dir)
        return err_sys(e, ENOMEM, "open %s", dir);
    int rc = fs_path(path, e, "%s/data.mdb", dir);
    if (rc == 0)
        rc = store_open(&s->store, path, UINT64_MAX, e);
    if (rc == 0)
        rc = store_db(&s->store, "meta", false, &meta_db, e);
    if (rc == 0)
        rc = read_record(s, meta_db, e);
    if (rc == 0)
        rc = open_databases(s, e);
    for (uint32_t i = 0; rc == 0 && i < s->info.encoders; i++)
        rc = read_bitmaps(s, i, e);
    return rc;
}

int feature_store_open(const char *dir, struct feature_store **out, struct err *e)
{
    struct feature_store *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "open %s", dir);
    int rc = load(s, dir, e);
    if (rc < 0) {
        feature_store_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void feature_store_close(struct feature_store *s)
{
    if (!s)
        return;
    store_close(&s->store);
    feature_writer_close(s->writer);
    for (uint32_t i = 0; i < FEATURE_ENCODERS_MAX; i++)
        free(s->reader[i].valid);
    free(s->dir);
    free(s);
}

const struct feature_info *feature_store_info(const struct feature_store *s)
{
    return &s->info;
}

const struct feature_record *feature_store_record(const struct feature_store *s)
{
    return &s->record;
}

bool feature_store_is_current(const struct feature_store *s)
{
    char path[PATH_MAX];
    return fs_path(path, NULL, "%s/data.mdb", s->dir) == 0 && store_is_at(&s->store, path);
}

bool feature_store_has(const struct feature_store *s, uint32_t encoder, uint64_t row)
{
    if (encoder >= s->info.encoders || !feature_in_shard(&s->info, row) || !s->reader[encoder].valid)
        return false;
    return bit(s->reader[encoder].valid, row - s->info.first);
}

/* *out_values is NULL for a block that is not stored: one without any row. */
static int get_block(const struct feature_store *s, uint32_t encoder, uint64_t block,
                     const uint8_t **out_values, struct err *e)
{
    const struct feature_reader *r = &s->reader[encoder];
    const void *value = NULL;
    size_t size;
    int rc = store_get(&s->store, r->rows_db, block, &value, &size, e);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    bool expected = feature_count_bits(r->valid + block * FEATURE_BITMAP_BYTES, FEATURE_BITMAP_BYTES) > 0;
    if (expected != (rc == 0) || (rc == 0 && size != feature_block_bytes(&s->info, encoder, block)))
        return err_set(e, XDC_EFORMAT, "%s: block %llu of %s is not as its bitmap says", s->dir,
                       (unsigned long long)block, s->info.encoder[encoder].name);
    *out_values = value;
    return 0;
}

int feature_store_read(struct feature_store *s, uint32_t encoder, uint64_t first, uint64_t n, float *out,
                       struct err *e)
{
    uint64_t own = first - s->info.first;
    if (encoder >= s->info.encoders || first < s->info.first || own > s->info.rows ||
        n > s->info.rows - own || !s->reader[encoder].valid)
        return err_set(e, -EINVAL, "%s: rows %llu to %llu of encoder %u cannot be read", s->dir,
                       (unsigned long long)first, (unsigned long long)(first + n), encoder);
    size_t dim = s->info.encoder[encoder].dim;
    while (n) {
        const uint8_t *block = NULL;
        uint64_t at = own % FEATURE_BLOCK_ROWS;
        uint64_t rows = FEATURE_BLOCK_ROWS - at < n ? FEATURE_BLOCK_ROWS - at : n;
        int rc = get_block(s, encoder, own / FEATURE_BLOCK_ROWS, &block, e);
        if (rc < 0)
            return rc;
        if (block)
            feature_values_to_float(s->info.dtype, block + at * dim * feature_value_bytes(s->info.dtype), out,
                                    rows * dim);
        else
            memset(out, 0, rows * dim * sizeof *out);
        out += rows * dim;
        own += rows;
        n -= rows;
    }
    return 0;
}

int feature_store_block(const struct feature_store *s, uint32_t encoder, uint64_t row,
                        struct feature_block *out, struct err *e)
{
    if (encoder >= s->info.encoders || !feature_in_shard(&s->info, row) || !s->reader[encoder].valid)
        return err_set(e, -EINVAL, "%s: row %llu of encoder %u cannot be read", s->dir,
                       (unsigned long long)row, encoder);
    uint64_t block = (row - s->info.first) / FEATURE_BLOCK_ROWS;
    const uint8_t *values = NULL;
    int rc = get_block(s, encoder, block, &values, e);
    if (rc < 0)
        return rc;
    *out = (struct feature_block){.values = values,
                                  .valid = s->reader[encoder].valid + block * FEATURE_BITMAP_BYTES,
                                  .first = s->info.first + block * FEATURE_BLOCK_ROWS,
                                  .rows = feature_block_rows(&s->info, block),
                                  .dim = s->info.encoder[encoder].dim,
                                  .dtype = s->info.dtype};
    return 0;
}

static int hash_encoder(const struct feature_store *s, uint32_t encoder, uint64_t *out, struct err *e)
{
    XXH3_state_t *h = XXH3_createState();
    if (!h)
        return err_sys(e, ENOMEM, "verify %s", s->dir);
    XXH3_64bits_reset(h);
    int rc = 0;
    uint64_t blocks = feature_block_count(&s->info), stored = 0, keys = 0;
    for (uint64_t b = 0; rc == 0 && b < blocks; b++) {
        const uint8_t *values = NULL;
        rc = get_block(s, encoder, b, &values, e);
        if (rc < 0 || !values)
            continue;
        feature_hash_block(h, b, s->reader[encoder].valid + b * FEATURE_BITMAP_BYTES, values,
                           feature_block_bytes(&s->info, encoder, b));
        stored++;
    }
    *out = XXH3_64bits_digest(h);
    XXH3_freeState(h);
    if (rc == 0)
        rc = store_count(&s->store, s->reader[encoder].rows_db, &keys, e);
    if (rc == 0 && keys != stored)
        rc = err_set(e, XDC_EFORMAT, "%s: %s has blocks beyond its rows", s->dir,
                     s->info.encoder[encoder].name);
    return rc;
}

int feature_store_verify(struct feature_store *s, struct err *e)
{
    uint64_t hashes[FEATURE_ENCODERS_MAX];
    struct feature_record r;
    if (!s->reader[0].valid)
        return err_set(e, -EINVAL, "%s: a dump is verified after it was opened", s->dir);
    int rc = store_check(&s->store, e);
    for (uint32_t i = 0; rc == 0 && i < s->info.encoders; i++)
        rc = hash_encoder(s, i, &hashes[i], e);
    if (rc < 0)
        return rc;
    feature_record_fill(&s->info, hashes, &r);
    if (r.hash != s->info.hash)
        return err_set(e, XDC_EFORMAT, "%s: the features are not those that were sealed", s->dir);
    return 0;
}
