#include "services/clusterer/int8_kernel.h"

#include <math.h>
#include <stdbool.h>

#define GROUP INT8_KERNEL_GROUP
#define WIDTH INT8_KERNEL_WIDTH
#define STEP INT8_KERNEL_STEP
#define WORDS (STEP / 4)
#define LANES 16
#define AHEAD 16 /* steps by which centroids are fetched ahead */
/* Vectors whose greatest element is below this become 0. */
#define SMALLEST 1e-30f
#define UP (1 + 1e-6) /* pays for what is rounded in f64 */

#if defined(__x86_64__)
#include <immintrin.h>
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,prefer-vector-width=512")))

/* The greatest magnitude of an element. */
VNNI static float greatest_of(const float *v, size_t d)
{
    const size_t whole = d / LANES;
    const __mmask16 rest = (__mmask16)((1u << d % LANES) - 1);
    __m512 most[2] = {_mm512_abs_ps(_mm512_maskz_loadu_ps(rest, v + whole * LANES)), _mm512_setzero_ps()};
    size_t i = 0;
    for (; i + 2 <= whole; i += 2)
        for (size_t l = 0; l < 2; l++)
            most[l] = _mm512_max_ps(most[l], _mm512_abs_ps(_mm512_loadu_ps(v + (i + l) * LANES)));
    if (i < whole)
        most[1] = _mm512_max_ps(most[1], _mm512_abs_ps(_mm512_loadu_ps(v + i * LANES)));
    return _mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1]));
}

VNNI static struct int8_vector quantize(const float *v, size_t d, double norm, int32_t *out, size_t stride)
{
    const size_t steps = (d + STEP - 1) / STEP;
    const __mmask16 last = (__mmask16)(0xffff >> (steps * STEP - d));
    const float greatest = greatest_of(v, d);
    const bool none = greatest < SMALLEST;
    const __m512 over = _mm512_set1_ps(none ? 0 : 127 / greatest);
    __m512 squares[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < steps; i++, out += stride) {
        __m512 x = _mm512_maskz_loadu_ps(i + 1 < steps ? (__mmask16)0xffff : last, v + i * STEP);
        __m512 t = _mm512_mul_ps(x, over);
        __m512i q = _mm512_cvtps_epi32(t);
        __m512 off = _mm512_sub_ps(t, _mm512_cvtepi32_ps(q)), before = squares[0];
        squares[0] = squares[1]; /* in turns: neither sum waits for the one before */
        squares[1] = _mm512_fmadd_ps(off, off, before);
        sum = _mm512_add_epi32(sum, q);
        _mm_storeu_si128((__m128i *)out, _mm512_cvtepi32_epi8(q));
    }
    const float square = _mm512_reduce_add_ps(_mm512_add_ps(squares[0], squares[1]));
    struct int8_vector r = {none ? 0 : greatest / 127, _mm512_reduce_add_epi32(sum), norm};
    const double n = (double)d, u = ldexp(1, -24);
    if (!none)
        r.error = (double)r.scale * UP * (sqrt((double)square * (1 + 2 * n * u)) + 512 * u * sqrt(n));
    return r;
}

VNNI static void tile(const struct int8_columns *c, size_t panel, const int32_t *a,
                      const struct int8_row *row, float *least, float *low, const char *next, size_t stride)
{
    const uint32_t *b = c->panel + panel * WIDTH * (c->depth / 4);
    __m512i sum[GROUP][2];
#pragma GCC unroll 16
    for (size_t i = 0; i < GROUP; i++)
        sum[i][0] = sum[i][1] = _mm512_set1_epi32(row[i].start);
    for (size_t k = 0; k < c->depth / STEP; k++, a += GROUP * WORDS)
#pragma GCC unroll 1
        for (size_t s = 0; s < WORDS; s++, b += WIDTH, next += stride) {
            const __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + LANES);
            __builtin_prefetch(b + AHEAD * WIDTH);
            __builtin_prefetch(b + AHEAD * WIDTH + LANES);
            __builtin_prefetch(next, 0, 2);
            __builtin_prefetch(next + INT8_KERNEL_LINE, 0, 2);
#pragma GCC unroll 16
            for (size_t i = 0; i < GROUP; i++) {
                const __m512i x = _mm512_set1_epi32(a[i * WORDS + s]);
                __asm__("vpdpbusd %2, %1, %0" : "+v"(sum[i][0]) : "v"(b0), "v"(x));
                __asm__("vpdpbusd %2, %1, %0" : "+v"(sum[i][1]) : "v"(b1), "v"(x));
            }
        }
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; v++) {
        size_t at = panel * WIDTH + v * LANES;
        const __m512 offset = _mm512_load_ps(c->offset + at), scale = _mm512_load_ps(c->scale + at),
                     weight = _mm512_load_ps(c->weight + at);
#pragma GCC unroll 16
        for (size_t i = 0; i < GROUP; i++) {
            const __m512 wide = _mm512_set1_ps(row[i].wide), twice = _mm512_set1_ps(row[i].twice);
            __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i][v]), scale);
            score = _mm512_fmadd_ps(score, twice, offset);
            _mm512_store_ps(low + i * c->panels * WIDTH + at, _mm512_fnmadd_ps(wide, weight, score));
            __m512 high = _mm512_fmadd_ps(wide, weight, score);
            _mm512_store_ps(least + i * LANES, _mm512_min_ps(_mm512_load_ps(least + i * LANES), high));
        }
    }
}

VNNI static size_t list(const float *low, size_t columns, float end, size_t most, float *out_low,
                        uint32_t *out_column, float *out_others)
{
    const __m512 bound = _mm512_set1_ps(end);
    __m512 others = _mm512_set1_ps(INFINITY);
    __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t count = 0;
    for (size_t c = 0; c < columns && count <= most; c += LANES) {
        const __m512 from = _mm512_load_ps(low + c);
        const __mmask16 may = _mm512_cmp_ps_mask(from, bound, _CMP_LE_OQ);
        others = _mm512_mask_min_ps(others, _knot_mask16(may), others, from);
        if (may) {
            _mm512_storeu_ps(out_low + count, _mm512_maskz_compress_ps(may, from));
            _mm512_storeu_si512(out_column + count, _mm512_maskz_compress_epi32(may, at));
            count += (size_t)__builtin_popcount(may);
        }
        at = _mm512_add_epi32(at, _mm512_set1_epi32(LANES));
    }
    *out_others = _mm512_reduce_min_ps(others);
    return count;
}

VNNI static float dot(const float *a, const float *b, size_t d)
{
    const __mmask16 rest = (__mmask16)((1u << d % LANES) - 1);
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    size_t i = 0;
    for (; i + 4 * LANES <= d; i += 4 * LANES)
#pragma GCC unroll 4
        for (size_t l = 0; l < 4; l++)
            sum[l] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + l * LANES), _mm512_loadu_ps(b + i + l * LANES),
                                     sum[l]);
    for (; i + LANES <= d; i += LANES)
        sum[0] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), sum[0]);
    sum[1] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(rest, a + i), _mm512_maskz_loadu_ps(rest, b + i), sum[1]);
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

const struct int8_kernel *int8_kernel(void)
{
    static const struct int8_kernel vnni = {quantize, tile, list, dot};
    bool able = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    return able ? &vnni : NULL;
}
#else
const struct int8_kernel *int8_kernel(void)
{
    return NULL;
}
#endif
