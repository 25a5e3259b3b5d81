/* head_output: the heads of a selavi dump in evaluation mode: features in, log-probabilities out. Used by
 * selavi_job. Pure arithmetic on the caller's threads; a head owns copies of its weights and may be used by
 * any number of threads. On failure it is empty. */
#pragma once
#include <stdint.h>
#include "lib/err.h"
#include "lib/tensor.h"

/* Linear, or Linear without bias, batch-norm by running statistics, ReLU, Linear (algorithms.md 4.4). */
struct head {
    uint32_t dim, k;
    float *hidden;        /* owned, [dim, dim]; NULL: linear */
    float *scale, *shift; /* owned, [dim]: batch-norm */
    float *weight, *bias; /* owned, [k, dim], [k] */
};

/* Reads <encoder>.heads.<number>.*; `path` names the file in sentences. XDC_EFORMAT: a tensor of it is
 * missing, or not finite; XDC_EMISMATCH: its shape is not that of `dim` features and `k` outputs; -ENOMEM. */
int head_load(const struct safetensors *file, const char *path, const char *encoder, unsigned number,
              uint32_t dim, uint32_t k, struct head *out, struct err *e) WARN_UNUSED;
void head_close(struct head *h);

/* Output j becomes what output order[j] was; order [k] is a permutation. 0 or -ENOMEM. */
int head_permute(struct head *h, const uint32_t *order, struct err *e) WARN_UNUSED;

/* x [n, dim] to logits out [n, k]; hidden [n, dim] is scratch. On one thread under rows_run. -ENOMEM when
 * oneDNN refuses. */
int head_forward(const struct head *h, const float *x, uint32_t n, float *hidden, float *out) WARN_UNUSED;
