/* softmax: exponentials of rows in f64, and what is made of them. Used by sinkhorn, head_rows and `xdc
 * cluster`. Pure; any thread; owns nothing. Cannot fail. An exponential is off by less than 2e-14 of itself;
 * below e^-708 it stays there. */
#pragma once
#include <stddef.h>

/* e [k] = exp(x + bias - max(x + bias)); x, bias [k], k > 0. */
void softmax_row(const float *x, const double *bias, size_t k, double *e, double *out_max, double *out_sum);

/* sum [k] += exp(factor x - shift); x [k], shift [k], factor x - shift at most 0. */
void softmax_add(double *sum, const float *x, double factor, const double *shift, size_t k);

/* Where x + bias is largest, the lowest of several; k > 0. */
size_t softmax_argmax(const float *x, const double *bias, size_t k);
