/* cluster_figures: what both methods of xdc cluster say of their labels. Used by cmd_cluster and
 * cluster_sinkhorn. One thread; JSON objects are the caller's. */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include "lib/err.h"
#include "services/clusterer/quality.h"

/* {"entropy", "imbalance", "empty", "sizes": {"min", "median", "max"}, "truth"}; truth [n] NULL: null.
 * *out_sizes: the same. 0 or -ENOMEM. */
int cluster_figures(const uint32_t *labels, const uint32_t *truth, uint64_t n, uint32_t k,
                    struct quality_sizes *out_sizes, json_t **out, struct err *e) WARN_UNUSED;

/* "with the truth: ..." as a line; nothing without truth. */
void cluster_figures_print_truth(const json_t *figures);

/* Prints all as one JSON object: what was clustered, what was found, the figures, and under "seconds" what
 * each part took, with their "total". Takes `made`, `found` and `seconds`. */
void cluster_figures_print_json(json_t *made, json_t *found, json_t *figures, json_t *seconds);

/* Seconds since *at, which becomes now. */
double cluster_lap(double *at);
