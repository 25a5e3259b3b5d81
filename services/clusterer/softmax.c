#include "services/clusterer/softmax.h"
#include "services/clusterer/vector_units.h"

#include <stdint.h>
#include <string.h>

/* e^x, x <= 0: 2^n times a polynomial in what is left of x, with the least relative error on [-ln 2 / 2, ln 2
 * / 2] (Remez). */
BODY double exponential(double x)
{
    x = x < -708 ? -708 : x;
    double shifted = x * 0x1.71547652b82fep+0 + 0x1.8p52; /* its low bits are n */
    double n = shifted - 0x1.8p52;
    double r = x - n * 0x1.62e42feep-1 - n * 0x1.a39ef35793c76p-33; /* the first product is exact */
    double p = 0x1.70dc07edce331p-19;
    uint64_t power, bits;
    p = p * r + 0x1.a17c146d71ad5p-16;
    p = p * r + 0x1.a01bc29caeeaep-13;
    p = p * r + 0x1.6c162d8366575p-10;
    p = p * r + 0x1.1111105b429a7p-7;
    p = p * r + 0x1.55555587a355cp-5;
    p = p * r + 0x1.55555555bb794p-3;
    p = p * r + 0x1.ffffffffe8248p-2;
    p = p * r + 0x1.ffffffffffc39p-1;
    p = p * r + 0x1.000000000003ap+0;
    memcpy(&power, &shifted, sizeof power);
    memcpy(&bits, &p, sizeof bits);
    bits += power << 52;
    memcpy(&p, &bits, sizeof p);
    return p;
}

BODY void row_body(const float *restrict x, const double *restrict bias, size_t k, double *restrict e,
                   double *out_max, double *out_sum)
{
    double most = -1e308, sum = 0;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < k; j++) {
        e[j] = (double)x[j] + bias[j];
        most = e[j] > most ? e[j] : most;
    }
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < k; j++) {
        e[j] = exponential(e[j] - most);
        sum += e[j];
    }
    *out_max = most;
    *out_sum = sum;
}
DISPATCH(row, (const float *x, const double *bias, size_t k, double *e, double *out_max, double *out_sum),
         (x, bias, k, e, out_max, out_sum))

void softmax_row(const float *x, const double *bias, size_t k, double *e, double *out_max, double *out_sum)
{
    row_any(x, bias, k, e, out_max, out_sum);
}

BODY void add_body(double *restrict sum, const float *restrict x, double factor, const double *restrict shift,
                   size_t k)
{
    for (size_t j = 0; j < k; j++)
        sum[j] += exponential((double)x[j] * factor - shift[j]);
}
DISPATCH(add, (double *sum, const float *x, double factor, const double *shift, size_t k),
         (sum, x, factor, shift, k))

void softmax_add(double *sum, const float *x, double factor, const double *shift, size_t k)
{
    add_any(sum, x, factor, shift, k);
}

size_t softmax_argmax(const float *x, const double *bias, size_t k)
{
    size_t at = 0;
    double most = (double)x[0] + bias[0];
    for (size_t j = 1; j < k; j++) {
        double v = (double)x[j] + bias[j];
        at = v > most ? j : at;
        most = v > most ? v : most;
    }
    return at;
}
