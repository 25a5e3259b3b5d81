#include "lib/file_pull.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/fsutil.h"

int file_pull_open(struct file_pull *p, const char *path, struct err *e)
{
    struct stat st;
    *p = (struct file_pull){.fd = -1};
    int rc = fs_path(p->path, e, "%s", path);
    if (rc < 0)
        return rc;
    p->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (p->fd < 0 || fstat(p->fd, &st) < 0) {
        rc = err_sys(e, errno, "open %s", path);
        file_pull_close(p);
        return rc;
    }
    p->at = p->found = (uint64_t)st.st_size;
    return 0;
}

int file_pull_put(struct file_pull *p, uint64_t offset, uint64_t size, uint64_t max, const void *data,
                  size_t n, struct err *e)
{
    uint64_t left = size > p->at ? size - p->at : 0;
    if (offset != p->at || size < p->at || size > max || (p->size && size != p->size) ||
        n != (left < FILE_PIECE_BYTES ? left : FILE_PIECE_BYTES))
        return err_set(e, XDC_EFORMAT,
                       "%s: a piece of %zu bytes from %llu on of %llu came where %llu of %llu was due",
                       p->path, n, (unsigned long long)offset, (unsigned long long)size,
                       (unsigned long long)p->at, (unsigned long long)p->size);
    int rc = n ? fs_append(p->fd, data, n, p->path, e) : 0;
    if (rc < 0)
        return rc;
    p->at += n;
    p->size = size;
    return 0;
}

bool file_pull_done(const struct file_pull *p)
{
    return p->fd >= 0 && p->size > 0 && p->at == p->size;
}

void file_pull_close(struct file_pull *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

void file_pull_discard(struct file_pull *p)
{
    file_pull_close(p);
    unlink(p->path);
}

int file_pull_publish(struct file_pull *p, const char *path, struct err *e)
{
    char dir[PATH_MAX];
    int rc = fsync(p->fd) < 0 ? err_sys(e, errno, "sync %s", p->path) : 0;
    file_pull_close(p);
    if (rc == 0)
        rc = fs_path(dir, e, "%s", path);
    if (rc < 0)
        return rc;
    if (rename(p->path, path) < 0)
        return err_sys(e, errno, "rename %s to %s", p->path, path);
    char *slash = strrchr(dir, '/');
    if (slash)
        *slash = '\0';
    return fs_sync_dir(slash ? dir : ".", e);
}

int file_piece_read(const char *path, uint64_t offset, void *out, size_t *out_n, uint64_t *out_size,
                    struct err *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open %s", path);
    int rc = fstat(fd, &st) < 0 ? err_sys(e, errno, "stat %s", path) : 0;
    uint64_t size = rc == 0 ? (uint64_t)st.st_size : 0, left = size > offset ? size - offset : 0;
    *out_n = left < FILE_PIECE_BYTES ? (size_t)left : FILE_PIECE_BYTES;
    *out_size = size;
    if (rc == 0 && *out_n)
        rc = fs_read_at(fd, out, *out_n, offset, path, e);
    close(fd);
    return rc;
}
