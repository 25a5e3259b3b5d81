/* compare_pairs: are clips that are similar to one modality, to both or to either of one class?
 * (algorithms.md 3.3 and 6; docs/evaluation.md, Comparing runs.) Used by cmd_compare. Blocking; one thread,
 * which may start others. The object is the caller's. */
#pragma once
#include "cli/compare_run.h"

/* *out: an object, or null where nothing can be said; why, and what else is missing, is appended to
 * `missing`. 0 or -ENOMEM. */
int compare_pairs(const struct compare_run *r, uint32_t round, bool recluster, json_t *missing, json_t **out,
                  struct err *e) WARN_UNUSED;
