#include "lib/media_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/tar.h"

#define MARK ".tar#"
#define DIGITS 12 /* at least: members of an archive sort by place */
#define DIGITS_MAX 18

static int64_t mtime_of(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

int media_file_member_uri(char *out, size_t size, const char *archive, uint64_t at, const char *name)
{
    int n = snprintf(out, size, "%s#%0*" PRIu64 "/%s", archive, DIGITS, at, name);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* The next place of the uri, from `from` on, where an archive's name may end: its '#'. NULL: there is none.
 */
static const char *next_mark(const char *from, uint64_t *out_at, const char **out_name)
{
    const char *found;
    while ((found = strcasestr(from, MARK))) {
        const char *digits = found + strlen(MARK);
        size_t n = strspn(digits, "0123456789");
        from = digits;
        if (n < DIGITS || n > DIGITS_MAX || (n > DIGITS && *digits == '0') || digits[n] != '/' ||
            !digits[n + 1])
            continue;
        *out_at = strtoull(digits, NULL, 10);
        *out_name = digits + n + 1;
        return digits - 1;
    }
    return NULL;
}

const char *media_file_name_in(const char *uri)
{
    const char *name;
    uint64_t at;
    return next_mark(uri, &at, &name) ? name : NULL;
}

/* A regular file: its descriptor, or -errno. */
static int open_regular(const char *root, const char *path, struct stat *st)
{
    int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK; /* a FIFO must not hold us up */
    int fd;
    if (path[0] == '/' || !root || !*root) {
        fd = open(path, flags);
    } else {
        int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
            return -errno;
        struct open_how how = {.flags = (unsigned)flags, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
        fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
        int errnum = errno;
        close(dir);
        errno = errnum;
    }
    if (fd < 0)
        return -errno;
    int rc = fstat(fd, st) < 0 ? -errno : S_ISREG(st->st_mode) ? 0 : -EINVAL;
    if (rc < 0)
        close(fd);
    return rc < 0 ? rc : fd;
}

/* Whether the member begins there, under that name. */
static int find_member(struct media_file *f, const struct stat *st, uint64_t at, const char *name,
                       const char *uri, struct err *e)
{
    struct tar_member m;
    struct err why = {0};
    int rc = tar_member(f->fd, (uint64_t)st->st_size, at, "the archive", &m, &why);
    if (rc == XDC_EFORMAT)
        return err_set(e, XDC_EMISMATCH, "open %s: not as it was indexed: %.200s", uri, why.msg);
    if (rc < 0)
        return err_set(e, rc, "open %s: %.200s", uri, why.msg);
    if (rc == 0 || m.kind != TAR_FILE || strcmp(m.name, name) != 0)
        return err_set(e, XDC_EMISMATCH,
                       "open %s: not as it was indexed: at byte %llu of the archive there is %.200s", uri,
                       (unsigned long long)at, rc ? m.name : "its end");
    f->window = (struct media_window){.offset = m.data, .bytes = m.size};
    f->size = m.size;
    return 0;
}

static bool is_absent(int rc)
{
    return rc == -ENOENT || rc == -ENOTDIR || rc == -ENAMETOOLONG;
}

/* The leftmost mark behind a name that is a file's counts. -ENOENT: there is none. */
static int open_member(const char *root, const char *uri, struct media_file *out, struct err *e)
{
    char path[PATH_MAX];
    const char *name, *from = uri, *mark;
    struct stat st;
    uint64_t at;
    while ((mark = next_mark(from, &at, &name))) {
        from = mark;
        if (fs_path(path, NULL, "%.*s", (int)(mark - uri), uri) < 0)
            continue;
        out->fd = open_regular(root, path, &st);
        if (is_absent(out->fd) || out->fd == -EINVAL)
            continue;
        if (out->fd < 0)
            return err_sys(e, -out->fd, "open %s", uri);
        out->mtime_ns = mtime_of(&st);
        int rc = find_member(out, &st, at, name, uri, e);
        if (rc < 0) {
            close(out->fd);
            out->fd = -1;
        }
        return rc;
    }
    return -ENOENT;
}

int media_file_open(const char *root, const char *uri, struct media_file *out, struct err *e)
{
    struct stat st;
    *out = (struct media_file){.fd = open_regular(root, uri, &st)};
    int rc = out->fd;
    if (rc >= 0) {
        out->size = (uint64_t)st.st_size;
        out->mtime_ns = mtime_of(&st);
        return 0;
    }
    if (is_absent(rc)) {
        int member = open_member(root, uri, out, e);
        if (member != -ENOENT)
            return member;
    }
    if (rc == -EINVAL)
        return err_set(e, rc, "open %s: not a regular file", uri);
    return err_sys(e, -rc, "open %s%s%s", uri, root && *root && uri[0] != '/' ? " below " : "",
                   root && uri[0] != '/' ? root : "");
}

int media_file_again(struct media_file *f, const char *uri, struct err *e)
{
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return err_sys(e, errno, "%s", uri);
    uint64_t bytes = (uint64_t)st.st_size, begin = f->window.offset;
    uint64_t left = bytes > begin ? bytes - begin : 0;
    f->size = begin && f->window.bytes < left ? f->window.bytes : left;
    f->mtime_ns = mtime_of(&st);
    return 0;
}

int media_file_stat(const char *root, const char *uri, uint64_t *out_size, int64_t *out_mtime_ns)
{
    char path[PATH_MAX];
    struct stat st;
    struct media_file f;
    uint64_t at;
    const char *name;
    int rc = uri[0] == '/' ? fs_path(path, NULL, "%s", uri) : fs_path(path, NULL, "%s/%s", root, uri);
    if (rc == 0 && stat(path, &st) == 0) {
        *out_size = (uint64_t)st.st_size;
        *out_mtime_ns = mtime_of(&st);
        return 0;
    }
    if (rc == 0)
        rc = -errno;
    if (!next_mark(uri, &at, &name) || media_file_open(root, uri, &f, NULL) < 0)
        return rc;
    close(f.fd);
    *out_size = f.size;
    *out_mtime_ns = f.mtime_ns;
    return 0;
}
