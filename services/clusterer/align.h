/* align: which audio output goes with which video output before the first labels (algorithms.md 4.5): the
 * permutation with the least sum over rows of |p_video - p_audio|, exactly. Used by selavi_job. Blocking;
 * runs on threads of its own; the same answer on any number. Owns nothing but what it frees. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "lib/err.h"

/* Rows are at most this many, and each value at most 1, so that sums fit. */
#define ALIGN_ROWS_MAX 20000

/* video, audio [n, k]: probabilities. out [k]: entry j is the audio output that becomes output j.
 * *out_before, *out_after: the mean over rows of the sum of differences, unpermuted and permuted. Takes 16
 * k^2 bytes and more. 0, -ENOMEM, XDC_ESTOPPED. */
int align_outputs(const float *video, const float *audio, uint64_t n, uint32_t k, unsigned threads,
                  const atomic_bool *stop, uint32_t *out, double *out_before, double *out_after,
                  struct err *e) WARN_UNUSED;
