/* nearest: every kernel that this CPU runs finds what a whole search in f64 finds, and its bounds hold. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "lib/rng.h"
#include "services/clusterer/nearest.h"
#include "services/clusterer/rows.h"

enum { ROWS = 67 }; /* no multiple of any kernel's group */

static double distance(const float *a, const float *b, uint32_t d)
{
    double s = 0;
    for (uint32_t j = 0; j < d; j++)
        s += ((double)a[j] - (double)b[j]) * ((double)a[j] - (double)b[j]);
    return s;
}

/* Labels of x [ROWS, d] are the nearest of c [k, d], the lowest of equal ones, and the bounds enclose. */
static void check(const struct nearest_kernel *kernel, const float *x, const float *c, uint32_t k, uint32_t d,
                  uint32_t block)
{
    struct nearest n;
    struct nearest_scratch s;
    uint32_t pick[ROWS], labels[ROWS];
    float norms[ROWS], upper[ROWS], lower[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        pick[i] = i;
        norms[i] = (float)sqrt(rows_norm64(x + (size_t)i * d, d));
    }
    assert_int_equal(nearest_init(&n, k, d, block, kernel, NULL), 0);
    assert_int_equal(nearest_scratch_init(&s, &n, ROWS, NULL), 0);
    nearest_pack(&n, c);
    nearest_rows(&n, x, pick, ROWS, norms, &s, labels, upper, lower);
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t best = 0;
        double least = INFINITY, second = INFINITY;
        for (uint32_t j = 0; j < k; j++) {
            double dist = distance(x + (size_t)i * d, c + (size_t)j * d, d);
            second = dist < least ? least : dist < second ? dist : second;
            best = dist < least ? j : best;
            least = dist < least ? dist : least;
        }
        assert_int_equal(labels[i], best);
        assert_true((double)upper[i] >= sqrt(least));
        assert_true((double)lower[i] <= sqrt(second));
    }
    nearest_scratch_close(&s);
    nearest_close(&n);
}

static void on_all_kernels(const float *x, const float *c, uint32_t k, uint32_t d)
{
    struct nearest_kernel kernel[NEAREST_KERNELS_MAX];
    const uint32_t blocks[] = {0, 32, 256, 4096};
    unsigned n = nearest_kernels(kernel);
    assert_true(n > 0);
    for (unsigned i = 0; i < n; i++)
        for (size_t b = 0; b < 4; b++)
            check(&kernel[i], x, c, k, d, blocks[b]);
}

static float *random_rows(uint32_t n, uint32_t d, uint64_t seed)
{
    float *x = malloc((size_t)n * d * sizeof *x);
    struct rng r;
    rng_init(&r, seed);
    for (size_t i = 0; i < (size_t)n * d; i++)
        x[i] = (float)rng_normal(&r);
    return x;
}

/* Random rows of odd and even shapes, with one centroid, with fewer than a vector and with many. */
static void random_shapes(void **state)
{
    (void)state;
    const uint32_t shapes[][2] = {{1, 1}, {2, 3}, {5, 16}, {33, 17}, {300, 40}, {1030, 70}};
    for (size_t i = 0; i < 6; i++) {
        uint32_t k = shapes[i][0], d = shapes[i][1];
        float *x = random_rows(ROWS, d, 1), *c = random_rows(k, d, 2);
        on_all_kernels(x, c, k, d);
        free(x);
        free(c);
    }
}

/* Rows midway between two centroids, every centroid there three times: equal ones go to the lowest index. */
static void exact_ties(void **state)
{
    (void)state;
    const uint32_t k = 300, d = 20;
    float *c = random_rows(k, d, 3), *x = malloc((size_t)ROWS * d * sizeof *x);
    for (size_t i = 0; i < (size_t)k * d; i++)
        c[i] = roundf(c[i] * 4); /* integers: f64 makes no error */
    memcpy(c + (size_t)100 * d, c, (size_t)100 * d * sizeof *c);
    memcpy(c + (size_t)200 * d, c, (size_t)100 * d * sizeof *c);
    for (uint32_t i = 0; i < ROWS; i++)
        for (uint32_t j = 0; j < d; j++) {
            float a = c[(size_t)i * d + j], b = c[(size_t)(i + 1) * d + j];
            x[(size_t)i * d + j] = (a + b) / 2;
        }
    on_all_kernels(x, c, k, d);
    free(x);
    free(c);
}

/* Centroids so near each other that f32 scores cannot tell them apart. */
static void beyond_f32(void **state)
{
    (void)state;
    const uint32_t k = 64, d = 128;
    float *x = random_rows(ROWS, d, 4), *c = malloc((size_t)k * d * sizeof *c);
    struct rng r;
    rng_init(&r, 5);
    for (size_t i = 0; i < (size_t)k * d; i++)
        c[i] = 10 * (1 + (float)(1e-6 * rng_normal(&r)));
    on_all_kernels(x, c, k, d);
    free(x);
    free(c);
}

/* Scales at which squares come near the ends of f32's range. */
static void extreme_scales(void **state)
{
    (void)state;
    const uint32_t k = 40, d = 24;
    const float scales[] = {1e-22f, 1e-15f, 1e13f};
    for (size_t s = 0; s < 3; s++) {
        float *x = random_rows(ROWS, d, 6), *c = random_rows(k, d, 7);
        for (size_t i = 0; i < (size_t)ROWS * d; i++)
            x[i] *= scales[s];
        for (size_t i = 0; i < (size_t)k * d; i++)
            c[i] *= scales[s];
        on_all_kernels(x, c, k, d);
        free(x);
        free(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_shapes),
        cmocka_unit_test(exact_ties),
        cmocka_unit_test(beyond_f32),
        cmocka_unit_test(extreme_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
