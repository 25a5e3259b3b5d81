/* feed: the rows of an array, or those that a reader gives, handed out in chunks to threads. Used by kmeans
 * and sinkhorn. feed_run blocks; one at a time. A reader's rows are read a block ahead on a thread of the
 * feed's own, into two buffers that it owns. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

/* Rows of a block are a multiple of this, so that chunks which divide it are the same from either. */
#define FEED_STEP 1024

/* out [n, d] becomes rows first .. first + n; called from one thread at a time, the blocks of a pass in
 * order, then the first one again for the next pass.
 * 0, or a code with *e set. */
typedef int (*feed_read)(void *arg, uint64_t first, uint64_t n, float *out, struct err *e);

struct feed {
    uint64_t n;
    uint32_t d;
    const float *x; /* [n, d], or NULL: */
    feed_read read;
    void *arg;
    uint64_t block;   /* rows of a buffer */
    float *buffer[2]; /* owned */
    bool primed;      /* buffer[front] holds the first block */
    bool front;
};

/* Works on rows first .. first + rows, x [rows, d]. */
typedef void (*feed_work)(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker);

void feed_array(struct feed *f, const float *x, uint64_t n, uint32_t d);
/* Buffers of `memory` bytes in all, or of one step each where that is more. -ENOMEM. */
int feed_reader(struct feed *f, uint64_t n, uint32_t d, uint64_t memory, feed_read read, void *arg,
                struct err *e) WARN_UNUSED;
void feed_close(struct feed *f);

/* All rows once, in chunks of up to `chunk` rows: one call of work for each, from `threads` threads. 0,
 * XDC_ESTOPPED, or what the reader returned. */
int feed_run(struct feed *f, unsigned threads, const atomic_bool *stop, size_t chunk, feed_work work,
             void *arg, struct err *e) WARN_UNUSED;
