/* cluster_input: the NumPy files that xdc cluster reads, checked: each fault names the file, what is wrong
 * with it and what to do. Used by cmd_cluster, cluster_sinkhorn and the readers of xdc eval. Blocking; one
 * thread. Arrays are the caller's, freed with free. XDC_EFORMAT for what a file holds, else what reading
 * gave. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/tensor.h"

/* A table of f32 or f16 as f32 [rows, columns], with memory for `extra` rows more. */
int cluster_read_table(const char *path, uint64_t extra, float **out, uint64_t *out_rows,
                       uint32_t *out_columns, struct err *e) WARN_UNUSED;

/* Names the rows of x [n, d] that are not finite. */
int cluster_check_finite(const char *path, const float *x, uint64_t n, uint32_t d, unsigned threads,
                         struct err *e) WARN_UNUSED;

/* Refuses x [n, d] when fewer than k of its rows differ. */
int cluster_check_distinct(const char *path, const float *x, uint64_t n, uint32_t d, uint32_t k,
                           struct err *e) WARN_UNUSED;

/* One whole number a row, [n] or [n, 1]; negative ones become LABEL_NONE. */
int cluster_read_truth(const char *path, uint64_t n, uint32_t **out, struct err *e) WARN_UNUSED;

/* Element i of whole numbers of any type; false for floating-point ones. */
bool cluster_whole(const struct tensor *t, uint64_t i, int64_t *out);
