/* dump_writer: writes a round's dump beside the extraction: rows go through a bounded queue to a thread, so
 * that the disk's pauses are not the training thread's. Used by train_extract. All calls are the training
 * thread's; the dump itself is the writer's thread's between start and stop. Owns the dump, the queue and the
 * thread. A full disk is waited out, everything else fails at the next call of any kind; a writer that has
 * failed or was stopped leaves an unsealed dump that goes on. */
#pragma once
#include <stdatomic.h>
#include "lib/feature_store.h"

#define DUMP_WRITER_QUEUE_BYTES ((size_t)32 << 20)

struct dump_writer;

/* Says that writing waits for room in the file system, and why; NULL: it goes on. Any thread. */
typedef void (*dump_writer_on_pause)(void *arg, const char *why);

struct dump_writer_options {
    size_t queue_bytes;      /* at least one row's */
    double retry_s;          /* between looks for room */
    const atomic_bool *stop; /* ends every wait with XDC_ESTOPPED */
    dump_writer_on_pause on_pause;
    void *arg;
};

/* Starts the thread. Takes `store`, on failure too. */
int dump_writer_start(struct feature_store *store, const struct dump_writer_options *o,
                      struct dump_writer **out, struct err *e) WARN_UNUSED;
/* feature_store_put and feature_store_note, later; they wait while the queue is full. XDC_ESTOPPED. */
int dump_writer_put(struct dump_writer *w, uint32_t encoder, uint64_t row, const float *values,
                    struct err *e) WARN_UNUSED;
int dump_writer_note(struct dump_writer *w, uint64_t row, uint32_t reason, struct err *e) WARN_UNUSED;
/* Waits until all that was put is in the dump, and seals it. XDC_ESTOPPED. */
int dump_writer_seal(struct dump_writer *w, uint64_t *out_hash, struct err *e) WARN_UNUSED;
/* Seconds that put has waited for the disk. */
double dump_writer_waited_s(struct dump_writer *w);
/* Writes what is in the queue, unless the disk is full or writing has failed; ends the thread. NULL is fine.
 */
void dump_writer_close(struct dump_writer *w);
