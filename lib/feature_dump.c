#include "lib/feature_dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>
#include "lib/fsutil.h"

struct feature_dump {
    struct feature_info info;
    char *dir;                    /* owned */
    struct feature_store **shard; /* owned, [info.ranks] */
};

uint64_t feature_dump_hash(const uint64_t *hashes, uint32_t ranks)
{
    return ranks == 1 ? hashes[0] : XXH3_64bits(hashes, ranks * sizeof *hashes);
}

static int shard_path(const char *round_dir, uint32_t rank, char out[PATH_MAX], struct err *e)
{
    return fs_path(out, e, "%s/rank-%u", round_dir, rank);
}

int feature_dump_mark(const char *round_dir, uint64_t *out_mark)
{
    uint64_t mark = 0;
    for (uint32_t rank = 0; rank < FEATURE_RANKS_MAX; rank++) {
        char path[PATH_MAX];
        struct stat st;
        int rc = shard_path(round_dir, rank, path, NULL);
        if (rc)
            return rc;
        if (stat(path, &st)) {
            if (rank == 0)
                return -ENOENT;
            break;
        }
        /* a shard made anew is another directory */
        uint64_t what[] = {mark, (uint64_t)st.st_dev, (uint64_t)st.st_ino, (uint64_t)st.st_mtim.tv_sec,
                           (uint64_t)st.st_mtim.tv_nsec};
        mark = XXH3_64bits(what, sizeof what);
    }
    *out_mark = mark;
    return 0;
}

static int open_shard(struct feature_dump *d, uint32_t rank, struct feature_store **out, struct err *e)
{
    char path[PATH_MAX];
    int rc = shard_path(d->dir, rank, path, e);
    if (rc == 0)
        rc = feature_store_open(path, out, e);
    if (rc != -ENOENT)
        return rc;
    return err_set(e, -ENOENT, "%s is not sealed yet", path);
}

/* Opens what rank 0 says there is. */
static int open_shards(struct feature_dump *d, struct err *e)
{
    struct feature_store *first;
    int rc = open_shard(d, 0, &first, e);
    if (rc)
        return rc;
    d->info = *feature_store_info(first);
    d->shard = calloc(d->info.ranks, sizeof(struct feature_store *));
    if (!d->shard) {
        feature_store_close(first);
        return err_sys(e, ENOMEM, "open %s", d->dir);
    }
    d->shard[0] = first;
    for (uint32_t rank = 1; rc == 0 && rank < d->info.ranks; rank++)
        rc = open_shard(d, rank, &d->shard[rank], e);
    return rc;
}

/* Hashes in hexadecimal. */
static void number(uint64_t v, char out[24])
{
    snprintf(out, 24, v <= UINT32_MAX ? "%" PRIu64 : "%016" PRIx64, v);
}

/* Holds a shard's identities against those of rank 0. */
static int check_identities(const struct feature_dump *d, uint32_t rank, struct err *e)
{
    const struct feature_info *a = &d->info, *b = feature_store_info(d->shard[rank]);
    const struct {
        const char *name;
        uint64_t want, is;
    } fields[] = {
        {"rank", rank, b->rank},
        {"run", a->run, b->run},
        {"manifest", a->manifest, b->manifest},
        {"round", a->round, b->round},
        {"weights", a->weights, b->weights},
        {"heads", a->heads, b->heads},
        {"ranks", a->ranks, b->ranks},
        {"dtype", a->dtype, b->dtype},
        {"encoders", a->encoders, b->encoders},
        {"total", a->total, b->total},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        char is[24], want[24];
        if (fields[i].is == fields[i].want)
            continue;
        number(fields[i].is, is);
        number(fields[i].want, want);
        return err_set(e, XDC_EMISMATCH, "%s/rank-%u was sealed with %s %s, %s %s", d->dir, rank,
                       fields[i].name, is, i == 0 ? "in the place of rank" : "rank 0 with", want);
    }
    for (uint32_t i = 0; i < a->encoders; i++)
        if (strcmp(a->encoder[i].name, b->encoder[i].name) != 0 || a->encoder[i].dim != b->encoder[i].dim)
            return err_set(e, XDC_EMISMATCH,
                           "%s/rank-%u was sealed with encoders %s of %u dimensions, rank 0 with %s of %u",
                           d->dir, rank, b->encoder[i].name, b->encoder[i].dim, a->encoder[i].name,
                           a->encoder[i].dim);
    return 0;
}

/* The shards as one: the same in everything, each beginning where the one before ends. */
static int join_shards(struct feature_dump *d, struct err *e)
{
    uint64_t hashes[FEATURE_RANKS_MAX], next = 0;
    for (uint32_t i = 0; i < d->info.encoders; i++)
        d->info.encoder[i].valid = 0;
    for (uint32_t rank = 0; rank < d->info.ranks; rank++) {
        const struct feature_info *s = feature_store_info(d->shard[rank]);
        int rc = check_identities(d, rank, e);
        if (rc)
            return rc;
        if (s->first != next)
            return err_set(e, XDC_EFORMAT,
                           "%s/rank-%u begins with row %llu, the shards before it end with %llu", d->dir,
                           rank, (unsigned long long)s->first, (unsigned long long)next);
        next += s->rows;
        hashes[rank] = s->hash;
        for (uint32_t i = 0; i < d->info.encoders; i++)
            d->info.encoder[i].valid += s->encoder[i].valid;
    }
    if (next != d->info.total)
        return err_set(e, XDC_EFORMAT, "%s: the shards have %llu rows of %llu", d->dir,
                       (unsigned long long)next, (unsigned long long)d->info.total);
    d->info.rank = 0;
    d->info.first = 0;
    d->info.rows = d->info.total;
    d->info.hash = feature_dump_hash(hashes, d->info.ranks);
    return 0;
}

int feature_dump_open(const char *round_dir, struct feature_dump **out, struct err *e)
{
    struct feature_dump *d = calloc(1, sizeof *d);
    if (!d || !(d->dir = strdup(round_dir))) {
        free(d);
        return err_sys(e, ENOMEM, "open %s", round_dir);
    }
    int rc = open_shards(d, e);
    if (rc == 0)
        rc = join_shards(d, e);
    if (rc) {
        feature_dump_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void feature_dump_close(struct feature_dump *d)
{
    if (!d)
        return;
    for (uint32_t rank = 0; d->shard && rank < d->info.ranks; rank++)
        feature_store_close(d->shard[rank]);
    free(d->shard);
    free(d->dir);
    free(d);
}

const struct feature_info *feature_dump_info(const struct feature_dump *d)
{
    return &d->info;
}

/* The shard of a row that there is: the last that does not begin behind it, since shards may be empty. */
static struct feature_store *shard_of(const struct feature_dump *d, uint64_t row)
{
    uint32_t low = 0, high = d->info.ranks;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (feature_store_info(d->shard[mid])->first <= row)
            low = mid;
        else
            high = mid;
    }
    return d->shard[low];
}

bool feature_dump_has(const struct feature_dump *d, uint32_t encoder, uint64_t row)
{
    return row < d->info.rows && feature_store_has(shard_of(d, row), encoder, row);
}

int feature_dump_read(struct feature_dump *d, uint32_t encoder, uint64_t first, uint64_t n, float *out,
                      struct err *e)
{
    if (encoder >= d->info.encoders || first > d->info.rows || n > d->info.rows - first)
        return err_set(e, -EINVAL, "%s: rows %llu to %llu of encoder %u cannot be read", d->dir,
                       (unsigned long long)first, (unsigned long long)(first + n), encoder);
    while (n) {
        struct feature_store *s = shard_of(d, first);
        const struct feature_info *info = feature_store_info(s);
        uint64_t left = info->first + info->rows - first, rows = left < n ? left : n;
        int rc = feature_store_read(s, encoder, first, rows, out, e);
        if (rc)
            return rc;
        out += rows * d->info.encoder[encoder].dim;
        first += rows;
        n -= rows;
    }
    return 0;
}

int feature_dump_block(const struct feature_dump *d, uint32_t encoder, uint64_t row,
                       struct feature_block *out, struct err *e)
{
    if (encoder >= d->info.encoders || row >= d->info.rows)
        return err_set(e, -EINVAL, "%s: row %llu of encoder %u cannot be read", d->dir,
                       (unsigned long long)row, encoder);
    return feature_store_block(shard_of(d, row), encoder, row, out, e);
}

int feature_dump_verify(struct feature_dump *d, struct err *e)
{
    int rc = 0;
    for (uint32_t rank = 0; rc == 0 && rank < d->info.ranks; rank++)
        rc = feature_store_verify(d->shard[rank], e);
    return rc;
}
