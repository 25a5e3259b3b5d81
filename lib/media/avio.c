#include "lib/media/avio.h"

#include <errno.h>
#include <libavutil/error.h>
#include <libavutil/mem.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES (32 * 1024)

int64_t avio_file_size(const struct avio_file *f)
{
    /* Not fstat: glibc makes a call of it that can look at any path, and the sandbox has no such call. */
    return f->window.offset ? (int64_t)f->window.bytes : lseek(f->fd, 0, SEEK_END);
}

ssize_t avio_file_pread(const struct avio_file *f, void *out, size_t size, int64_t at)
{
    int64_t begin = (int64_t)f->window.offset;
    ssize_t n;
    if (at < 0) {
        errno = EINVAL;
        return -1;
    }
    if (begin) {
        int64_t left = (int64_t)f->window.bytes - at;
        if (left <= 0)
            return 0;
        size = size < (uint64_t)left ? size : (size_t)left;
    }
    do
        n = pread(f->fd, out, size, begin + at);
    while (n < 0 && errno == EINTR);
    return n;
}

static int on_read(void *opaque, uint8_t *buf, int size)
{
    struct avio_file *f = opaque;
    ssize_t n = avio_file_pread(f, buf, (size_t)size, f->position);
    if (n < 0)
        return AVERROR(errno);
    if (n == 0)
        return AVERROR_EOF;
    f->position += n;
    return (int)n;
}

static int64_t on_seek(void *opaque, int64_t offset, int whence)
{
    struct avio_file *f = opaque;
    int64_t size = avio_file_size(f);
    if (size < 0)
        return AVERROR(errno);
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE)
        return size;
    int64_t base = whence == SEEK_CUR ? f->position : whence == SEEK_END ? size : 0;
    if (offset < -base || (offset > 0 && base > INT64_MAX - offset))
        return AVERROR(EINVAL);
    f->position = base + offset;
    return f->position;
}

int avio_file_open(struct avio_file *f, int fd, const struct media_window *window)
{
    *f = (struct avio_file){.fd = fd, .window = *window};
    if (window->offset > INT64_MAX / 2 || (window->offset && window->bytes > INT64_MAX / 2))
        return AVERROR(EINVAL);
    unsigned char *buffer = av_malloc(BUFFER_BYTES);
    if (!buffer)
        return AVERROR(ENOMEM);
    f->ctx = avio_alloc_context(buffer, BUFFER_BYTES, 0, f, on_read, NULL, on_seek);
    if (!f->ctx) {
        av_free(buffer);
        return AVERROR(ENOMEM);
    }
    return 0;
}

void avio_file_close(struct avio_file *f)
{
    if (!f->ctx)
        return;
    av_freep(
        &f->ctx->buffer); /* libavformat may have replaced the buffer: the context knows the present one */
    avio_context_free(&f->ctx);
}
