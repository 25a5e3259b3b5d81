/* avio: an AVIOContext that reads one open file descriptor by pread; no path, protocol or network is
 * reachable through it. Used by lib/media/input. One thread. Borrows the descriptor, owns context and buffer.
 */
#pragma once
#include <libavformat/avio.h>
#include <stdint.h>

struct avio_file {
    int fd; /* borrowed */
    int64_t position;
    AVIOContext *ctx; /* owned */
};

/* 0 or AVERROR(ENOMEM); after a failure there is nothing to close. */
int avio_file_open(struct avio_file *f, int fd);
/* Safe on a zeroed struct. */
void avio_file_close(struct avio_file *f);
