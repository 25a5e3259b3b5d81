/* half: both conversions are IEEE's, and the CPU's instructions and the portable code agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include "lib/half.h"
#include "lib/rng.h"

/* Bits against values worked out by hand: ties to even, subnormals, the largest number, infinities. */
static void test_known_values(void **state)
{
    (void)state;
    static const struct {
        float value;
        uint16_t bits;
    } cases[] = {
        {0.0f, 0x0000},         {-0.0f, 0x8000},        {1.0f, 0x3c00},         {-2.0f, 0xc000},
        {0.1f, 0x2e66},         {65504.0f, 0x7bff},     {65519.996f, 0x7bff},   {65520.0f, 0x7c00},
        {-1e30f, 0xfc00},       {INFINITY, 0x7c00},     {0x1p-14f, 0x0400},     {0x1p-24f, 0x0001},
        {0x1p-25f, 0x0000},     {0x1.8p-25f, 0x0001},   {0x1.8p-24f, 0x0002},   {-0x1.4p-23f, 0x8002},
        {0x1.002p0f, 0x3c00},   {0x1.006p0f, 0x3c02},   {0x1.00202p0f, 0x3c01}, {0x1.ffep0f, 0x4000},
        {0x1.ff4p-15f, 0x03fe}, {0x1.ffep-15f, 0x0400}, {1e-40f, 0x0000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (half_from_float_portable(cases[i].value) != cases[i].bits)
            fail_msg("%a gives %04x, not %04x", (double)cases[i].value,
                     half_from_float_portable(cases[i].value), cases[i].bits);
}

/* All 65,536 patterns become the number they mean and come back; the array functions give the same bits. */
static void test_every_half(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h += 8) {
        uint16_t in[8], back[8];
        float f[8];
        for (uint32_t i = 0; i < 8; i++)
            in[i] = (uint16_t)(h + i);
        half_to_float(in, f, 8);
        half_from_float(f, back, 8);
        for (uint32_t i = 0; i < 8; i++) {
            int exponent = in[i] >> 10 & 31, mantissa = in[i] & 1023;
            double value = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
            if (exponent == 31)
                value = mantissa ? NAN : INFINITY;
            if (in[i] & 0x8000)
                value = -value;
            float portable = half_to_float_portable(in[i]);
            assert_true(isnan(value) ? isnan(f[i])
                                     : f[i] == (float)value && !signbit(f[i]) == !signbit(value));
            assert_int_equal(memcmp(&portable, &f[i], sizeof portable), 0);
            assert_int_equal(back[i] & ~(isnan(value) ? 0x200 : 0), in[i] & ~(isnan(value) ? 0x200 : 0));
        }
    }
}

/* Two million random floats of all magnitudes: the array code, the portable code and nearest-even by search
 * agree. */
static void test_random_floats(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 1);
    for (int n = 0; n < 250000; n++) {
        float f[9];
        uint16_t h[9];
        for (int i = 0; i < 9; i++) {
            uint32_t bits = (uint32_t)rng_next(&r);
            if (n % 2) /* half of them where f16 has its numbers */
                bits = (bits & 0x807fffff) | (uint32_t)(100 + rng_below(&r, 45)) << 23;
            if (n % 4 == 3) /* and half of those at the middle of two, or close to it */
                bits = (bits & 0xffffe000) | (0x1000 + (uint32_t)rng_below(&r, 3) - 1);
            memcpy(&f[i], &bits, sizeof bits);
        }
        half_from_float(f, h, 9);
        for (int i = 0; i < 9; i++) {
            assert_int_equal(h[i], half_from_float_portable(f[i]));
            if (isnan(f[i]) || fabsf(f[i]) >= 65504)
                continue;
            double mine = half_to_float_portable(h[i]);
            double up = half_to_float_portable((uint16_t)(h[i] + 1));
            double down = h[i] & 0x7fff ? half_to_float_portable((uint16_t)(h[i] - 1)) : mine;
            double d = fabs(f[i] - mine);
            assert_true(d <= fabs(f[i] - up) && d <= fabs(f[i] - down));
            if (d > 0 && (d == fabs(f[i] - up) || (down != mine && d == fabs(f[i] - down))))
                assert_int_equal(h[i] & 1, 0);
        }
    }
}

/* bfloat16 by hand: ties to even, a carry into the exponent, the largest number, infinities, subnormals, NaN;
 * within vectors and behind them. */
static void test_bfloat(void **state)
{
    (void)state;
    static const struct {
        float value;
        uint16_t bits;
    } cases[] = {
        {0.0f, 0x0000},        {-0.0f, 0x8000},       {1.0f, 0x3f80},          {-2.0f, 0xc000},
        {0x1.01p0f, 0x3f80},   {0x1.03p0f, 0x3f82},   {0x1.0102p0f, 0x3f81},   {0x1.00fep0f, 0x3f80},
        {0x1.ffp0f, 0x4000},   {0x1.fep127f, 0x7f7f}, {0x1.fefep127f, 0x7f7f}, {0x1.ffp127f, 0x7f80},
        {-INFINITY, 0xff80},   {0x1p-133f, 0x0001},   {0x1p-134f, 0x0000},     {0x1.8p-134f, 0x0001},
        {3.14159274f, 0x4049}, {-0.1f, 0xbdcd},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t n = 1; n < 40; n += 6) {
            float in[40];
            uint16_t out[40];
            for (size_t j = 0; j < n; j++)
                in[j] = cases[i].value;
            bfloat_from_float(in, out, n);
            for (size_t j = 0; j < n; j++)
                if (out[j] != cases[i].bits)
                    fail_msg("%a gives %04x, not %04x", (double)in[j], out[j], cases[i].bits);
        }
    float nan[20], back[20];
    uint16_t bits[20];
    for (size_t j = 0; j < 20; j++)
        nan[j] = j % 2 ? NAN : -NAN;
    bfloat_from_float(nan, bits, 20);
    bfloat_to_float(bits, back, 20);
    for (size_t j = 0; j < 20; j++)
        assert_true(isnan(back[j]));
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t in = (uint16_t)h, again;
        float f;
        bfloat_to_float(&in, &f, 1);
        bfloat_from_float(&f, &again, 1);
        assert_true(isnan(f) || again == in);
    }
}

/* One value that is not finite, or rounds to what is not, is found wherever it stands. */
static void test_finite(void **state)
{
    (void)state;
    static const float bad[] = {INFINITY, -INFINITY, NAN, -NAN, 0x1.ffp127f, -65520.0f};
    for (size_t n = 0; n < 70; n++) {
        float x[70] = {0}, copy[70];
        uint16_t half[70];
        for (size_t i = 0; i < n; i++)
            x[i] = i % 2 ? -65519.0f : 65519.0f;
        assert_true(half_from_float(x, half, n) && bfloat_from_float(x, half, n) && float_copy(x, copy, n));
        assert_memory_equal(x, copy, n * sizeof *x);
        for (size_t i = 0; i < n; i++) {
            float was = x[i];
            for (size_t k = 0; k < 6; k++) {
                x[i] = bad[k];
                assert_false(half_from_float(x, half, n));
                assert_int_equal(bfloat_from_float(x, half, n), k == 5);
                assert_int_equal(float_copy(x, copy, n), k >= 4);
            }
            x[i] = was;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),  cmocka_unit_test(test_bfloat),
        cmocka_unit_test(test_finite),        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_random_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
