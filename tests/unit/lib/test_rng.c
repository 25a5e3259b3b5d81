#include "lib/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

/* The generator is SplitMix64: its published first values for state 1234567. Stored runs depend on them for
 * ever. */
static void splitmix64(void **state)
{
    (void)state;
    static const uint64_t want[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                    4593380528125082431u, 16408922859458223821u};
    struct rng r;
    rng_init(&r, 1234567);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        assert_true(rng_next(&r) == want[i]);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Every argument of a key counts, also its place; equal arguments give equal keys. */
static void keys_differ(void **state)
{
    (void)state;
    static const char *const purposes[] = {"order", "augment", "kmeans", "", "a", "ab"};
    static const uint64_t values[] = {0, 1, 2, UINT64_MAX};
    enum { N = 6 * 4 * 4 * 4 * 4 };
    static uint64_t keys[N];
    size_t n = 0;
    for (size_t p = 0; p < 6; p++) {
        for (size_t i = 0; i < 256; i++) {
            uint64_t seed = values[i & 3], a = values[i >> 2 & 3], b = values[i >> 4 & 3],
                     c = values[i >> 6 & 3];
            keys[n] = rng_key(seed, purposes[p], a, b, c);
            assert_true(keys[n] == rng_key(seed, purposes[p], a, b, c));
            n++;
        }
    }
    assert_int_equal(n, N);
    qsort(keys, N, sizeof keys[0], by_value);
    for (size_t i = 1; i < N; i++)
        assert_true(keys[i] != keys[i - 1]);
}

/* Uniform numbers stay in [0, 1) and have the mean and variance of the uniform distribution, within 5
 * deviations. */
static void uniform(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct rng r;
    rng_init(&r, rng_key(1, "test", 0, 0, 0));
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        double u = rng_uniform(&r);
        assert_true(u >= 0 && u < 1);
        sum += u;
        squares += u * u;
    }
    double mean = sum / N, variance = squares / N - mean * mean;
    assert_true(fabs(mean - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(variance - 1.0 / 12) < 5 * sqrt(1.0 / 180 / N));
    for (int i = 0; i < 1000; i++) {
        double v = rng_range(&r, -3, -1);
        assert_true(v >= -3 && v < -1);
    }
}

/* Whole numbers below n reach every value evenly: chi-squared over n - 1 degrees within 5 deviations. */
static void below(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 2, 3, 10, 100};
    struct rng r;
    rng_init(&r, 7);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        uint64_t n = sizes[s];
        int counts[100] = {0};
        enum { DRAWS = 100000 };
        for (int i = 0; i < DRAWS; i++) {
            uint64_t v = rng_below(&r, n);
            assert_true(v < n);
            counts[v]++;
        }
        double chi = 0, expected = (double)DRAWS / (double)n;
        for (uint64_t i = 0; i < n; i++)
            chi += (counts[i] - expected) * (counts[i] - expected) / expected;
        assert_true(fabs(chi - (double)(n - 1)) <= 5 * sqrt(2.0 * (double)n));
    }
    /* the largest n, where a plain remainder is biased most */
    uint64_t n = (UINT64_MAX / 3) * 2, low = 0;
    for (int i = 0; i < 30000; i++) {
        uint64_t v = rng_below(&r, n);
        assert_true(v < n);
        low += v < n / 2;
    }
    assert_true(fabs((double)low - 15000) < 5 * sqrt(30000.0 / 4));
}

/* Normal numbers have mean 0, variance 1 and the normal share beyond 1.96, and are always finite. */
static void normal(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct rng r;
    rng_init(&r, 99);
    double sum = 0, squares = 0;
    int far = 0;
    for (int i = 0; i < N; i++) {
        double x = rng_normal(&r);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
        far += fabs(x) > 1.959964;
    }
    assert_true(fabs(sum / N) < 5 / sqrt(N));
    assert_true(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(far / (double)N - 0.05) < 5 * sqrt(0.05 * 0.95 / N));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splitmix64), cmocka_unit_test(keys_differ), cmocka_unit_test(uniform),
        cmocka_unit_test(below),      cmocka_unit_test(normal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
