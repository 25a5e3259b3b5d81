#include "lib/tensor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/fsutil.h"

size_t tensor_dtype_size(enum tensor_dtype d)
{
    switch (d) {
    case TENSOR_U8:
        return 1;
    case TENSOR_F16:
        return 2;
    case TENSOR_I32:
    case TENSOR_U32:
    case TENSOR_F32:
        return 4;
    case TENSOR_I64:
    case TENSOR_F64:
        return 8;
    }
    return 0;
}

const char *tensor_dtype_name(enum tensor_dtype d)
{
    static const char *const names[] = {"?", "u8", "i32", "u32", "i64", "f16", "f32", "f64"};
    return names[d];
}

const char *tensor_shape_text(const struct tensor *t, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "[");
    for (uint32_t i = 0; i < t->ndim && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%llu", i ? ", " : "", (unsigned long long)t->shape[i]);
    if (n < size)
        snprintf(out + n, size - n, "]");
    return out;
}

uint64_t tensor_count(const struct tensor *t)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

int tensor_bytes(const struct tensor *t, uint64_t *out, struct err *e)
{
    size_t item = tensor_dtype_size(t->dtype);
    if (!item)
        return err_set(e, XDC_EFORMAT, "unknown dtype %d", (int)t->dtype);
    if (t->ndim > TENSOR_DIMS_MAX)
        return err_set(e, XDC_EFORMAT, "%u dimensions, at most %d are supported", t->ndim, TENSOR_DIMS_MAX);
    /* A zero does not excuse the other dimensions: whoever multiplies in another order must not overflow
     * either. */
    uint64_t bytes = item;
    int empty = 0;
    for (uint32_t i = 0; i < t->ndim; i++) {
        uint64_t d = t->shape[i];
        if (d == 0)
            empty = 1;
        else if (__builtin_mul_overflow(bytes, d, &bytes) || bytes > INT64_MAX)
            return err_set(e, XDC_EFORMAT, "the product of its dimensions overflows");
    }
    *out = empty ? 0 : bytes;
    return 0;
}

/* Directory part of `path`, "." without one. */
static void parent_of(const char *path, char out[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(out, PATH_MAX, ".");
    else
        snprintf(out, PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static int write_and_sync(int fd, const char *tmp, const struct iovec *parts, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        int r = parts[i].iov_len ? fs_write_all(fd, parts[i].iov_base, parts[i].iov_len, tmp, e) : 0;
        if (r < 0)
            return r;
    }
    if (fsync(fd) < 0)
        return err_sys(e, errno, "sync %s", tmp);
    return 0;
}

int tensor_write_parts(const char *path, const struct iovec *parts, size_t n, struct err *e)
{
    char tmp[PATH_MAX], parent[PATH_MAX];
    int r = fs_path(tmp, e, "%s.tmp", path);
    if (r < 0)
        return r;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_sys(e, errno, "create %s", tmp);
    r = write_and_sync(fd, tmp, parts, n, e);
    if (close(fd) < 0 && r == 0)
        r = err_sys(e, errno, "close %s", tmp);
    if (r == 0 && rename(tmp, path) < 0)
        r = err_sys(e, errno, "rename %s to %s", tmp, path);
    if (r < 0) {
        unlink(tmp);
        return r;
    }
    parent_of(path, parent);
    return fs_sync_dir(parent, e);
}
