/* pair_counts: of all pairs of clips, how many lie in one cluster of a first clustering, of a second one, of
 * both, of either, and how many of those are of one class (algorithms.md 3.3 and 6). Used by compare_pairs.
 * One thread. Owns a table of the cells (first, second, class) that occur, 24 bytes each at a load of a third
 * to two thirds; no pair is gone through: a cell of n clips has n (n - 1) / 2. Fails on memory alone. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

/* both: the cells of the two clusterings; either = first + second - both. */
enum pair_kind { PAIRS_ALL, PAIRS_FIRST, PAIRS_SECOND, PAIRS_BOTH, PAIRS_EITHER, PAIR_KINDS };

struct pair_sum {
    uint64_t pairs, same_class;
};

struct pair_cell {
    uint32_t key[3]; /* first, second, class */
    uint64_t clips;  /* 0: no cell */
};

/* Zeroed: empty. */
struct pair_counts {
    struct pair_cell *cell; /* owned, [room] */
    uint64_t room, used;    /* room: 0 or a power of two */
};

/* Counts a clip. 0 or -ENOMEM, which leaves the table as it was. */
int pair_counts_add(struct pair_counts *t, uint32_t first, uint32_t second, uint32_t class,
                    struct err *e) WARN_UNUSED;
/* Exact below 2^32 clips. Empties the table, which keeps its memory. */
void pair_counts_take(struct pair_counts *t, struct pair_sum out[PAIR_KINDS]);
void pair_counts_close(struct pair_counts *t);
