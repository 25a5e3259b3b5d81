/* contingency: two labelings of the same clips as a table of counts, of which only the cells that occur are
 * kept. Used by quality and stable_ids. Pure; any thread. The table owns its arrays. Fails on memory alone.
 */
#pragma once
#include <stdint.h>
#include "lib/err.h"
#include "services/clusterer/match.h"

struct contingency {
    uint64_t n; /* clips with a label in both */
    uint64_t cells, rows, columns;
    struct match_cell *cell; /* owned, by row and column: places in the arrays below */
    uint64_t *row_size;      /* owned, [rows] clips */
    uint64_t *column_size;   /* owned, [columns] */
    uint32_t *row_label;     /* owned, [rows], ascending: a label of `a` */
    uint32_t *column_label;  /* owned, [columns], ascending: a label of `b` */
};

/* a, b [n]: any u32, or LABEL_NONE. 0 or -ENOMEM; closed either way by contingency_close. */
int contingency_init(struct contingency *t, const uint32_t *a, const uint32_t *b, uint64_t n,
                     struct err *e) WARN_UNUSED;
void contingency_close(struct contingency *t);
