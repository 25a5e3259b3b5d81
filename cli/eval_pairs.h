/* eval_pairs: the rows of two feature files that are of the same clips. Used by eval_heads. Pure; one thread.
 * Owns its arrays. Faults name the files and the rows. */
#pragma once
#include "cli/eval_rows.h"

struct eval_pairs {
    uint64_t n;               /* clips that both files have */
    uint64_t *first, *second; /* owned, [n]: their rows in both, by video and clip */
    uint32_t *label;          /* owned, [n]: as the first file says, or LABEL_NONE */
    uint64_t only[2];         /* rows of the first, and of the second file, that the other one has not */
};

/* Clips are told by "video" and "clip". `part`: enum eval_split, 0 for all; the first file's splits count.
 * XDC_EFORMAT: a row without "clip", two rows of one clip, rows of one number that are of different files or
 * do not overlap in time, or no clip in both. */
int eval_pairs_match(const struct eval_rows *first, const struct eval_rows *second, int part,
                     struct eval_pairs *out, struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void eval_pairs_close(struct eval_pairs *p);
