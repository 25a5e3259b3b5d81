/* scores: of each row the nearest centroid by f32 products, and how near it and the next one are, on a GPU or
 * the CPU. Used by the clusterer through nearest_device.h. Calls of scores_rows may come from several threads
 * at once, each with a worker's number of its own, but not beside scores_centroids. Owns its tensors; takes
 * copies. Every call returns 0 or a negative code; an exception of libtorch's becomes XDC_ETORCH.
 *
 * A score is |c|^2 - 2 x.c, the product in f32 proper (no TF32) with sums in any order. */
#pragma once
#include <stdint.h>
#include "lib/err.h"
#include "lib/torch/net.h"

#ifdef __cplusplus
extern "C" {
#endif

struct scores;

/* workers: threads that will call scores_rows. XDC_ECONF where CUDA is demanded and there is none. */
int scores_open(enum net_device device, uint32_t gpu, unsigned workers, struct scores **out,
                struct err *e) WARN_UNUSED;
/* NULL is fine. */
void scores_close(struct scores *s);
/* "cpu", "cuda:0". */
const char *scores_device(const struct scores *s);

/* centroids [k, d]; offset [k]: |c|^2. */
int scores_centroids(struct scores *s, const float *centroids, const float *offset, uint32_t k, uint32_t d,
                     struct err *e) WARN_UNUSED;
/* For each i < n the row x[pick[i]], of d columns: the two least scores, and a column of the least one.
 * second is infinite where there is one centroid. */
int scores_rows(struct scores *s, unsigned worker, const float *x, const uint32_t *pick, uint32_t n,
                uint32_t *label, float *best, float *second, struct err *e) WARN_UNUSED;

#ifdef __cplusplus
}
#endif
