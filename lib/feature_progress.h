/* feature_progress: the file beside an unsealed dump that says which blocks are in it, so that an interrupted
 * writer goes on: what is being written, then an entry for each block, appended behind it. Used by
 * feature_writer alone. Blocking; one thread at a time. Owns a descriptor. Entries carry their own check,
 * seeded with what is being written: the first that is torn or foreign ends the file. -ENOSPC changes
 * nothing. */
#pragma once
#include <limits.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/feature_record.h"

struct feature_progress {
    int fd;        /* owned */
    uint64_t size; /* of what counts */
    uint64_t seed;
    char path[PATH_MAX];
};

/* A block that is in the dump. */
struct feature_mark {
    uint32_t kind, encoder; /* kind: set by append */
    uint64_t block;
    uint64_t hash; /* of the encoder's blocks up to this one, as the dump's record has it of all */
    uint8_t valid[FEATURE_BITMAP_BYTES];
    uint64_t check; /* set by append */
};
_Static_assert(sizeof(struct feature_mark) == 32 + FEATURE_BITMAP_BYTES, "no padding");

/* An entry of one kind or the other. */
struct feature_entry {
    bool is_note;
    struct feature_note note;
    struct feature_mark mark;
};

/* Opens the file of the dump that `begun` describes (its valids and hashes are 0, but for a copy); one of
 * another is emptied. */
int feature_progress_open(struct feature_progress *p, const char *path, const struct feature_record *begun,
                          struct err *e) WARN_UNUSED;
/* Safe on one with fd -1. */
void feature_progress_close(struct feature_progress *p);
/* The next entry of an earlier writer, and the place behind it: 1, 0 behind the last one that is whole. */
int feature_progress_next(const struct feature_progress *p, uint64_t *at, struct feature_entry *out,
                          struct err *e) WARN_UNUSED;
/* Cuts off all entries from `at` on. */
int feature_progress_cut(struct feature_progress *p, uint64_t at, struct err *e) WARN_UNUSED;
int feature_progress_mark(struct feature_progress *p, struct feature_mark *mark, struct err *e) WARN_UNUSED;
int feature_progress_note(struct feature_progress *p, const struct feature_note *note,
                          struct err *e) WARN_UNUSED;
int feature_progress_sync(const struct feature_progress *p, struct err *e) WARN_UNUSED;
