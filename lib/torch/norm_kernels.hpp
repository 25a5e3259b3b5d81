/* norm_kernels: the inner loops of norm.cpp over [rows, c] data, compiled for AVX-512, AVX2 and plain x86-64
 * (or whatever the target is) and chosen at run time. Pure. */
#pragma once
#include <cstdint>

namespace xdc
{

/* Where a ReLU's derivative is read from: nowhere (no ReLU), the normalised input, or the output. */
enum class norm_mask { none, input, output };

/* y = x * scale + shift (+ r), then ReLU if asked; y may be x; r may be NULL. */
void norm_kernel_transform(const float *x, const float *r, float *y, const float *scale, const float *shift,
                           int64_t rows, int64_t c, bool relu);

/* Adds sum(x - pivot) to sums[0..c) and sum((x - pivot)^2) to sums[c..2c). */
void norm_kernel_moments(const float *x, const float *pivot, int64_t rows, int64_t c, double *sums);

/* With g = dy where the mask is open: adds sum(g) to sums[0..c) and sum(g (x - mean)) to sums[c..2c). */
void norm_kernel_sums(const float *x, const float *dy, const float *y, const float *mean, const float *scale,
                      const float *shift, int64_t rows, int64_t c, norm_mask mask, double *sums);

/* dx = scale g + b x + d; dr = g if it is not NULL. */
void norm_kernel_gradient(const float *x, const float *dy, const float *y, const float *scale,
                          const float *shift, const float *b, const float *d, float *dx, float *dr,
                          int64_t rows, int64_t c, norm_mask mask);

} // namespace xdc
