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
static void check(const struct nearest_kernel *kernel, enum nearest_first first, const float *x,
                  const float *c, uint32_t k, uint32_t d, uint32_t block)
{
    struct nearest n;
    struct nearest_scratch s;
    uint32_t pick[ROWS], labels[ROWS];
    float norms[ROWS], upper[ROWS], lower[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        pick[i] = i;
        norms[i] = (float)sqrt(rows_norm64(x + (size_t)i * d, d));
    }
    assert_int_equal(nearest_init(&n, k, d, block, kernel, first, NULL), 0);
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
            check(&kernel[i], NEAREST_F32, x, c, k, d, blocks[b]);
    check(NULL, NEAREST_INT8, x, c, k, d, 0);
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

/* Rows whose greatest element leaves the others next to no bits, and centroids of such and of very different
 * lengths, one of them 0. */
static void outliers(void **state)
{
    (void)state;
    const uint32_t k = 130, d = 77;
    float *x = random_rows(ROWS, d, 8), *c = random_rows(k, d, 9);
    for (uint32_t i = 0; i < ROWS; i++)
        x[(size_t)i * d + i % d] *= i % 3 ? 1e4f : 1.0f;
    for (uint32_t i = 0; i < k; i++)
        for (uint32_t j = 0; j < d; j++)
            c[(size_t)i * d + j] *= i == 7                     ? 0
                                    : i % 5 == 0 && j == i % d ? 3e3f
                                                               : powf(10, (float)(i % 9) - 4);
    on_all_kernels(x, c, k, d);
    free(x);
    free(c);
}

/* Scores of the first pass enclose the true ones, for a group of rows of each kind, and are not vacuous. */
static void first_pass_encloses(void **state)
{
    (void)state;
    enum { K = 200, D = 509 };
    if (!nearest_int8_able(D))
        skip();
    float *x = random_rows(INT8_KERNEL_GROUP, D, 10), *c = random_rows(K, D, 11);
    double narrowest = INFINITY;
    for (uint32_t i = 0; i < INT8_KERNEL_GROUP; i++)
        for (uint32_t j = 0; j < D; j++) {
            float *v = &x[(size_t)i * D + j];
            /* every quotient midway between integers but for the greatest; one outlier; one side; two values
             */
            *v = i == 1   ? (j ? 100.5f / 127 : 1) * (*v > 0 ? 1.0f : -1.0f)
                 : i == 2 ? (j == 5 ? 1e5f : *v)
                 : i == 3 ? fabsf(*v)
                 : i == 4 ? (j % 2 ? 127.0f : 0.49f)
                 : i == 5 ? *v * 1e-33f
                 : i == 6 ? *v * 1e12f
                          : *v;
        }
    memcpy(c, x, sizeof(float) * 4 * D); /* errors that lie along the rows */
    for (uint32_t j = 0; j < D; j++)
        c[9 * D + j] *= 1e-32f;
    struct nearest n;
    struct nearest_scratch s;
    uint32_t pick[INT8_KERNEL_GROUP], labels[INT8_KERNEL_GROUP];
    float norms[INT8_KERNEL_GROUP], upper[INT8_KERNEL_GROUP], lower[INT8_KERNEL_GROUP];
    for (uint32_t i = 0; i < INT8_KERNEL_GROUP; i++) {
        pick[i] = i;
        norms[i] = (float)sqrt(rows_norm64(x + (size_t)i * D, D));
    }
    assert_int_equal(nearest_init(&n, K, D, 0, NULL, NEAREST_INT8, NULL), 0);
    assert_int_equal(nearest_scratch_init(&s, &n, INT8_KERNEL_GROUP, NULL), 0);
    nearest_pack(&n, c);
    nearest_rows(&n, x, pick, INT8_KERNEL_GROUP, norms, &s, labels, upper, lower);
    for (uint32_t i = 0; i < INT8_KERNEL_GROUP; i++)
        for (uint32_t a = 0; a < K; a++) {
            double dot = 0, square = rows_norm64(c + (size_t)a * D, D);
            for (uint32_t j = 0; j < D; j++)
                dot += (double)x[(size_t)i * D + j] * (double)c[(size_t)a * D + j];
            double score = square - 2 * dot,
                   rest = (double)s.int8.row[i].apart + 1e-14 * (square + fabs(dot));
            double wide = 2 * (double)s.int8.row[i].wide * (double)n.int8.c.weight[a];
            double low = (double)s.int8.low[(size_t)i * n.int8.c.panels * INT8_KERNEL_WIDTH + a];
            assert_true(low - rest <= score);
            assert_true(low + wide * (1 + 1e-6) + rest >= score);
            narrowest =
                wide / (norms[i] * sqrt(square)) < narrowest ? wide / (norms[i] * sqrt(square)) : narrowest;
        }
    assert_true(narrowest < 0.05);
    nearest_scratch_close(&s);
    nearest_close(&n);
    free(x);
    free(c);
}

/* A first pass that leaves nearly everything to f32 is given up; one that does not stays. */
static void given_up_when_useless(void **state)
{
    (void)state;
    enum { K = 200, D = 256 };
    if (!nearest_int8_able(D))
        skip();
    float *x = random_rows(ROWS, D, 12), *c = random_rows(K, D, 13);
    for (uint32_t i = 0; i < K; i++)
        c[(size_t)i * D] = 1; /* the column of which all the bits are */
    for (int useless = 0; useless < 2; useless++) {
        struct nearest n;
        struct nearest_scratch s;
        uint32_t pick[ROWS], labels[ROWS];
        float norms[ROWS], upper[ROWS], lower[ROWS];
        for (uint32_t i = 0; i < ROWS; i++) {
            x[(size_t)i * D] = useless ? 1e6f : 1;
            pick[i] = i;
            norms[i] = (float)sqrt(rows_norm64(x + (size_t)i * D, D));
        }
        assert_int_equal(nearest_init(&n, K, D, 0, NULL, NEAREST_AUTO, NULL), 0);
        assert_int_equal(nearest_scratch_init(&s, &n, ROWS, NULL), 0);
        nearest_pack(&n, c);
        assert_true(n.int8.on);
        nearest_rows(&n, x, pick, ROWS, norms, &s, labels, upper, lower);
        nearest_weigh(&n, &s, 1);
        assert_int_equal(n.int8.on, !useless);
        nearest_scratch_close(&s);
        nearest_close(&n);
    }
    free(x);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_shapes),
        cmocka_unit_test(exact_ties),
        cmocka_unit_test(beyond_f32),
        cmocka_unit_test(extreme_scales),
        cmocka_unit_test(outliers),
        cmocka_unit_test(first_pass_encloses),
        cmocka_unit_test(given_up_when_useless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
