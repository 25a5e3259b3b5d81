/* probe: how well nearest neighbours of features agree with truth: a figure for the record, on which nothing
 * depends. Used by train_probe. Pure; owns nothing but what it frees. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

#define PROBE_NEIGHBOURS 20

/* The share of rows of x f32 [n, d] whose class is the one that most of their k nearest rows have, by the
 * cosine of the angle between them; rows of the same group (clips of one video) are no neighbours. Of equally
 * near rows the lower one is nearer; of classes with equal counts the one whose nearest row is nearest wins.
 * A row of zeros is at right angles to all. Rows without a neighbour do not count; *out is 0 without any that
 * do. class_of, group [n]. 0 or -ENOMEM. */
int probe_knn(const float *x, uint64_t n, uint32_t d, const uint32_t *class_of, const uint64_t *group,
              uint32_t k, double *out, struct err *e) WARN_UNUSED;
