#include "lib/feature_copy.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <xxhash.h>
#include "lib/feature_record.h"
#include "lib/fsutil.h"

struct feature_replica {
    struct feature_info info;
    struct feature_store *store; /* owned */
    char dir[PATH_MAX];
    uint64_t next[FEATURE_ENCODERS_MAX]; /* the block of an encoder that is wanted next */
    uint64_t found, done;
};

uint64_t feature_raw_check(uint64_t index, const struct feature_raw *b)
{
    return b->values ? XXH3_64bits_withSeed(b->values, b->size,
                                            XXH3_64bits_withSeed(b->present, FEATURE_BITMAP_BYTES, index))
                     : 0;
}

int feature_raw_read(const struct feature_store *s, uint32_t encoder, uint64_t block, struct feature_raw *out,
                     struct err *e)
{
    const struct feature_info *info = feature_store_info(s);
    struct feature_block b;
    *out = (struct feature_raw){0};
    if (encoder >= info->encoders || block >= feature_block_count(info))
        return err_set(e, -EINVAL, "there is no block %llu of encoder %u in a shard of %llu rows",
                       (unsigned long long)block, encoder, (unsigned long long)info->rows);
    int rc = feature_store_block(s, encoder, info->first + block * FEATURE_BLOCK_ROWS, &b, e);
    if (rc == 0 && b.values)
        *out = (struct feature_raw){
            .present = b.valid, .values = b.values, .size = feature_block_bytes(info, encoder, block)};
    return rc;
}

int feature_replica_open(const char *dir, const struct feature_record *record, struct feature_replica **out,
                         struct err *e)
{
    struct feature_replica *r = calloc(1, sizeof *r);
    if (!r)
        return err_sys(e, ENOMEM, "copy to %s", dir);
    int rc = fs_path(r->dir, e, "%s", dir);
    if (rc == 0)
        rc = feature_record_parse(dir, record, sizeof *record, &r->info, e);
    if (rc == 0)
        rc = feature_store_create_copy(dir, record, &r->store, e);
    if (rc < 0) {
        feature_replica_close(r);
        return rc;
    }
    for (uint32_t i = 0; i < r->info.encoders; i++) {
        uint64_t rows = feature_store_missing(r->store, i) - r->info.first;
        r->next[i] = (rows + FEATURE_BLOCK_ROWS - 1) / FEATURE_BLOCK_ROWS;
        r->found += r->next[i];
    }
    r->done = r->found;
    *out = r;
    return 0;
}

void feature_replica_close(struct feature_replica *r)
{
    if (!r)
        return;
    feature_store_close(r->store);
    free(r);
}

bool feature_replica_next(const struct feature_replica *r, uint32_t *encoder, uint64_t *block)
{
    for (uint32_t i = 0; i < r->info.encoders; i++)
        if (r->next[i] < feature_block_count(&r->info)) {
            *encoder = i;
            *block = r->next[i];
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
    if (!feature_replica_next(r, &wanted, &next) || wanted != encoder || next != block)
        return err_set(e, XDC_EFORMAT, "%s: block %llu of encoder %u came where %llu of %u was due", r->dir,
                       (unsigned long long)block, encoder, (unsigned long long)next, wanted);
    if (b->values && b->size != feature_block_bytes(&r->info, encoder, block))
        return err_set(e, XDC_EFORMAT, "%s: block %llu of encoder %u came with %zu bytes instead of %zu",
                       r->dir, (unsigned long long)block, encoder, b->size,
                       feature_block_bytes(&r->info, encoder, block));
    int rc = b->values ? feature_store_put_block(r->store, encoder, block, b->present, b->values, e) : 0;
    if (rc < 0)
        return rc;
    r->next[encoder]++;
    r->done++;
    return 0;
}

int feature_replica_seal(struct feature_replica *r, struct err *e)
{
    char tmp[PATH_MAX];
    uint64_t hash;
    int rc = fs_path(tmp, e, "%s.tmp", r->dir);
    if (rc == 0)
        rc = feature_store_seal(r->store, &hash, e);
    if (rc == XDC_EFORMAT && fs_remove_tree(tmp, NULL) < 0)
        return err_wrap(e, "%s stays", tmp);
    return rc;
}
