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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_random_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
