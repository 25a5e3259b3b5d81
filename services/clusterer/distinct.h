/* distinct: how many rows differ from each other. Fewer than there are to be clusters would make some of them
 * copies. Used by kmeans_source and `xdc cluster`. Pure; any thread; owns nothing but what it frees. Fails
 * on memory alone. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

/* *out: the number of different rows of x [n, d], or `most` where there are as many: it looks no further.
 * 0 or -ENOMEM. */
int distinct_rows(const float *x, uint64_t n, uint32_t d, uint32_t most, uint32_t *out,
                  struct err *e) WARN_UNUSED;
