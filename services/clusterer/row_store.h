/* row_store: room for rows of f32, in memory or, above a cap, in an unnamed file that is mapped, so that the
 * kernel keeps as much of it in memory as there is. Used by source, kmeans_source and selavi_job. One thread
 * opens and closes; the rows are for any. Owns memory or file; the file is gone when the process is. On
 * failure it is empty. */
#pragma once
#include <stdint.h>
#include "lib/err.h"
#include "services/clusterer/feed.h"

struct row_store {
    float *x; /* owned, [n, d] */
    uint64_t bytes;
    int fd; /* owned; -1: in memory. Of no meaning while x is NULL */
    uint32_t d;
};

/* cap: bytes of rows that may lie in memory; dir: where the file is made, which leaves reserve_mib free.
 * -ENOMEM, -ENOSPC or errno codes. */
int row_store_open(struct row_store *s, uint64_t n, uint32_t d, uint64_t cap, const char *dir,
                   uint64_t reserve_mib, struct err *e) WARN_UNUSED;
void row_store_close(struct row_store *s);

/* A feed_read of what is in the file: `arg` is the store. d is the caller's to lower when rows are packed
 * closer. */
int row_store_read(void *arg, uint64_t first, uint64_t n, float *out, struct err *e);

/* A feed of the first n rows: of memory, or of the file, in blocks that take no more than the cap of
 * `memory_mib`. -ENOMEM. */
int row_store_feed(struct row_store *s, uint64_t n, int64_t memory_mib, struct feed *out,
                   struct err *e) WARN_UNUSED;

/* Bytes for `configured` MiB; for 0 a third of the memory that is free now, or all where the system does not
 * say. */
uint64_t row_store_cap(int64_t configured);
