/* file_pull: a file that comes in pieces from another process, and the reading of such pieces. Used by
 * clusterer/features_pull and trainer/labels_in (pull), trainer/features_serve and clusterer/labels_out
 * (read). Blocking, in pieces of FILE_PIECE_BYTES; one thread at a time. A pull owns a descriptor; what came
 * before its process was killed stays under the temporary name, and the pull goes on behind it. Whether the
 * bytes are the right ones is the caller's to see before the file gets its name. */
#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

#define FILE_PIECE_BYTES ((size_t)1 << 20)
/* Pieces that one request may ask for: bytes in flight are bounded by it. */
#define FILE_WINDOW 8

struct file_pull {
    int fd; /* owned; -1: closed */
    uint64_t at;
    uint64_t size;  /* of the whole file, once a piece came */
    uint64_t found; /* bytes that were there when it was opened */
    char path[PATH_MAX];
};

/* Opens the temporary file `path`, at the end of what is there. */
int file_pull_open(struct file_pull *p, const char *path, struct err *e) WARN_UNUSED;
/* Appends the piece at `offset` of a file of `size` bytes. XDC_EFORMAT, and nothing has changed: it is not
 * the next one, has not the length that it must have, or the file was said to have another size; also more
 * than `max`. */
int file_pull_put(struct file_pull *p, uint64_t offset, uint64_t size, uint64_t max, const void *data,
                  size_t n, struct err *e) WARN_UNUSED;
/* All of a file is there whose size is known. */
bool file_pull_done(const struct file_pull *p);
/* Closes; the file stays for the next one. A closed one is fine. */
void file_pull_close(struct file_pull *p);
/* Closes and removes the file. */
void file_pull_discard(struct file_pull *p);
/* Syncs, closes and renames to `path`. */
int file_pull_publish(struct file_pull *p, const char *path, struct err *e) WARN_UNUSED;

/* Reads the piece of the file at `path` from `offset` on into out[FILE_PIECE_BYTES]. 0 with its length (0 at
 * the end) and the file's size. -ENOENT. */
int file_piece_read(const char *path, uint64_t offset, void *out, size_t *out_n, uint64_t *out_size,
                    struct err *e) WARN_UNUSED;
