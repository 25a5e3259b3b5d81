/* normalize and eigen: what they promise, checked from the definitions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "lib/rng.h"
#include "services/clusterer/eigen.h"
#include "services/clusterer/normalize.h"

#define assert_close(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

/* Rows with columns of very different spread, correlated, away from the origin. */
static float *rows(uint64_t n, uint32_t d)
{
    float *x = malloc(n * d * sizeof *x);
    struct rng r;
    rng_init(&r, 17);
    for (uint64_t i = 0; i < n; i++) {
        double common = rng_normal(&r);
        for (uint32_t j = 0; j < d; j++)
            x[i * d + j] = (float)(5 + j + common + (1 + j % 7) * rng_normal(&r));
    }
    return x;
}

static float *copy(const float *x, size_t count)
{
    float *y = malloc(count * sizeof *y);
    memcpy(y, x, count * sizeof *y);
    return y;
}

/* A v = w v for every row v, rows orthonormal, values falling, largest component positive. */
static void eigen_definition(void **state)
{
    (void)state;
    const uint32_t sizes[] = {1, 2, 3, 10, 65};
    for (size_t t = 0; t < 5; t++) {
        uint32_t n = sizes[t];
        double *a = malloc(n * n * sizeof *a), *v = malloc(n * n * sizeof *v), *w = malloc(n * sizeof *w);
        struct rng r;
        rng_init(&r, n);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j <= i; j++)
                a[i * n + j] = a[j * n + i] = (j % 3 == 2) ? 0 : rng_normal(&r);
        memcpy(v, a, n * n * sizeof *a);
        assert_int_equal(eigen_symmetric(v, w, n, NULL, NULL), 0);
        for (uint32_t p = 0; p < n; p++) {
            assert_true(p == 0 || w[p] <= w[p - 1]);
            double largest = 0;
            for (uint32_t i = 0; i < n; i++) {
                double av = 0;
                for (uint32_t j = 0; j < n; j++)
                    av += a[i * n + j] * v[p * n + j];
                assert_close(av, w[p] * v[p * n + i], 1e-11 * n);
                largest = fabs(v[p * n + i]) > fabs(largest) ? v[p * n + i] : largest;
            }
            assert_true(largest > 0);
            for (uint32_t q = 0; q <= p; q++) {
                double dot = 0;
                for (uint32_t j = 0; j < n; j++)
                    dot += v[p * n + j] * v[q * n + j];
                assert_close(dot, p == q, 1e-12 * n);
            }
        }
        free(a);
        free(v);
        free(w);
    }
}

/* Matrices that leave the usual path: diagonal, zero, of rank one, with equal values. */
static void eigen_degenerate(void **state)
{
    (void)state;
    double diagonal[16] = {0}, zero[9] = {0}, one[9], w[4];
    for (int i = 0; i < 4; i++)
        diagonal[i * 4 + i] = (i == 2) ? 5 : 1;
    assert_int_equal(eigen_symmetric(diagonal, w, 4, NULL, NULL), 0);
    assert_close(w[0], 5, 0);
    assert_close(w[3], 1, 0);
    assert_close(diagonal[2], 1, 0);
    assert_int_equal(eigen_symmetric(zero, w, 3, NULL, NULL), 0);
    assert_close(w[0], 0, 0);
    for (int i = 0; i < 9; i++)
        one[i] = 2;
    assert_int_equal(eigen_symmetric(one, w, 3, NULL, NULL), 0);
    assert_close(w[0], 6, 1e-14);
    assert_close(w[1], 0, 1e-14);
    for (int i = 0; i < 3; i++)
        assert_close(one[i], 1 / sqrt(3), 1e-14);
    double bad[4] = {NAN, 1, 1, 0};
    struct err e;
    assert_int_equal(eigen_symmetric(bad, w, 2, NULL, &e), XDC_EFORMAT);
    atomic_bool stop = true;
    assert_int_equal(eigen_symmetric(one, w, 3, &stop, &e), XDC_ESTOPPED);
}

/* What is learnt of all rows, done to them. */
static int centre(float *x, uint64_t n, uint32_t d, unsigned threads, const atomic_bool *stop)
{
    double *mean = malloc(d * sizeof *mean);
    int rc = normalize_mean(x, n, d, threads, stop, mean, NULL);
    if (rc == 0)
        rc = normalize_subtract(x, n, d, mean, threads, stop, NULL);
    free(mean);
    return rc;
}

static int to_unit_variance(float *x, uint64_t n, uint32_t d, unsigned threads)
{
    double factor;
    int rc = normalize_factor(x, n, d, threads, NULL, &factor, NULL);
    return rc ? rc : normalize_multiply(x, n, d, factor, threads, NULL, NULL);
}

static int whiten(float *x, uint64_t n, uint32_t d, uint32_t wanted, unsigned threads, uint32_t *p,
                  struct err *e)
{
    struct normalize_directions by;
    int rc = centre(x, n, d, threads, NULL);
    if (rc == 0)
        rc = normalize_learn_directions(x, n, d, wanted, threads, NULL, &by, e);
    *p = rc ? 0 : by.p;
    if (rc == 0)
        rc = normalize_project(x, n, &by, threads, NULL, e);
    normalize_directions_close(&by);
    return rc;
}

/* Every row gets norm 1, rows of zeros stay, tiny and huge rows too keep their direction. */
static void l2(void **state)
{
    (void)state;
    float x[] = {3, 4, 0, 0, 3e-30f, -4e-30f, 3e30f, 4e30f};
    const float want[] = {0.6f, 0.8f, 0, 0, 0.6f, -0.8f, 0.6f, 0.8f};
    assert_int_equal(normalize_l2(x, 4, 2, 3, NULL, NULL), 0);
    for (size_t i = 0; i < 8; i++)
        assert_close(x[i], want[i], 1e-7f);
}

/* Centred columns have mean 0; scaled by variance, the total variance is 1, and rows that are all zero stay.
 */
static void centre_and_variance(void **state)
{
    (void)state;
    const uint64_t n = 3001;
    const uint32_t d = 67;
    float *x = rows(n, d);
    double total = 0;
    assert_int_equal(centre(x, n, d, 2, NULL), 0);
    assert_int_equal(to_unit_variance(x, n, d, 2), 0);
    for (uint32_t j = 0; j < d; j++) {
        double mean = 0;
        for (uint64_t i = 0; i < n; i++) {
            mean += (double)x[i * d + j];
            total += (double)x[i * d + j] * (double)x[i * d + j] / (double)n;
        }
        assert_close(mean / (double)n, 0, 1e-7);
    }
    assert_close(total, 1, 1e-5);
    float zero[6] = {0};
    assert_int_equal(to_unit_variance(zero, 3, 2, 2), 0);
    assert_close(zero[5], 0, 0);
    free(x);
}

/* Whitened rows have mean 0 and the identity as covariance, in the wanted number of directions. */
static void whitening(void **state)
{
    (void)state;
    const uint64_t n = 4100;
    const uint32_t d = 70, wanted = 20;
    float *x = rows(n, d);
    uint32_t p;
    assert_int_equal(whiten(x, n, d, wanted, 2, &p, NULL), 0);
    assert_int_equal(p, wanted);
    for (uint32_t a = 0; a < p; a++)
        for (uint32_t b = 0; b <= a; b++) {
            double mean = 0, cov = 0;
            for (uint64_t i = 0; i < n; i++) {
                mean += (double)x[i * p + a] / (double)n;
                cov += (double)x[i * p + a] * (double)x[i * p + b] / (double)n;
            }
            assert_close(mean, 0, 1e-5);
            assert_close(cov, a == b, 1e-4);
        }
    free(x);
}

/* Three points in a plane of R^3: the projection is computed by hand. */
static void whitening_by_hand(void **state)
{
    (void)state;
    /* mean (1, 1, 2); deviations (2, 0, 0), (-2, 0, 0), (0, 0, 1), (0, 0, -1): variances 2 and 1/2 */
    float x[] = {3, 1, 2, -1, 1, 2, 1, 1, 3, 1, 1, 1};
    const double a = sqrt(2.0);
    const double want[] = {a, 0, -a, 0, 0, a, 0, -a};
    uint32_t p;
    assert_int_equal(whiten(x, 4, 3, 3, 1, &p, NULL), 0);
    assert_int_equal(p, 2); /* the rank */
    for (size_t i = 0; i < 8; i++)
        assert_close(x[i], want[i], 1e-6);
}

/* The number of directions is limited by rows and by rank; nothing at all to whiten is an error. */
static void limits(void **state)
{
    (void)state;
    float *x = rows(9, 30), same[12];
    uint32_t p;
    struct err e;
    assert_int_equal(whiten(x, 9, 30, 256, 2, &p, NULL), 0);
    assert_int_equal(p, 8);
    free(x);
    x = rows(50, 6);
    for (uint64_t i = 0; i < 50; i++) {
        x[i * 6 + 3] = x[i * 6 + 1]; /* a column twice, a sum of two columns, and a constant */
        x[i * 6 + 4] = x[i * 6 + 0] + x[i * 6 + 1];
        x[i * 6 + 5] = 7;
    }
    assert_int_equal(whiten(x, 50, 6, 256, 2, &p, NULL), 0);
    assert_int_equal(p, 3);
    free(x);
    for (size_t i = 0; i < 12; i++)
        same[i] = 0.1f;
    assert_int_equal(whiten(same, 4, 3, 2, 2, &p, &e), XDC_EFORMAT);
    assert_int_equal(whiten(same, 1, 3, 2, 2, &p, &e), XDC_EFORMAT);
}

/* All of it gives the same bits on 1, 2, 3 and 5 threads. */
static void same_on_any_threads(void **state)
{
    (void)state;
    const uint64_t n = 3100;
    const uint32_t d = 150;
    const unsigned threads[] = {1, 2, 3, 5};
    float *base = rows(n, d), *first = NULL;
    for (size_t t = 0; t < 4; t++) {
        float *x = copy(base, n * d);
        uint32_t p;
        assert_int_equal(centre(x, n, d, threads[t], NULL), 0);
        assert_int_equal(to_unit_variance(x, n, d, threads[t]), 0);
        assert_int_equal(whiten(x, n, d, 100, threads[t], &p, NULL), 0);
        assert_int_equal(normalize_l2(x, n, p, threads[t], NULL, NULL), 0);
        assert_int_equal(p, 100);
        if (first)
            assert_memory_equal(x, first, n * p * sizeof *x);
        if (first)
            free(x);
        else
            first = x;
    }
    free(first);
    free(base);
}

/* A stop ends each of them. */
static void stops(void **state)
{
    (void)state;
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    atomic_bool stop = true;
    double mean[2] = {0}, factor;
    struct normalize_directions by;
    assert_int_equal(normalize_mean(x, 4, 2, 2, &stop, mean, NULL), XDC_ESTOPPED);
    assert_int_equal(normalize_subtract(x, 4, 2, mean, 2, &stop, NULL), XDC_ESTOPPED);
    assert_int_equal(normalize_l2(x, 4, 2, 2, &stop, NULL), XDC_ESTOPPED);
    assert_int_equal(normalize_factor(x, 4, 2, 2, &stop, &factor, NULL), XDC_ESTOPPED);
    assert_int_equal(normalize_multiply(x, 4, 2, 3, 2, &stop, NULL), XDC_ESTOPPED);
    assert_int_equal(normalize_learn_directions(x, 4, 2, 2, 2, &stop, &by, NULL), XDC_ESTOPPED);
    assert_null(by.vectors);
    assert_int_equal(normalize_learn_directions(x, 4, 2, 2, 2, NULL, &by, NULL), 0);
    assert_int_equal(normalize_project(x, 4, &by, 2, &stop, NULL), XDC_ESTOPPED);
    normalize_directions_close(&by);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eigen_definition),
        cmocka_unit_test(eigen_degenerate),
        cmocka_unit_test(l2),
        cmocka_unit_test(centre_and_variance),
        cmocka_unit_test(whitening),
        cmocka_unit_test(whitening_by_hand),
        cmocka_unit_test(limits),
        cmocka_unit_test(same_on_any_threads),
        cmocka_unit_test(stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
