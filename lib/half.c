#include "lib/half.h"

#include <math.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

uint16_t half_from_float_portable(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) /* NaN: quiet, upper bits of its payload */
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff));
    if (bits >= 0x477ff000) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00);
    uint32_t shift = 13, mantissa = bits, half;
    if (bits < 0x38800000) { /* below 2^-14: a subnormal, counted in units of 2^-24 */
        uint32_t exponent = bits >> 23;
        if (exponent < 102)
            return (uint16_t)sign;
        mantissa = (bits & 0x7fffff) | 0x800000;
        shift = 126 - exponent;
        half = mantissa >> shift;
    } else {
        half = (bits - 0x38000000) >> 13;
    }
    uint32_t rest = mantissa & ((1u << shift) - 1), middle = 1u << (shift - 1);
    half +=
        rest > middle || (rest == middle && (half & 1)); /* a carry runs into the exponent, as it should */
    return (uint16_t)(sign | half);
}

float half_to_float_portable(uint16_t value)
{
    uint32_t sign = (uint32_t)(value & 0x8000) << 16, exponent = value >> 10 & 0x1f, mantissa = value & 0x3ff,
             bits;
    if (exponent == 0) {
        float f = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &f, sizeof bits);
    } else if (exponent == 31) {
        bits = 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0);
    } else {
        bits = (exponent + 112) << 23 | mantissa << 13;
    }
    bits |= sign;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

#ifdef __x86_64__
static bool have_avx2(void)
{
    /* Every CPU with AVX2 has it; not every compiler knows F16C by name, and asking the CPU itself takes
     * longer than a row where it is virtual. */
    return __builtin_cpu_supports("avx2");
}

/* Both return how many values they have done: a multiple of 8. *out_bad gets bits where a result is not
 * finite. */
__attribute__((target("avx,f16c"))) static size_t from_float_f16c(const float *in, uint16_t *out, size_t n,
                                                                  int *out_bad)
{
    const __m128i infinity = _mm_set1_epi16(0x7c00);
    __m128i bad = _mm_setzero_si128();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        memcpy(out + i, &h, sizeof h);
        bad = _mm_or_si128(bad, _mm_cmpeq_epi16(_mm_and_si128(h, infinity), infinity));
    }
    *out_bad = _mm_movemask_epi8(bad);
    return i;
}

__attribute__((target("avx,f16c"))) static size_t to_float_f16c(const uint16_t *in, float *out, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h;
        memcpy(&h, in + i, sizeof h);
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(h));
    }
    return i;
}
#endif

bool half_from_float(const float *in, uint16_t *out, size_t n)
{
    size_t i = 0;
    int bad = 0;
#ifdef __x86_64__
    if (have_avx2())
        i = from_float_f16c(in, out, n, &bad);
#endif
    for (; i < n; i++) {
        out[i] = half_from_float_portable(in[i]);
        bad |= (out[i] & 0x7c00) == 0x7c00;
    }
    return !bad;
}

void half_to_float(const uint16_t *in, float *out, size_t n)
{
    size_t i = 0;
#ifdef __x86_64__
    if (have_avx2())
        i = to_float_f16c(in, out, n);
#endif
    for (; i < n; i++)
        out[i] = half_to_float_portable(in[i]);
}

enum { LANES = 32 }; /* loops of a known length become vector instructions */

static uint16_t bfloat_from_bits(uint32_t bits)
{
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

/* Raises bits 15 of *bad, which has none, where a value is not finite. */
__attribute__((always_inline)) static inline void bfloat_lanes(const float *in, uint16_t *out, size_t n,
                                                               uint16_t *bad)
{
    uint32_t bits[LANES];
    memcpy(bits, in, n * sizeof *bits);
    for (size_t i = 0; i < n; i++) {
        out[i] = bfloat_from_bits(bits[i]);
        bad[i] = (uint16_t)(bad[i] | ((out[i] & 0x7fff) + 0x80));
    }
}

static bool none_raised(const uint16_t bad[LANES])
{
    uint32_t any = 0;
    for (size_t i = 0; i < LANES; i++)
        any |= bad[i];
    return !(any & 0x8000);
}

bool bfloat_from_float(const float *in, uint16_t *out, size_t n)
{
    uint16_t bad[LANES] = {0};
    for (; n >= LANES; n -= LANES, in += LANES, out += LANES)
        bfloat_lanes(in, out, LANES, bad);
    bfloat_lanes(in, out, n, bad);
    return none_raised(bad);
}

void bfloat_to_float(const uint16_t *in, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)in[i] << 16;
        memcpy(&out[i], &bits, sizeof bits);
    }
}

bool float_copy(const float *in, float *out, size_t n)
{
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        out[i] = in[i];
        good &= isfinite(in[i]) != 0;
    }
    return good;
}
