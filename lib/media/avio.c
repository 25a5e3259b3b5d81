#include "lib/media/avio.h"

#include <errno.h>
#include <libavutil/error.h>
#include <libavutil/mem.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES (32 * 1024)

static int on_read(void *opaque, uint8_t *buf, int size)
{
    struct avio_file *f = opaque;
    ssize_t n;
    do
        n = pread(f->fd, buf, (size_t)size, f->position);
    while (n < 0 && errno == EINTR);
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
    /* Not fstat: glibc makes a call of it that can look at any path, and the sandbox has no such call. */
    off_t size = lseek(f->fd, 0, SEEK_END);
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

int avio_file_open(struct avio_file *f, int fd)
{
    *f = (struct avio_file){.fd = fd};
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
