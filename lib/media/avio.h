/* avio: an AVIOContext that reads one open file descriptor, or a window of it, by pread; no path, protocol or
 * network is reachable through it, and no byte outside of the window. Used by lib/media/input and container.
 * One thread. Borrows the descriptor, owns context and buffer. */
#pragma once
#include <libavformat/avio.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/media_file.h"

struct avio_file {
    int fd; /* borrowed */
    struct media_window window;
    int64_t position; /* within the window, as all places here */
    AVIOContext *ctx; /* owned */
};

/* 0 or AVERROR(ENOMEM), AVERROR(EINVAL) of a window that cannot be; after a failure there is nothing to
 * close. */
int avio_file_open(struct avio_file *f, int fd, const struct media_window *window);
/* Safe on a zeroed struct. */
void avio_file_close(struct avio_file *f);
/* Bytes of the window, or of the file as it is now; negative where it cannot be told. */
int64_t avio_file_size(const struct avio_file *f);
/* pread within the window: 0 at its end. */
ssize_t avio_file_pread(const struct avio_file *f, void *out, size_t size, int64_t at);
