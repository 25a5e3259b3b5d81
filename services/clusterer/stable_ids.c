#include "services/clusterer/stable_ids.h"
#include "lib/label_table.h"
#include "services/clusterer/contingency.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int stable_ids_find(const uint32_t *labels, const uint32_t *previous, uint64_t n, uint32_t k, uint32_t *id,
                    struct err *e)
{
    struct contingency t;
    int rc = contingency_init(&t, labels, previous, n, e);
    if (rc == 0) {
        for (uint64_t i = 0; i < t.cells; i++) {
            t.cell[i].row = t.row_label[t.cell[i].row];
            t.cell[i].column = t.column_label[t.cell[i].column];
        }
        rc = match_maximum(t.cell, t.cells, k, k, id, e);
    }
    contingency_close(&t);
    return rc;
}

void stable_ids_rename(uint32_t *labels, uint64_t n, const uint32_t *id)
{
    for (uint64_t i = 0; i < n; i++)
        if (labels[i] != LABEL_NONE)
            labels[i] = id[labels[i]];
}

int stable_ids_move(float *centroids, uint32_t k, uint32_t d, const uint32_t *id, struct err *e)
{
    size_t row = d * sizeof *centroids;
    float *moved = malloc(k * row);
    if (!moved)
        return err_sys(e, ENOMEM, "%u centroids", k);
    for (uint32_t c = 0; c < k; c++)
        memcpy(moved + (size_t)id[c] * d, centroids + (size_t)c * d, row);
    memcpy(centroids, moved, k * row);
    free(moved);
    return 0;
}
