#include "services/clusterer/kmeans.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Weight of a cluster as a donor. */
static uint64_t spare(const uint64_t *counts, const bool *used, uint32_t c)
{
    return counts[c] > 1 && !used[c] ? counts[c] - 1 : 0;
}

static uint32_t draw_donor(const uint64_t *counts, bool *used, uint32_t k, struct rng *r)
{
    uint64_t total = 0;
    for (uint32_t c = 0; c < k; c++)
        total += spare(counts, used, c);
    if (total == 0) { /* every donor has given once: begin again */
        memset(used, 0, k * sizeof *used);
        for (uint32_t c = 0; c < k; c++)
            total += spare(counts, used, c);
    }
    uint64_t at = rng_below(r, total);
    uint32_t c = 0;
    while (at >= spare(counts, used, c))
        at -= spare(counts, used, c++);
    return c;
}

uint32_t kmeans_split_empty(float *centroids, uint64_t *counts, uint32_t k, uint32_t d, struct rng *r)
{
    uint32_t filled = 0;
    bool *used = NULL;
    for (uint32_t c = 0; c < k; c++) {
        if (counts[c])
            continue;
        if (!used && !(used = calloc(k, sizeof *used)))
            return filled; /* an empty cluster stays for one more update */
        uint32_t donor = draw_donor(counts, used, k, r);
        used[donor] = used[c] = true;
        float *to = centroids + (size_t)c * d, *from = centroids + (size_t)donor * d;
        for (uint32_t j = 0; j < d; j++) {
            float v = from[j], up = v * (1.0f + 1.0f / 1024), down = v * (1.0f - 1.0f / 1024);
            to[j] = j % 2 ? down : up;
            from[j] = j % 2 ? up : down;
        }
        counts[c] = counts[donor] / 2;
        counts[donor] -= counts[c];
        filled++;
    }
    free(used);
    return filled;
}
