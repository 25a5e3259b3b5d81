/* marginals: how sizes are drawn and dealt, against all permutations. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "lib/rng.h"
#include "services/clusterer/marginals.h"

/* gaussian: a function of seed and head alone, of the mean and deviation asked for, never below its floor. */
static void gaussian(void **state)
{
    (void)state;
    enum { K = 20000 };
    static double a[K], b[K];
    struct marginals m = {.kind = MARGINALS_GAUSSIAN, .sd = 0.1, .seed = 3, .head = 2};
    marginals_draw(&m, K, a);
    marginals_draw(&m, K, b);
    assert_memory_equal(a, b, sizeof a);
    double sum = 0, square = 0, least = 1;
    for (int i = 0; i < K; i++) {
        sum += a[i];
        square += (a[i] * K - 1) * (a[i] * K - 1);
    }
    assert_true(fabs(sum - 1) < 1e-12);
    assert_true(fabs(sqrt(square / K) - 0.1) < 0.003);
    m.head = 3;
    marginals_draw(&m, K, b);
    assert_memory_not_equal(a, b, sizeof a);
    m.head = 2;
    m.seed = 4;
    marginals_draw(&m, K, b);
    assert_memory_not_equal(a, b, sizeof a);
    m.sd = 1;
    marginals_draw(&m, K, b);
    for (int i = 0; i < K; i++)
        least = fmin(least, b[i] * K);
    assert_true(least > 0.5 * MARGINALS_LEAST &&
                least < MARGINALS_LEAST); /* their mean is a little above 1 */
}

/* uniform: all equal; zipf: the n-th as large as n to minus the exponent. */
static void fixed_forms(void **state)
{
    (void)state;
    double s[4];
    struct marginals m = {.kind = MARGINALS_UNIFORM};
    marginals_draw(&m, 4, s);
    for (int i = 0; i < 4; i++)
        assert_true(s[i] == 0.25);
    m = (struct marginals){.kind = MARGINALS_ZIPF, .exponent = 1};
    marginals_draw(&m, 4, s);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(s[i] - 12.0 / 25 / (i + 1)) < 1e-15);
    m.exponent = 0;
    marginals_draw(&m, 4, s);
    assert_true(s[0] == 0.25 && s[3] == 0.25);
}

/* What depends on the dealing in the transport's energy: minus the sum of mass log size. */
static double energy(const double *sizes, const double *mass, uint32_t k)
{
    double e = 0;
    for (uint32_t j = 0; j < k; j++)
        e -= mass[j] * log(sizes[j]);
    return e;
}

/* The least and the largest energy of all permutations of sizes [k] from `at` on. */
static void all_ways(double *sizes, const double *mass, uint32_t k, uint32_t at, double *least, double *most)
{
    if (at == k) {
        *least = fmin(*least, energy(sizes, mass, k));
        *most = fmax(*most, energy(sizes, mass, k));
    }
    for (uint32_t i = at; i < k; i++) {
        double t = sizes[at];
        sizes[at] = sizes[i];
        sizes[i] = t;
        all_ways(sizes, mass, k, at + 1, least, most);
        sizes[i] = sizes[at];
        sizes[at] = t;
    }
}

/* Largest with largest has the least energy of all ways, its inverse the most; nothing is lost. */
static void dealt(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 1);
    for (uint32_t round = 0; round < 60; round++) {
        uint32_t k = 1 + round % 6;
        double sizes[6], mass[6], given[6], least = INFINITY, most = -INFINITY;
        for (uint32_t j = 0; j < k; j++) {
            given[j] = 0.05 + rng_uniform(&r);
            mass[j] = round % 3 ? rng_uniform(&r) : (double)rng_below(&r, 3); /* with equals too */
        }
        memcpy(sizes, given, sizeof sizes);
        all_ways(sizes, mass, k, 0, &least, &most);
        assert_int_equal(marginals_pair(sizes, mass, k, false, NULL), 0);
        assert_true(fabs(energy(sizes, mass, k) - least) < 1e-12);
        assert_int_equal(marginals_pair(sizes, mass, k, true, NULL), 0);
        assert_true(fabs(energy(sizes, mass, k) - most) < 1e-12);
        for (uint32_t j = 0; j < k; j++) {
            unsigned found = 0;
            for (uint32_t i = 0; i < k; i++)
                found += sizes[i] == given[j];
            assert_int_equal(found, 1);
        }
    }
    double sizes[] = {3, 1, 2}, mass[] = {5, 5, 1};
    assert_int_equal(marginals_pair(sizes, mass, 3, false, NULL), 0);
    assert_true(sizes[0] == 2 && sizes[1] == 3 && sizes[2] == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaussian),
        cmocka_unit_test(fixed_forms),
        cmocka_unit_test(dealt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
