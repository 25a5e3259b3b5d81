#include "lib/store.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/store_seal.h"

enum {
    STORE_DBS_MAX = 80,
    PROBE_BYTES = 65536,
    ENV_FLAGS = MDB_NOSUBDIR | MDB_NOTLS | MDB_NOLOCK,
};

/* LMDB reports a short write as EIO, and a disk that fills up gives a short write first: ask the disk itself.
 */
static bool disk_is_full(const struct store *s)
{
    static const char zeros[PROBE_BYTES];
    int fd;
    struct stat st;
    if (mdb_env_get_fd(s->env, &fd) || fstat(fd, &st) < 0)
        return false;
    for (off_t done = 0; done < PROBE_BYTES;) {
        ssize_t n = pwrite(fd, zeros, (size_t)(PROBE_BYTES - done), st.st_size + done);
        if (n < 0)
            return errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
        done += n;
    }
    return false;
}

/* The one place where LMDB's codes become ours. */
static int translate(const struct store *s, int rc, const char *doing, struct err *e)
{
    switch (rc) {
    case 0:
        return 0;
    case MDB_MAP_FULL:
        return err_set(e, -ENOSPC, "%s: %s: the map of %llu bytes is full", s->path, doing,
                       (unsigned long long)s->map_bytes);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return err_set(e, -ENOSPC, "%s: %s: no space left (%s); free some and start again", s->path, doing,
                       strerror(rc));
    case EIO:
        if (disk_is_full(s))
            return err_set(e, -ENOSPC, "%s: %s: no space left; free some and start again", s->path, doing);
        return err_sys(e, EIO, "%s: %s", s->path, doing);
    case ENOENT:
    case ENOMEM:
    case EACCES:
    case EPERM:
    case EROFS:
        return err_sys(e, rc, "%s: %s", s->path, doing);
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return err_set(e, XDC_EFORMAT, "%s: %s: %s", s->path, doing, mdb_strerror(rc));
    default:
        return err_set(e, XDC_ESTORE, "%s: %s: %s", s->path, doing, mdb_strerror(rc));
    }
}

/* Remembers the first failure of a writer and gives up its transaction. */
static int fail(struct store *s, int rc, const char *doing, struct err *e)
{
    struct err mine;
    int code = translate(s, rc, doing, &mine);
    if (!s->failed.code)
        s->failed = mine;
    mdb_txn_abort(s->txn);
    s->txn = NULL;
    return err_set(e, code, "%s", mine.msg);
}

static int sticky(const struct store *s, struct err *e)
{
    return err_set(e, s->failed.code, "%s", s->failed.msg);
}

static int env_create(struct store *s, const char *path, uint64_t map_bytes, struct err *e)
{
    memset(s, 0, sizeof *s);
    int rc = fs_path(s->path, e, "%s", path);
    if (rc < 0)
        return rc;
    s->map_bytes = map_bytes;
    rc = mdb_env_create(&s->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(s->env, STORE_DBS_MAX);
    if (rc == 0 && map_bytes)
        rc = mdb_env_set_mapsize(s->env, map_bytes);
    return translate(s, rc, "set up", e);
}

int store_create(struct store *s, const char *path, uint64_t map_bytes, struct err *e)
{
    int rc = env_create(s, path, map_bytes, e);
    if (rc < 0)
        goto out;
    if (unlink(path) < 0 && errno != ENOENT) {
        rc = err_sys(e, errno, "replace %s", path);
        goto out;
    }
    rc = translate(s, mdb_env_open(s->env, path, ENV_FLAGS | MDB_NOSYNC | MDB_NOMETASYNC, 0666), "create", e);
    if (rc == 0)
        rc = translate(s, mdb_txn_begin(s->env, NULL, 0, &s->txn), "begin", e);
out:
    if (rc < 0)
        store_close(s);
    return rc;
}

int store_open(struct store *s, const char *path, uint64_t check_bytes, struct err *e)
{
    memset(s, 0, sizeof *s);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open %s", path);
    int rc = store_seal_check(path, fd, check_bytes, e);
    close(fd);
    if (rc == 0)
        rc = env_create(s, path, 0, e);
    if (rc == 0)
        rc = translate(s, mdb_env_open(s->env, path, ENV_FLAGS | MDB_RDONLY, 0), "open", e);
    if (rc == 0)
        rc = translate(s, mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->txn), "begin", e);
    if (rc < 0)
        store_close(s);
    return rc;
}

void store_close(struct store *s)
{
    mdb_txn_abort(s->txn);
    if (s->env)
        mdb_env_close(s->env);
    s->txn = NULL;
    s->env = NULL;
}

int store_db(struct store *s, const char *name, bool create, unsigned *out_db, struct err *e)
{
    if (s->failed.code)
        return sticky(s, e);
    int rc = mdb_dbi_open(s->txn, name, MDB_INTEGERKEY | (create ? MDB_CREATE : 0u), out_db);
    if (rc == MDB_NOTFOUND)
        return err_set(e, XDC_EFORMAT, "%s: has no database %s", s->path, name);
    if (rc && create)
        return fail(s, rc, "create a database", e);
    return translate(s, rc, "open a database", e);
}

int store_count(const struct store *s, unsigned db, uint64_t *out, struct err *e)
{
    MDB_stat st;
    int rc = mdb_stat(s->txn, db, &st);
    if (rc == 0)
        *out = st.ms_entries;
    return translate(s, rc, "count", e);
}

int store_append(struct store *s, unsigned db, uint64_t key, size_t size, void **out, struct err *e)
{
    if (s->failed.code)
        return sticky(s, e);
    MDB_val k = {sizeof key, &key}, v = {size, NULL};
    int rc = mdb_put(s->txn, db, &k, &v, MDB_APPEND | MDB_RESERVE);
    if (rc)
        return fail(s, rc, "append", e);
    *out = v.mv_data;
    return 0;
}

int store_get(const struct store *s, unsigned db, uint64_t key, const void **out, size_t *out_size,
              struct err *e)
{
    if (s->failed.code)
        return sticky(s, e);
    MDB_val k = {sizeof key, &key}, v;
    int rc = mdb_get(s->txn, db, &k, &v);
    if (rc == MDB_NOTFOUND)
        return -ENOENT;
    if (rc)
        return translate(s, rc, "read", e);
    *out = v.mv_data;
    *out_size = v.mv_size;
    return 0;
}

/* Between transactions only. Doubles, so that growing costs little however large the file becomes. */
static int grow(struct store *s, uint64_t headroom)
{
    MDB_envinfo info;
    MDB_stat st;
    int rc = mdb_env_info(s->env, &info);
    if (rc == 0)
        rc = mdb_env_stat(s->env, &st);
    if (rc)
        return rc;
    uint64_t need = (info.me_last_pgno + 1) * st.ms_psize + headroom;
    if (need <= s->map_bytes)
        return 0;
    uint64_t bytes = s->map_bytes;
    while (bytes < need)
        bytes *= 2;
    rc = mdb_env_set_mapsize(s->env, bytes);
    if (rc == 0)
        s->map_bytes = bytes;
    return rc;
}

/* The transaction is gone whether the commit succeeds or not. */
static int commit(struct store *s, struct err *e)
{
    if (s->failed.code)
        return sticky(s, e);
    int rc = mdb_txn_commit(s->txn);
    s->txn = NULL;
    return rc ? fail(s, rc, "commit", e) : 0;
}

int store_commit(struct store *s, uint64_t headroom, struct err *e)
{
    int rc = commit(s, e);
    if (rc < 0)
        return rc;
    rc = headroom ? grow(s, headroom) : 0;
    if (rc)
        return fail(s, rc, "grow the map", e);
    rc = mdb_txn_begin(s->env, NULL, 0, &s->txn);
    return rc ? fail(s, rc, "begin", e) : 0;
}

int store_seal(struct store *s, struct err *e)
{
    int fd;
    MDB_envinfo info;
    MDB_stat stat;
    int rc = commit(s, e);
    if (rc < 0)
        return rc;
    if ((rc = mdb_env_info(s->env, &info)) || (rc = mdb_env_stat(s->env, &stat)) ||
        (rc = mdb_env_get_fd(s->env, &fd)))
        return fail(s, rc, "seal", e);
    rc = store_seal_write(s->path, fd, info.me_last_pgno + 1, stat.ms_psize, e);
    if (rc < 0)
        return fail(s, -rc, "seal", e);
    rc = mdb_env_sync(s->env, 1);
    if (rc)
        return fail(s, rc, "seal", e);
    rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->txn);
    return rc ? fail(s, rc, "begin", e) : 0;
}

int store_check(const struct store *s, struct err *e)
{
    int fd;
    int rc = mdb_env_get_fd(s->env, &fd);
    return rc ? translate(s, rc, "check", e) : store_seal_check(s->path, fd, UINT64_MAX, e);
}

bool store_is_at(const struct store *s, const char *path)
{
    int fd;
    struct stat mine, there;
    return !mdb_env_get_fd(s->env, &fd) && !fstat(fd, &mine) && !stat(path, &there) &&
           mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
}
