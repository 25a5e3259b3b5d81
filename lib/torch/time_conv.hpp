/* time_conv: a convolution along time alone, with a weight gradient of its own. Used by layers.cpp for f32 on
 * the CPU. oneDNN's kernel for this gradient, with rows as long as a map has pixels, reaches a fourth of what
 * its matrix product does. Deterministic, whatever the number of threads. Throws what libtorch throws. */
#pragma once
#include <ATen/ATen.h>

namespace xdc
{

/* x [N, T, M, C] contiguous, M pixels; weight [out, C, k, 1, 1], channels last; zeros before and behind.
 * Returns [N, T', M, out]. */
at::Tensor time_conv(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t pad);

} // namespace xdc
