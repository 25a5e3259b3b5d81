#include "lib/feature_store.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>
#include "lib/feature_record.h"
#include "lib/fsutil.h"
#include "lib/half.h"
#include "lib/store.h"

enum { BITMAP_BYTES = FEATURE_BLOCK_ROWS / 8, PAGE_BYTES = 4096 };
#define COMMIT_BYTES ((uint64_t)8 << 20) /* small blocks share a transaction */

struct encoder {
    unsigned rows_db, valid_db;
    uint8_t *valid; /* owned: while reading, the bitmap of all rows in whole blocks */
    /* while writing: */
    uint8_t *block;     /* owned: values of the block that is being filled */
    uint8_t *present;   /* owned: its bitmap */
    uint64_t index;     /* of that block */
    uint64_t next_row;  /* the first row that may come, counted from the shard's first */
    bool dirty;         /* the block has a row */
    XXH3_state_t *hash; /* owned */
};

struct feature_store {
    struct feature_info info;
    struct store store;
    char *dir; /* owned */
    bool sealed;
    uint64_t pending_bytes; /* put since the last commit */
    struct encoder encoder[FEATURE_ENCODERS_MAX];
};

static size_t value_bytes(const struct feature_info *info)
{
    return info->dtype == FEATURE_F16 ? 2 : 4;
}

static uint64_t block_count(const struct feature_info *info)
{
    return (info->rows + FEATURE_BLOCK_ROWS - 1) / FEATURE_BLOCK_ROWS;
}

/* The last block has only the rows that there are. */
static uint64_t block_rows(const struct feature_info *info, uint64_t block)
{
    uint64_t left = info->rows - block * FEATURE_BLOCK_ROWS;
    return left < FEATURE_BLOCK_ROWS ? left : FEATURE_BLOCK_ROWS;
}

static size_t block_bytes(const struct feature_info *info, uint32_t encoder, uint64_t block)
{
    return block_rows(info, block) * info->encoder[encoder].dim * value_bytes(info);
}

static bool in_shard(const struct feature_info *info, uint64_t row)
{
    return row >= info->first && row - info->first < info->rows;
}

static bool bit(const uint8_t *bits, uint64_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static uint64_t count_bits(const uint8_t *bits, uint64_t n)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += (uint64_t)__builtin_popcount(bits[i]);
    return sum;
}

/* All that the dump can become: values in whole pages, two keys a block, and pages that a commit copies. */
static uint64_t map_bytes(const struct feature_info *info)
{
    uint64_t bytes = (uint64_t)64 << 20;
    for (uint32_t i = 0; i < info->encoders; i++) {
        uint64_t block = FEATURE_BLOCK_ROWS * info->encoder[i].dim * value_bytes(info);
        bytes += block_count(info) * (block + 2 * PAGE_BYTES);
    }
    return (bytes + bytes / 16) / PAGE_BYTES * PAGE_BYTES;
}

static int open_databases(struct feature_store *s, bool create, struct err *e)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < s->info.encoders; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s/valid", s->info.encoder[i].name);
        rc = store_db(&s->store, s->info.encoder[i].name, create, &s->encoder[i].rows_db, e);
        if (rc == 0)
            rc = store_db(&s->store, name, create, &s->encoder[i].valid_db, e);
    }
    return rc;
}

static int alloc_writer(struct feature_store *s, struct err *e)
{
    for (uint32_t i = 0; i < s->info.encoders; i++) {
        struct encoder *w = &s->encoder[i];
        w->block = calloc(FEATURE_BLOCK_ROWS, s->info.encoder[i].dim * value_bytes(&s->info));
        w->present = calloc(1, BITMAP_BYTES);
        w->hash = XXH3_createState();
        if (!w->block || !w->present || !w->hash)
            return err_sys(e, ENOMEM, "create %s", s->dir);
        XXH3_64bits_reset(w->hash);
    }
    return 0;
}

static int start_writer(struct feature_store *s, const char *tmp, struct err *e)
{
    char path[PATH_MAX];
    unsigned meta_db;
    int rc = alloc_writer(s, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/data.mdb", tmp);
    if (rc == 0)
        rc = fs_remove_tree(tmp, e);
    if (rc == 0)
        rc = fs_mkdirs(tmp, e);
    if (rc == 0)
        rc = store_create(&s->store, path, map_bytes(&s->info), e);
    if (rc == 0)
        rc = store_db(&s->store, "meta", true, &meta_db, e);
    if (rc == 0)
        rc = open_databases(s, true, e);
    return rc == 0 ? store_commit(&s->store, 0, e) : rc;
}

int feature_store_create(const char *dir, const struct feature_info *info, struct feature_store **out,
                         struct err *e)
{
    char tmp[PATH_MAX];
    struct stat st;
    int rc = feature_info_check(dir, info, -EINVAL, e);
    if (rc == 0)
        rc = fs_path(tmp, e, "%s.tmp", dir);
    if (rc < 0)
        return rc;
    if (lstat(dir, &st) == 0)
        return err_sys(e, EEXIST, "create %s", dir);
    struct feature_store *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "create %s", dir);
    s->info = *info;
    s->info.hash = 0;
    for (uint32_t i = 0; i < info->encoders; i++)
        s->info.encoder[i].valid = 0;
    s->dir = strdup(dir);
    rc = s->dir ? start_writer(s, tmp, e) : err_sys(e, ENOMEM, "create %s", dir);
    if (rc < 0) {
        feature_store_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

/* Stores the block that an encoder has filled, if it has a row, and makes it empty. */
static int flush_block(struct feature_store *s, uint32_t encoder, struct err *e)
{
    struct encoder *w = &s->encoder[encoder];
    void *to;
    if (!w->dirty)
        return 0;
    size_t bytes = block_bytes(&s->info, encoder, w->index);
    int rc = store_append(&s->store, w->valid_db, w->index, BITMAP_BYTES, &to, e);
    if (rc < 0)
        return rc;
    memcpy(to, w->present, BITMAP_BYTES);
    rc = store_append(&s->store, w->rows_db, w->index, bytes, &to, e);
    if (rc < 0)
        return rc;
    memcpy(to, w->block, bytes);
    XXH3_64bits_update(w->hash, &w->index, sizeof w->index);
    XXH3_64bits_update(w->hash, w->present, BITMAP_BYTES);
    XXH3_64bits_update(w->hash, w->block, bytes);
    s->info.encoder[encoder].valid += count_bits(w->present, BITMAP_BYTES);
    memset(w->block, 0, bytes);
    memset(w->present, 0, BITMAP_BYTES);
    w->dirty = false;
    s->pending_bytes += bytes;
    if (s->pending_bytes < COMMIT_BYTES)
        return 0;
    s->pending_bytes = 0;
    return store_commit(&s->store, 0, e);
}

/* Refuses what is no number in the dump's dtype: one such value would make every centroid of its cluster
 * none. */
static int check_values(const struct feature_store *s, uint32_t encoder, uint64_t row, const float *values,
                        struct err *e)
{
    float limit =
        s->info.dtype == FEATURE_F16 ? 65520.0f : INFINITY; /* from here on f16 rounds to infinity */
    bool good = true;
    for (uint32_t i = 0; i < s->info.encoder[encoder].dim; i++)
        good &= fabsf(values[i]) < limit;
    if (good)
        return 0;
    return err_set(e, -ERANGE, "%s: row %llu of %s has a value that is not finite%s", s->dir,
                   (unsigned long long)row, s->info.encoder[encoder].name,
                   s->info.dtype == FEATURE_F16 ? " as f16" : "");
}

int feature_store_put(struct feature_store *s, uint32_t encoder, uint64_t row, const float *values,
                      struct err *e)
{
    if (s->sealed)
        return err_set(e, -EROFS, "%s: a sealed dump is not written", s->dir);
    if (encoder >= s->info.encoders || !in_shard(&s->info, row))
        return err_set(e, -EINVAL,
                       "%s: row %llu of encoder %u: there are %llu rows from %llu on, %u encoders", s->dir,
                       (unsigned long long)row, encoder, (unsigned long long)s->info.rows,
                       (unsigned long long)s->info.first, s->info.encoders);
    struct encoder *w = &s->encoder[encoder];
    uint64_t own = row - s->info.first;
    if (own < w->next_row)
        return err_set(e, -EINVAL, "%s: row %llu of %s comes after row %llu", s->dir, (unsigned long long)row,
                       s->info.encoder[encoder].name, (unsigned long long)(s->info.first + w->next_row - 1));
    int rc = check_values(s, encoder, row, values, e);
    if (rc == 0 && own / FEATURE_BLOCK_ROWS != w->index)
        rc = flush_block(s, encoder, e);
    if (rc < 0)
        return rc;
    uint32_t dim = s->info.encoder[encoder].dim;
    uint64_t at = own % FEATURE_BLOCK_ROWS;
    uint8_t *to = w->block + at * dim * value_bytes(&s->info);
    if (s->info.dtype == FEATURE_F16)
        half_from_float(values, (uint16_t *)(void *)to, dim);
    else
        memcpy(to, values, dim * sizeof *values);
    w->present[at / 8] = (uint8_t)(w->present[at / 8] | 1u << at % 8);
    w->index = own / FEATURE_BLOCK_ROWS;
    w->next_row = own + 1;
    w->dirty = true;
    return at == FEATURE_BLOCK_ROWS - 1 ? flush_block(s, encoder, e) : 0;
}

static int write_record(struct feature_store *s, struct err *e)
{
    uint64_t hashes[FEATURE_ENCODERS_MAX];
    struct feature_record r;
    unsigned meta_db;
    void *to;
    for (uint32_t i = 0; i < s->info.encoders; i++)
        hashes[i] = XXH3_64bits_digest(s->encoder[i].hash);
    feature_record_fill(&s->info, hashes, &r);
    int rc = store_db(&s->store, "meta", false, &meta_db, e);
    if (rc == 0)
        rc = store_append(&s->store, meta_db, 0, sizeof r, &to, e);
    if (rc < 0)
        return rc;
    memcpy(to, &r, sizeof r);
    s->info.hash = r.hash;
    return 0;
}

int feature_store_seal(struct feature_store *s, uint64_t *out_hash, struct err *e)
{
    char tmp[PATH_MAX];
    int rc = 0;
    if (s->sealed)
        return err_set(e, -EROFS, "%s: sealed already", s->dir);
    for (uint32_t i = 0; rc == 0 && i < s->info.encoders; i++)
        rc = flush_block(s, i, e);
    if (rc == 0)
        rc = write_record(s, e);
    if (rc == 0)
        rc = store_seal(&s->store, e);
    if (rc == 0)
        rc = fs_path(tmp, e, "%s.tmp", s->dir);
    if (rc == 0)
        rc = fs_publish_dir(tmp, s->dir, e);
    if (rc < 0) {
        err_wrap(e, "seal the features");
        return rc;
    }
    s->sealed = true;
    *out_hash = s->info.hash;
    return 0;
}

/* The bitmap of all rows, from those of the stored blocks; the count must be the sealed one. */
static int read_bitmaps(struct feature_store *s, uint32_t encoder, struct err *e)
{
    struct encoder *r = &s->encoder[encoder];
    const struct feature_encoder *info = &s->info.encoder[encoder];
    uint64_t blocks = block_count(&s->info), keys, found = 0;
    r->valid = calloc(blocks + 1, BITMAP_BYTES);
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
        if (rc == 0 && size != BITMAP_BYTES)
            rc = err_set(e, XDC_EFORMAT, "%s: bitmap %llu of %s has %zu bytes", s->dir, (unsigned long long)b,
                         info->name, size);
        if (rc == 0)
            memcpy(r->valid + b * BITMAP_BYTES, bits, BITMAP_BYTES);
        found++;
    }
    if (rc < 0)
        return rc;
    uint64_t valid = count_bits(r->valid, blocks * BITMAP_BYTES), beyond = 0;
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
    return rc == 0 ? feature_record_parse(s->dir, value, size, &s->info, e) : rc;
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
        rc = open_databases(s, false, e);
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
    for (uint32_t i = 0; i < FEATURE_ENCODERS_MAX; i++) {
        free(s->encoder[i].valid);
        free(s->encoder[i].block);
        free(s->encoder[i].present);
        XXH3_freeState(s->encoder[i].hash);
    }
    free(s->dir);
    free(s);
}

const struct feature_info *feature_store_info(const struct feature_store *s)
{
    return &s->info;
}

bool feature_store_has(const struct feature_store *s, uint32_t encoder, uint64_t row)
{
    if (encoder >= s->info.encoders || !in_shard(&s->info, row) || !s->encoder[encoder].valid)
        return false;
    return bit(s->encoder[encoder].valid, row - s->info.first);
}

/* *out_values is NULL for a block that is not stored: one without any row. */
static int get_block(const struct feature_store *s, uint32_t encoder, uint64_t block,
                     const uint8_t **out_values, struct err *e)
{
    const struct encoder *r = &s->encoder[encoder];
    const void *value = NULL;
    size_t size;
    int rc = store_get(&s->store, r->rows_db, block, &value, &size, e);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    bool expected = count_bits(r->valid + block * BITMAP_BYTES, BITMAP_BYTES) > 0;
    if (expected != (rc == 0) || (rc == 0 && size != block_bytes(&s->info, encoder, block)))
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
        n > s->info.rows - own || !s->encoder[encoder].valid)
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
        if (!block)
            memset(out, 0, rows * dim * sizeof *out);
        else if (s->info.dtype == FEATURE_F16)
            half_to_float((const uint16_t *)(const void *)block + at * dim, out, rows * dim);
        else
            memcpy(out, block + at * dim * sizeof *out, rows * dim * sizeof *out);
        out += rows * dim;
        own += rows;
        n -= rows;
    }
    return 0;
}

static int hash_encoder(const struct feature_store *s, uint32_t encoder, uint64_t *out, struct err *e)
{
    XXH3_state_t *h = XXH3_createState();
    if (!h)
        return err_sys(e, ENOMEM, "verify %s", s->dir);
    XXH3_64bits_reset(h);
    int rc = 0;
    uint64_t blocks = block_count(&s->info), stored = 0, keys = 0;
    for (uint64_t b = 0; rc == 0 && b < blocks; b++) {
        const uint8_t *values = NULL;
        rc = get_block(s, encoder, b, &values, e);
        if (rc < 0 || !values)
            continue;
        XXH3_64bits_update(h, &b, sizeof b);
        XXH3_64bits_update(h, s->encoder[encoder].valid + b * BITMAP_BYTES, BITMAP_BYTES);
        XXH3_64bits_update(h, values, block_bytes(&s->info, encoder, b));
        stored++;
    }
    *out = XXH3_64bits_digest(h);
    XXH3_freeState(h);
    if (rc == 0)
        rc = store_count(&s->store, s->encoder[encoder].rows_db, &keys, e);
    if (rc == 0 && keys != stored)
        rc = err_set(e, XDC_EFORMAT, "%s: %s has blocks beyond its rows", s->dir,
                     s->info.encoder[encoder].name);
    return rc;
}

int feature_store_verify(struct feature_store *s, struct err *e)
{
    uint64_t hashes[FEATURE_ENCODERS_MAX];
    struct feature_record r;
    if (!s->encoder[0].valid)
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
