#include "lib/feature_record.h"

#include <string.h>
#include <xxhash.h>

enum { VERSION = 3, BLOCK_BYTES_MAX = 256 << 20 };
#define ROWS_MAX ((uint64_t)1 << 40)

static const char magic[8] = "XDCFEAT\n";

static int check_shard(const char *dir, const struct feature_info *info, int code, struct err *e)
{
    if (info->ranks == 0 || info->ranks > FEATURE_RANKS_MAX || info->rank >= info->ranks)
        return err_set(e, code, "%s: rank %u of %u makes no shard", dir, info->rank, info->ranks);
    if (info->total > ROWS_MAX || info->first > info->total || info->rows > info->total - info->first ||
        (info->ranks == 1 && info->rows != info->total))
        return err_set(e, code, "%s: %llu rows from row %llu on make no shard of %u of %llu rows", dir,
                       (unsigned long long)info->rows, (unsigned long long)info->first, info->ranks,
                       (unsigned long long)info->total);
    return 0;
}

/* A name becomes the name of a database. */
int feature_info_check(const char *dir, const struct feature_info *info, int code, struct err *e)
{
    if (info->encoders == 0 || info->encoders > FEATURE_ENCODERS_MAX)
        return err_set(e, code, "%s: %u encoders make no dump", dir, info->encoders);
    if (info->dtype != FEATURE_F32 && info->dtype != FEATURE_F16 && info->dtype != FEATURE_BF16)
        return err_set(e, code, "%s: no such dtype: %d", dir, (int)info->dtype);
    for (uint32_t i = 0; i < info->encoders; i++) {
        const struct feature_encoder *a = &info->encoder[i];
        if (!a->name[0] || !memchr(a->name, '\0', sizeof a->name) || strchr(a->name, '/') ||
            strcmp(a->name, "meta") == 0)
            return err_set(e, code, "%s: encoder %u has no usable name", dir, i);
        if (a->dim == 0 || a->dim > BLOCK_BYTES_MAX / FEATURE_BLOCK_ROWS / 4)
            return err_set(e, code, "%s: encoder %s has %u dimensions", dir, a->name, a->dim);
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(info->encoder[j].name, a->name) == 0)
                return err_set(e, code, "%s: two encoders are called %s", dir, a->name);
    }
    return check_shard(dir, info, code, e);
}

void feature_record_fill(const struct feature_info *info, const uint64_t hashes[], struct feature_record *r)
{
    memset(r, 0, sizeof *r);
    memcpy(r->magic, magic, sizeof magic);
    r->version = VERSION;
    r->block_rows = FEATURE_BLOCK_ROWS;
    r->manifest = info->manifest;
    r->run = info->run;
    r->weights = info->weights;
    r->heads = info->heads;
    r->rows = info->rows;
    r->first = info->first;
    r->total = info->total;
    r->round = info->round;
    r->rank = info->rank;
    r->ranks = info->ranks;
    r->dtype = info->dtype;
    r->encoders = info->encoders;
    for (uint32_t i = 0; i < info->encoders; i++) {
        struct feature_record_encoder *to = &r->encoder[i];
        memcpy(to->name, info->encoder[i].name, strnlen(info->encoder[i].name, sizeof to->name));
        to->dim = info->encoder[i].dim;
        to->valid = info->encoder[i].valid;
        to->hash = hashes[i];
    }
    r->hash = XXH3_64bits(r, offsetof(struct feature_record, hash));
}

static void copy_fields(const struct feature_record *r, struct feature_info *out)
{
    *out = (struct feature_info){
        .manifest = r->manifest,
        .run = r->run,
        .weights = r->weights,
        .heads = r->heads,
        .rows = r->rows,
        .first = r->first,
        .total = r->total,
        .round = r->round,
        .rank = r->rank,
        .ranks = r->ranks,
        .dtype = (enum feature_dtype)r->dtype,
        .encoders = r->encoders,
        .hash = r->hash,
    };
    for (uint32_t i = 0; i < FEATURE_ENCODERS_MAX; i++) {
        memcpy(out->encoder[i].name, r->encoder[i].name, sizeof r->encoder[i].name);
        out->encoder[i].dim = r->encoder[i].dim;
        out->encoder[i].valid = r->encoder[i].valid;
    }
}

int feature_record_parse(const char *dir, const void *data, size_t size, struct feature_info *out,
                         struct err *e)
{
    struct feature_record r = {0};
    memcpy(&r, data, size < sizeof r ? size : sizeof r);
    if (memcmp(r.magic, magic, sizeof magic) != 0)
        return err_set(e, XDC_EFORMAT, "%s: not a feature dump", dir);
    if (r.version != VERSION || r.block_rows != FEATURE_BLOCK_ROWS) /* another version has another size */
        return err_set(e, XDC_EFORMAT, "%s: version %u with blocks of %u rows, this program reads %d with %d",
                       dir, r.version, r.block_rows, VERSION, FEATURE_BLOCK_ROWS);
    if (size != sizeof r || r.hash != XXH3_64bits(&r, offsetof(struct feature_record, hash)))
        return err_set(e, XDC_EFORMAT, "%s: its record is altered", dir);
    copy_fields(&r, out);
    return feature_info_check(dir, out, XDC_EFORMAT, e);
}
