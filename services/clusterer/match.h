/* match: the one-to-one assignment of rows to columns with the largest total weight, by shortest augmenting
 * paths (Hungarian method, Jonker and Volgenant 1987) over the cells that are not zero. Used by stable_ids,
 * align and quality. Pure; any thread; owns nothing but what it frees. Whole numbers: exact, and the same
 * answer everywhere. Fails on memory alone. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

#define MATCH_NONE UINT32_MAX

struct match_cell {
    uint32_t row, column;
    uint64_t weight; /* above 0; all weights together below 2^62 */
};

/* cells [n], by rising row, at most one of each row and column; absent ones weigh 0. out_column [rows]: the
 * column of each row. Rows whose weight is better given up take the lowest columns that are left, in order,
 * then MATCH_NONE. Of equally short paths the one that ends in the lowest column is taken. At worst O(rows
 * cells log columns), mostly far less. 0 or -ENOMEM. */
int match_maximum(const struct match_cell *cells, uint64_t n, uint32_t rows, uint32_t columns,
                  uint32_t *out_column, struct err *e) WARN_UNUSED;
