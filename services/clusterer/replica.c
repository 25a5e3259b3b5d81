#include "services/clusterer/replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/fsutil.h"
#include "lib/label_table.h"
#include "lib/log.h"

#define PAGE_BYTES ((uint64_t)4096)
#define HEADS_MAX ((size_t)1 << 30)

int replica_dir(const struct replica *r, char out[PATH_MAX], struct err *e)
{
    return fs_path(out, e, "%s/features/round-%04u/rank-%u", r->conf->run.dir, r->info.round, r->info.rank);
}

int replica_heads_part(const struct replica *r, char out[PATH_MAX], struct err *e)
{
    char dir[PATH_MAX];
    int rc = replica_dir(r, dir, e);
    return rc < 0 ? rc : fs_path(out, e, "%s.tmp/heads.part", dir);
}

/* As the sealed shard has them, while it is unsealed. */
static int heads_path(const struct replica *r, char out[PATH_MAX], struct err *e)
{
    char dir[PATH_MAX];
    int rc = replica_dir(r, dir, e);
    return rc < 0 ? rc : fs_path(out, e, "%s.tmp/heads.safetensors", dir);
}

static int table_path(const struct replica *r, char out[PATH_MAX], struct err *e)
{
    return fs_path(out, e, "%s/labels/round-%04u.xdcl", r->conf->run.dir, r->info.round - 1);
}

int replica_table_part(const struct replica *r, char out[PATH_MAX], struct err *e)
{
    char path[PATH_MAX];
    int rc = table_path(r, path, e);
    return rc < 0 ? rc : fs_path(out, e, "%s.part", path);
}

static bool is_table_before(const struct replica *r, const char *path)
{
    struct label_table *t;
    if (label_table_open(path, &t, NULL) < 0)
        return false;
    const struct label_info *i = label_table_info(t);
    bool right = i->run == r->run && i->manifest == r->manifest && i->round + 1 == r->info.round;
    label_table_close(t);
    return right;
}

/* 1: the sealed shard is there. One of another hash is of a dump that is no more. */
static int look_at_sealed(const struct replica *r, const char *dir, struct err *e)
{
    struct feature_store *s;
    if (access(dir, F_OK) < 0)
        return 0;
    if (feature_store_open(dir, &s, NULL) == 0) {
        bool same = feature_store_info(s)->hash == r->info.hash;
        feature_store_close(s);
        if (same)
            return 1;
    }
    return fs_remove_tree(dir, e);
}

/* Bytes of all that may be stored: values in whole pages; a page a block holds its keys, bitmap and progress.
 */
static uint64_t size_of(const struct feature_info *info)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < info->encoders; i++)
        bytes +=
            FEATURE_BLOCK_ROWS * info->encoder[i].dim * feature_value_bytes(info->dtype) + 2 * PAGE_BYTES;
    return bytes * feature_block_count(info);
}

/* Room for what is not there yet. */
static int check_room(const struct replica *r, const char *dir, struct err *e)
{
    char parent[PATH_MAX], path[PATH_MAX], what[64];
    struct stat st;
    uint64_t need = size_of(&r->info), there = 0;
    int rc = fs_path(parent, e, "%s/features/round-%04u", r->conf->run.dir, r->info.round);
    if (rc == 0)
        rc = fs_mkdirs(parent, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s.tmp/data.mdb", dir);
    if (rc < 0)
        return rc;
    if (stat(path, &st) == 0)
        there = (uint64_t)st.st_blocks * 512;
    snprintf(what, sizeof what, "the replica of round %u, rank %u", r->info.round, r->info.rank);
    return fs_check_room(parent, what, need > there ? need - there : 0,
                         (uint64_t)r->conf->limits.disk_reserve_mib, e);
}

/* Heads come behind the blocks: those beside none are of another shard. */
static int drop_heads(const struct replica *r, struct err *e)
{
    char part[PATH_MAX], path[PATH_MAX];
    int rc = replica_heads_part(r, part, e);
    if (rc == 0)
        rc = heads_path(r, path, e);
    if (rc < 0)
        return rc;
    unlink(part);
    unlink(path);
    return 0;
}

static int begin(struct replica *r, struct err *e)
{
    char dir[PATH_MAX], table[PATH_MAX];
    int rc = replica_dir(r, dir, e);
    if (rc == 0)
        rc = look_at_sealed(r, dir, e);
    if (rc != 0) {
        r->already = rc == 1;
        return rc == 1 ? 0 : rc;
    }
    rc = check_room(r, dir, e);
    if (rc == 0)
        rc = feature_replica_open(dir, &r->record, &r->copy, e);
    if (rc == 0 && feature_replica_found(r->copy) == 0)
        rc = drop_heads(r, e);
    if (rc == 0 && r->info.rank == 0 && r->info.round > 0) {
        rc = table_path(r, table, e);
        r->wants_table = rc == 0 && !is_table_before(r, table);
    }
    return rc;
}

void replica_begin(struct replica *r)
{
    r->already = r->wants_table = false;
    r->result = begin(r, &r->err);
}

static int check_heads(const struct replica *r, struct err *e)
{
    char part[PATH_MAX], path[PATH_MAX], *data;
    size_t size;
    int rc = replica_heads_part(r, part, e);
    if (rc == 0)
        rc = heads_path(r, path, e);
    if (rc == 0 && access(part, F_OK) < 0) /* renamed before the process was killed */
        rc = rename(path, part) < 0 ? err_sys(e, errno, "look for the heads %s", path) : 0;
    if (rc == 0)
        rc = fs_read(part, HEADS_MAX, &data, &size, e);
    if (rc < 0)
        return rc;
    uint64_t hash = XXH3_64bits(data, size);
    free(data);
    if (hash != r->info.heads) {
        unlink(part);
        return err_set(e, XDC_EFORMAT, "%s: the heads are not those that were sealed", path);
    }
    return rename(part, path) < 0 ? err_sys(e, errno, "rename %s to %s", part, path) : 0;
}

/* A table that is none is as one that is not there: labels then have numbers of their own. */
static int take_table(const struct replica *r, struct err *e)
{
    char part[PATH_MAX], path[PATH_MAX];
    int rc = replica_table_part(r, part, e);
    if (rc == 0)
        rc = table_path(r, path, e);
    if (rc < 0 || access(part, F_OK) < 0)
        return rc;
    if (is_table_before(r, part))
        return rename(part, path) < 0 ? err_sys(e, errno, "rename %s to %s", part, path) : 0;
    unlink(part);
    return err_set(e, XDC_EFORMAT, "%s: what came is not the label table of the round before", path);
}

void replica_finish(struct replica *r)
{
    int rc = r->wants_table ? take_table(r, &r->err) : 0;
    if (rc == 0 && r->info.heads && r->info.rank == 0)
        rc = check_heads(r, &r->err);
    if (rc == 0)
        rc = feature_replica_seal(r->copy, &r->err);
    replica_close(r);
    r->result = rc;
}

void replica_close(struct replica *r)
{
    feature_replica_close(r->copy);
    r->copy = NULL;
}
