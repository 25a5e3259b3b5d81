#include "lib/feature_copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/feature_record.h"
#include "lib/fsutil.h"
#include "lib/store.h"

enum { BOOT_ID_MAX = 64, PAGE_BYTES = 4096 };
#define COMMIT_BYTES ((uint64_t)8 << 20)
_Static_assert(sizeof(struct feature_record) <= FEATURE_RECORD_MAX, "a record fits");

/* The databases of one encoder. */
struct column {
    unsigned rows_db, valid_db;
    uint64_t next;      /* replica: the block that is wanted next */
    uint64_t valid;     /* replica: rows that are there */
    XXH3_state_t *hash; /* replica; owned */
};

struct feature_origin {
    struct feature_info info;
    struct store store;
    char dir[PATH_MAX];
    struct feature_record record;
    struct column column[FEATURE_ENCODERS_MAX];
};

struct feature_replica {
    struct feature_origin of; /* its store is the replica's */
    uint64_t found, done, pending_bytes;
};

uint64_t feature_copy_blocks(const struct feature_info *info)
{
    return (info->rows + FEATURE_BLOCK_ROWS - 1) / FEATURE_BLOCK_ROWS;
}

size_t feature_copy_block_bytes(const struct feature_info *info, uint32_t encoder, uint64_t block)
{
    uint64_t left = info->rows - block * FEATURE_BLOCK_ROWS;
    uint64_t rows = left < FEATURE_BLOCK_ROWS ? left : FEATURE_BLOCK_ROWS;
    return rows * info->encoder[encoder].dim * feature_value_bytes(info->dtype);
}

/* Values in whole pages, two keys a block, and pages that a commit copies. */
uint64_t feature_copy_size(const struct feature_info *info)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < info->encoders; i++)
        bytes +=
            feature_copy_blocks(info) *
            (FEATURE_BLOCK_ROWS * info->encoder[i].dim * feature_value_bytes(info->dtype) + 2 * PAGE_BYTES);
    return bytes;
}

static void hash_block(XXH3_state_t *h, uint64_t index, const struct feature_raw *b)
{
    XXH3_64bits_update(h, &index, sizeof index);
    XXH3_64bits_update(h, b->present, FEATURE_RAW_BITMAP);
    XXH3_64bits_update(h, b->values, b->size);
}

uint64_t feature_raw_check(uint64_t index, const struct feature_raw *b)
{
    return b->values ? XXH3_64bits_withSeed(b->values, b->size,
                                            XXH3_64bits_withSeed(b->present, FEATURE_RAW_BITMAP, index))
                     : 0;
}

static int open_databases(struct feature_origin *o, bool create, struct err *e)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < o->info.encoders; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s/valid", o->info.encoder[i].name);
        rc = store_db(&o->store, o->info.encoder[i].name, create, &o->column[i].rows_db, e);
        if (rc == 0)
            rc = store_db(&o->store, name, create, &o->column[i].valid_db, e);
    }
    return rc;
}

/* The record that the store holds. */
static int read_record(struct feature_origin *o, struct err *e)
{
    const void *value;
    size_t size;
    unsigned meta_db;
    int rc = store_db(&o->store, "meta", false, &meta_db, e);
    if (rc == 0)
        rc = store_get(&o->store, meta_db, 0, &value, &size, e);
    if (rc == -ENOENT)
        return err_set(e, XDC_EFORMAT, "%s: has no record of itself", o->dir);
    if (rc == 0)
        rc = feature_record_parse(o->dir, value, size, &o->info, e);
    if (rc == 0)
        memcpy(&o->record, value, sizeof o->record);
    return rc;
}

int feature_origin_open(const char *dir, struct feature_origin **out, struct err *e)
{
    char path[PATH_MAX];
    struct feature_origin *o = calloc(1, sizeof *o);
    if (!o)
        return err_sys(e, ENOMEM, "open %s", dir);
    int rc = fs_path(o->dir, e, "%s", dir);
    if (rc == 0)
        rc = fs_path(path, e, "%s/data.mdb", dir);
    if (rc == 0)
        rc = store_open(&o->store, path, UINT64_MAX, e);
    if (rc == 0)
        rc = read_record(o, e);
    if (rc == 0)
        rc = open_databases(o, false, e);
    if (rc < 0) {
        feature_origin_close(o);
        return rc;
    }
    *out = o;
    return 0;
}

void feature_origin_close(struct feature_origin *o)
{
    if (!o)
        return;
    store_close(&o->store);
    free(o);
}

const struct feature_info *feature_origin_info(const struct feature_origin *o)
{
    return &o->info;
}

bool feature_origin_is_current(const struct feature_origin *o)
{
    char path[PATH_MAX];
    return fs_path(path, NULL, "%s/data.mdb", o->dir) == 0 && store_is_at(&o->store, path);
}

const void *feature_origin_record(const struct feature_origin *o, size_t *out_size)
{
    *out_size = sizeof o->record;
    return &o->record;
}

int feature_origin_block(const struct feature_origin *o, uint32_t encoder, uint64_t block,
                         struct feature_raw *out, struct err *e)
{
    const void *bits;
    size_t bits_size;
    *out = (struct feature_raw){0};
    if (encoder >= o->info.encoders || block >= feature_copy_blocks(&o->info))
        return err_set(e, -EINVAL, "%s: there is no block %llu of encoder %u", o->dir,
                       (unsigned long long)block, encoder);
    const struct column *c = &o->column[encoder];
    int rc = store_get(&o->store, c->rows_db, block, &out->values, &out->size, e);
    if (rc == -ENOENT)
        return 0;
    if (rc == 0)
        rc = store_get(&o->store, c->valid_db, block, &bits, &bits_size, e);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    if (rc < 0 || bits_size != FEATURE_RAW_BITMAP ||
        out->size != feature_copy_block_bytes(&o->info, encoder, block))
        return err_set(e, XDC_EFORMAT, "%s: block %llu of %s does not have its size", o->dir,
                       (unsigned long long)block, o->info.encoder[encoder].name);
    out->present = bits;
    return 0;
}

/* replica */

/* What the page cache holds lasts as long as the system does. */
static void read_boot_id(char out[BOOT_ID_MAX])
{
    char *data;
    size_t size;
    out[0] = '\0';
    if (fs_read("/proc/sys/kernel/random/boot_id", BOOT_ID_MAX - 1, &data, &size, NULL) < 0)
        return;
    memcpy(out, data, size + 1);
    free(data);
}

static bool is_of_this_boot(const char *tmp)
{
    char path[PATH_MAX], now[BOOT_ID_MAX], *then;
    size_t size;
    read_boot_id(now);
    if (!now[0] || fs_path(path, NULL, "%s/boot_id", tmp) < 0 ||
        fs_read(path, BOOT_ID_MAX, &then, &size, NULL) < 0)
        return false;
    bool same = strcmp(now, then) == 0;
    free(then);
    return same;
}

static uint64_t count_bits(const uint8_t *bits)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < FEATURE_RAW_BITMAP; i++)
        sum += (uint64_t)__builtin_popcount(bits[i]);
    return sum;
}

static void count_block(struct feature_replica *r, struct column *c, uint64_t block,
                        const struct feature_raw *b)
{
    if (b->values) {
        hash_block(c->hash, block, b);
        c->valid += count_bits(b->present);
    }
    r->done += block + 1 - c->next;
    c->next = block + 1;
}

/* Reads what is there of an encoder: up to its last stored block. */
static int take_stored(struct feature_replica *r, uint32_t encoder, struct err *e)
{
    struct column *c = &r->of.column[encoder];
    uint64_t stored, bitmaps, seen = 0, blocks = feature_copy_blocks(&r->of.info);
    int rc = store_count(&r->of.store, c->rows_db, &stored, e);
    if (rc == 0)
        rc = store_count(&r->of.store, c->valid_db, &bitmaps, e);
    if (rc == 0 && (stored != bitmaps || stored > blocks))
        return err_set(e, XDC_EFORMAT, "%s: bitmaps and blocks differ", r->of.dir);
    for (uint64_t b = 0; rc == 0 && seen < stored && b < blocks; b++) {
        struct feature_raw block;
        rc = feature_origin_block(&r->of, encoder, b, &block, e);
        if (rc == 0 && block.values) {
            seen++;
            count_block(r, c, b, &block);
        }
    }
    if (rc == 0 && seen != stored)
        return err_set(e, XDC_EFORMAT, "%s: has blocks beyond its rows", r->of.dir);
    return rc;
}

static uint64_t map_bytes(const struct feature_info *info)
{
    uint64_t bytes = feature_copy_size(info) + ((uint64_t)64 << 20);
    return (bytes + bytes / 16) / PAGE_BYTES * PAGE_BYTES;
}

static int reset_columns(struct feature_replica *r, struct err *e)
{
    r->done = r->found = 0;
    for (uint32_t i = 0; i < r->of.info.encoders; i++) {
        struct column *c = &r->of.column[i];
        XXH3_freeState(c->hash);
        *c = (struct column){.hash = XXH3_createState()};
        if (!c->hash)
            return err_sys(e, ENOMEM, "copy %s", r->of.dir);
        XXH3_64bits_reset(c->hash);
    }
    return 0;
}

/* 0, or why the unfinished replica cannot be gone on with. */
static int resume(struct feature_replica *r, const char *tmp, const char *path, struct err *e)
{
    struct feature_record wanted = r->of.record;
    if (!is_of_this_boot(tmp))
        return -ENOENT;
    int rc = store_resume(&r->of.store, path, map_bytes(&r->of.info), e);
    if (rc < 0)
        return rc;
    rc = read_record(&r->of, e);
    if (rc == 0 && memcmp(&wanted, &r->of.record, sizeof wanted) != 0)
        rc = XDC_EMISMATCH;
    if (rc == 0)
        rc = open_databases(&r->of, false, e);
    for (uint32_t i = 0; rc == 0 && i < r->of.info.encoders; i++)
        rc = take_stored(r, i, e);
    r->found = r->done;
    if (rc < 0) {
        store_close(&r->of.store);
        r->of.record = wanted;
    }
    return rc;
}

static int begin(struct feature_replica *r, const char *tmp, const char *path, struct err *e)
{
    char boot[PATH_MAX], id[BOOT_ID_MAX];
    unsigned meta_db;
    void *to;
    read_boot_id(id);
    int rc = fs_path(boot, e, "%s/boot_id", tmp);
    if (rc == 0)
        rc = fs_remove_tree(tmp, e);
    if (rc == 0)
        rc = fs_mkdirs(tmp, e);
    if (rc == 0)
        rc = store_create(&r->of.store, path, map_bytes(&r->of.info), e);
    if (rc == 0)
        rc = store_db(&r->of.store, "meta", true, &meta_db, e);
    if (rc == 0)
        rc = store_append(&r->of.store, meta_db, 0, sizeof r->of.record, &to, e);
    if (rc == 0)
        memcpy(to, &r->of.record, sizeof r->of.record);
    if (rc == 0)
        rc = open_databases(&r->of, true, e);
    if (rc == 0)
        rc = store_commit(&r->of.store, 0, e);
    return rc == 0 ? fs_write_atomic(boot, id, strlen(id), e) : rc;
}

static int start(struct feature_replica *r, const char *dir, const void *record, size_t size, struct err *e)
{
    char tmp[PATH_MAX], path[PATH_MAX];
    struct stat st;
    int rc = fs_path(r->of.dir, e, "%s", dir);
    if (rc == 0)
        rc = feature_record_parse(dir, record, size, &r->of.info, e);
    if (rc == 0)
        rc = fs_path(tmp, e, "%s.tmp", dir);
    if (rc == 0)
        rc = fs_path(path, e, "%s/data.mdb", tmp);
    if (rc < 0)
        return rc;
    if (lstat(dir, &st) == 0)
        return err_sys(e, EEXIST, "copy to %s", dir);
    memcpy(&r->of.record, record, sizeof r->of.record);
    rc = reset_columns(r, e);
    if (rc == 0 && resume(r, tmp, path, NULL) == 0)
        return 0;
    if (rc == 0) /* the record may have been another's */
        rc = feature_record_parse(dir, record, size, &r->of.info, e);
    if (rc == 0)
        rc = reset_columns(r, e);
    return rc == 0 ? begin(r, tmp, path, e) : rc;
}

int feature_replica_open(const char *dir, const void *record, size_t size, struct feature_replica **out,
                         struct err *e)
{
    struct feature_replica *r = calloc(1, sizeof *r);
    if (!r)
        return err_sys(e, ENOMEM, "copy to %s", dir);
    int rc = start(r, dir, record, size, e);
    if (rc < 0) {
        feature_replica_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

void feature_replica_close(struct feature_replica *r)
{
    struct err ignored;
    if (!r)
        return;
    /* What is not committed is pulled again if this fails. */
    if (r->of.store.txn && r->pending_bytes && store_commit(&r->of.store, 0, &ignored) < 0)
        r->pending_bytes = 0;
    store_close(&r->of.store);
    for (uint32_t i = 0; i < FEATURE_ENCODERS_MAX; i++)
        XXH3_freeState(r->of.column[i].hash);
    free(r);
}

const struct feature_info *feature_replica_info(const struct feature_replica *r)
{
    return &r->of.info;
}

bool feature_replica_next(const struct feature_replica *r, uint32_t *encoder, uint64_t *block)
{
    uint64_t blocks = feature_copy_blocks(&r->of.info);
    for (uint32_t i = 0; i < r->of.info.encoders; i++)
        if (r->of.column[i].next < blocks) {
            *encoder = i;
            *block = r->of.column[i].next;
            return true;
        }
    return false;
}

uint64_t feature_replica_found(const struct feature_replica *r)
{
    return r->found;
}

uint64_t feature_replica_done(const struct feature_replica *r)
{
    return r->done;
}

int feature_replica_put(struct feature_replica *r, uint32_t encoder, uint64_t block,
                        const struct feature_raw *b, struct err *e)
{
    uint32_t wanted = 0;
    uint64_t next = 0;
    void *to;
    if (!feature_replica_next(r, &wanted, &next) || wanted != encoder || next != block)
        return err_set(e, XDC_EFORMAT, "%s: block %llu of encoder %u came where %llu of %u was due",
                       r->of.dir, (unsigned long long)block, encoder, (unsigned long long)next, wanted);
    if (b->values && b->size != feature_copy_block_bytes(&r->of.info, encoder, block))
        return err_set(e, XDC_EFORMAT, "%s: block %llu of encoder %u came with %zu bytes instead of %zu",
                       r->of.dir, (unsigned long long)block, encoder, b->size,
                       feature_copy_block_bytes(&r->of.info, encoder, block));
    struct column *c = &r->of.column[encoder];
    if (b->values) {
        int rc = store_append(&r->of.store, c->valid_db, block, FEATURE_RAW_BITMAP, &to, e);
        if (rc < 0)
            return rc;
        memcpy(to, b->present, FEATURE_RAW_BITMAP);
        rc = store_append(&r->of.store, c->rows_db, block, b->size, &to, e);
        if (rc < 0)
            return rc;
        memcpy(to, b->values, b->size);
        r->pending_bytes += b->size;
    }
    count_block(r, c, block, b);
    if (r->pending_bytes < COMMIT_BYTES)
        return 0;
    r->pending_bytes = 0;
    return store_commit(&r->of.store, 0, e);
}

/* Every encoder's blocks, and how many rows they have. */
static int hold_against_record(const struct feature_replica *r, struct err *e)
{
    for (uint32_t i = 0; i < r->of.info.encoders; i++) {
        const struct feature_record_encoder *sealed = &r->of.record.encoder[i];
        const struct column *c = &r->of.column[i];
        if (c->next != feature_copy_blocks(&r->of.info) || c->valid != sealed->valid ||
            XXH3_64bits_digest(c->hash) != sealed->hash)
            return err_set(e, XDC_EFORMAT, "%s: the features of %s are not those that were sealed", r->of.dir,
                           r->of.info.encoder[i].name);
    }
    return 0;
}

int feature_replica_seal(struct feature_replica *r, struct err *e)
{
    char tmp[PATH_MAX], boot[PATH_MAX];
    int rc = fs_path(tmp, e, "%s.tmp", r->of.dir);
    if (rc == 0)
        rc = fs_path(boot, e, "%s/boot_id", tmp);
    if (rc < 0)
        return rc;
    r->pending_bytes = 0;
    rc = hold_against_record(r, e);
    if (rc < 0) {
        store_close(&r->of.store);
        return fs_remove_tree(tmp, NULL) < 0 ? err_wrap(e, "%s stays", tmp) : rc;
    }
    rc = store_seal(&r->of.store, e);
    if (rc == 0 && unlink(boot) < 0 && errno != ENOENT)
        rc = err_sys(e, errno, "remove %s", boot);
    if (rc == 0)
        rc = fs_publish_dir(tmp, r->of.dir, e);
    return rc < 0 ? err_wrap(e, "seal the copy of a shard") : 0;
}
