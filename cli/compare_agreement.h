/* compare_agreement: how the newest label tables of runs agree with one another. Used by cmd_compare.
 * Blocking; one thread. The array is the caller's. */
#pragma once
#include "cli/compare_run.h"

/* *out: for every two runs {"runs": [i, j], "rounds", "sources": [{"a", "b", "clips", "nmi", "ami"}],
 * "other_moments"}, or {"runs", "why_not"}. 0 or -ENOMEM. */
int compare_agreement(const struct compare_run *runs, uint32_t n, json_t **out, struct err *e) WARN_UNUSED;
