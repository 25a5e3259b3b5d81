/* kmeans: the promises of its header on small data, with brute force as the reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "services/clusterer/kmeans.h"

#define assert_close(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

static struct kmeans_options options(uint32_t k)
{
    return (struct kmeans_options){
        .k = k, .restarts = 1, .iterations = 50, .tolerance = 0, .threads = 2, .seed = 7};
}

/* `groups` clouds of deviation `spread` around corners of a cube of side 2. */
static float *clouds(uint64_t n, uint32_t d, uint32_t groups, double spread)
{
    float *x = malloc(n * d * sizeof *x);
    struct rng r;
    rng_init(&r, 99);
    for (uint64_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < d; j++)
            x[i * d + j] = (float)(((i % groups) >> (j % 8) & 1 ? 1.0 : -1.0) + spread * rng_normal(&r));
    return x;
}

static double distance(const float *a, const float *b, uint32_t d)
{
    double s = 0;
    for (uint32_t j = 0; j < d; j++)
        s += ((double)a[j] - (double)b[j]) * ((double)a[j] - (double)b[j]);
    return s;
}

/* Labels and centroids are bit-identical on 1, 2, 3 and 5 threads. */
static void same_on_any_threads(void **state)
{
    (void)state;
    const uint64_t n = 2051;
    const uint32_t d = 70, k = 270;
    const unsigned threads[] = {1, 2, 3, 5};
    float *x = clouds(n, d, 40, 0.8);
    struct kmeans_result first, r;
    struct err e;
    struct kmeans_options o = options(k);
    o.iterations = 4;
    for (size_t i = 0; i < 4; i++) {
        o.threads = threads[i];
        assert_int_equal(kmeans_run(x, n, d, &o, &r, &e), 0);
        if (i == 0) {
            first = r;
            continue;
        }
        assert_memory_equal(r.labels, first.labels, n * sizeof *r.labels);
        assert_memory_equal(r.centroids, first.centroids, (size_t)k * d * sizeof *r.centroids);
        assert_true(r.objective == first.objective);
        assert_int_equal(r.restart, first.restart);
        kmeans_result_close(&r);
    }
    o.seed = 8;
    assert_int_equal(kmeans_run(x, n, d, &o, &r, &e), 0);
    assert_memory_not_equal(r.labels, first.labels, n * sizeof *r.labels);
    kmeans_result_close(&r);
    kmeans_result_close(&first);
    free(x);
}

/* At the end every row has its nearest centroid, every centroid is its rows' mean, and the objective is their
 * distances' sum: a fixed point of Lloyd's iteration, checked by brute force. */
static void converges_to_a_fixed_point(void **state)
{
    (void)state;
    const uint64_t n = 3000;
    const uint32_t d = 19, k = 17;
    float *x = clouds(n, d, 12, 0.7);
    struct kmeans_options o = options(k);
    struct kmeans_result r;
    double sum = 0;
    o.iterations = 500;
    assert_int_equal(kmeans_run(x, n, d, &o, &r, NULL), 0);
    assert_true(r.iterations > 1 && r.iterations < 500);
    for (uint64_t i = 0; i < n; i++) {
        double own = distance(x + i * d, r.centroids + (size_t)r.labels[i] * d, d);
        for (uint32_t c = 0; c < k; c++)
            assert_true(own <= distance(x + i * d, r.centroids + (size_t)c * d, d) + 1e-4);
        sum += own;
    }
    assert_close(r.objective, sum, sum * 1e-6);
    for (uint32_t c = 0; c < k; c++)
        for (uint32_t j = 0; j < d; j++) {
            double mean = 0, count = 0;
            for (uint64_t i = 0; i < n; i++)
                if (r.labels[i] == c) {
                    mean += (double)x[i * d + j];
                    count++;
                }
            assert_true(count > 0);
            assert_close(r.centroids[(size_t)c * d + j], mean / count, 1e-5);
        }
    kmeans_result_close(&r);
    free(x);
}

/* Clouds far apart are found exactly: one cluster each, at the best objective. */
static void finds_separate_clouds(void **state)
{
    (void)state;
    const uint64_t n = 2048;
    const uint32_t d = 8, k = 16;
    float *x = clouds(n, d, k, 0.01);
    struct kmeans_options o = options(k);
    struct kmeans_result r;
    assert_int_equal(kmeans_run(x, n, d, &o, &r, NULL), 0);
    for (uint64_t i = k; i < n; i++)
        assert_int_equal(r.labels[i], r.labels[i % k]);
    for (uint32_t a = 0; a < k; a++)
        for (uint32_t b = 0; b < a; b++)
            assert_int_not_equal(r.labels[a], r.labels[b]);
    assert_true(r.objective < (double)n * d * 1.2e-4);
    kmeans_result_close(&r);
    free(x);
}

/* The objective never rises from one update to the next. */
static void objective_never_rises(void **state)
{
    (void)state;
    const uint64_t n = 2000;
    const uint32_t d = 33, k = 40;
    float *x = clouds(n, d, 25, 1.0);
    struct kmeans_options o = options(k);
    struct kmeans_result r;
    double before = INFINITY;
    for (uint32_t i = 0; i < 8; i++) {
        o.iterations = i;
        assert_int_equal(kmeans_run(x, n, d, &o, &r, NULL), 0);
        assert_int_equal(r.empty_splits, 0);
        assert_int_equal(r.iterations, i);
        assert_true(r.objective < before);
        before = r.objective;
        kmeans_result_close(&r);
    }
    free(x);
}

/* A loose tolerance stops early; more restarts never give a worse objective, and the best one is named. */
static void tolerance_and_restarts(void **state)
{
    (void)state;
    const uint64_t n = 2000;
    const uint32_t d = 5, k = 30;
    float *x = clouds(n, d, 25, 0.3);
    struct kmeans_options o = options(k);
    struct kmeans_result one, many, loose;
    assert_int_equal(kmeans_run(x, n, d, &o, &one, NULL), 0);
    o.restarts = 8;
    assert_int_equal(kmeans_run(x, n, d, &o, &many, NULL), 0);
    assert_true(many.objective <= one.objective);
    assert_true(many.restart > 0 ? many.objective < one.objective : many.objective == one.objective);
    o.restarts = 1;
    o.tolerance = 0.05;
    assert_int_equal(kmeans_run(x, n, d, &o, &loose, NULL), 0);
    assert_true(loose.iterations < one.iterations);
    kmeans_result_close(&one);
    kmeans_result_close(&many);
    kmeans_result_close(&loose);
    free(x);
}

/* Of equally near centroids the lowest counts, also across the blocks of the matrix product; a row that
 * equals a centroid is at distance 0. */
static void ties_go_to_the_lowest(void **state)
{
    (void)state;
    /* 600 rows, only 3 of them distinct: whatever is chosen twice must leave the later copies without rows */
    const uint64_t n = 600;
    float x[600 * 2];
    for (uint64_t i = 0; i < n; i++) {
        x[2 * i] = (float)(i % 3);
        x[2 * i + 1] = (float)((i % 3) * (i % 3));
    }
    struct kmeans_options o = options(270);
    struct kmeans_result r;
    assert_int_equal(kmeans_run(x, n, 2, &o, &r, NULL), 0);
    assert_true(r.objective == 0);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t lowest = 0;
        while (memcmp(r.centroids + 2 * lowest, x + 2 * i, 2 * sizeof *x) != 0)
            lowest++;
        assert_int_equal(r.labels[i], lowest);
        assert_true(lowest < 3);
    }
    kmeans_result_close(&r);
}

/* Fewer distinct rows than k, up to all rows equal, end by themselves, and nothing is split for it. */
static void duplicates_do_not_hang(void **state)
{
    (void)state;
    float x[200 * 3];
    struct kmeans_options o = options(50);
    struct kmeans_result r;
    for (size_t i = 0; i < 600; i++)
        x[i] = 0.25f;
    o.restarts = 3;
    assert_int_equal(kmeans_run(x, 200, 3, &o, &r, NULL), 0);
    assert_true(r.objective == 0);
    assert_int_equal(r.iterations, 0);
    assert_int_equal(r.empty_splits, 0);
    kmeans_result_close(&r);
    o.k = 200; /* n == k */
    assert_int_equal(kmeans_run(x, 200, 3, &o, &r, NULL), 0);
    kmeans_result_close(&r);
}

/* An empty cluster takes half of a donor's rows and both move by 1/1024 apart; donors are distinct and lone
 * rows never give. */
static void splits_empty_clusters(void **state)
{
    (void)state;
    const uint32_t k = 6, d = 3;
    float c[18];
    for (size_t i = 0; i < 18; i++)
        c[i] = (float)(i + 1);
    uint64_t counts[] = {11, 0, 1, 0, 8, 1};
    struct rng r;
    rng_init(&r, 3);
    assert_int_equal(kmeans_split_empty(c, counts, k, d, &r), 2);
    /* 0 and 4 are the only donors: each gave once, in either order */
    assert_int_equal(counts[0], 6);
    assert_int_equal(counts[4], 4);
    assert_int_equal(counts[1] + counts[3], 9);
    assert_int_equal(counts[2], 1);
    uint32_t of0 = counts[1] == 5 ? 1 : 3;
    for (uint32_t j = 0; j < d; j++) {
        float v = (float)(j + 1), up = v * (1 + 1.0f / 1024), down = v * (1 - 1.0f / 1024);
        assert_true(c[of0 * d + j] == (j % 2 ? down : up));
        assert_true(c[j] == (j % 2 ? up : down));
    }
    /* more empty clusters than donors: donors give again, and all are filled */
    uint64_t few[] = {0, 0, 9, 0, 0, 0};
    assert_int_equal(kmeans_split_empty(c, few, k, d, &r), 5);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < k; i++) {
        assert_true(few[i] > 0);
        sum += few[i];
    }
    assert_int_equal(sum, 9);
}

/* Empties within a run are split and counted: the sample that k-means++ sees holds fewer distinct rows than
 * k, so copies of a centroid start without rows; splitting brings them to the rest of the data. */
static void splits_in_a_run(void **state)
{
    (void)state;
    const uint64_t n = 40000;
    float *x = calloc(n * 2, sizeof *x);
    struct kmeans_options o = options(25);
    struct kmeans_result before, after;
    for (uint64_t i = 0; i < 30; i++) { /* 30 rows of 40000 are not zero; the sample holds 16384 */
        x[2 * i * 1333] = (float)(i + 1);
        x[2 * i * 1333 + 1] = (float)(i % 5);
    }
    o.iterations = 0;
    assert_int_equal(kmeans_run(x, n, 2, &o, &before, NULL), 0);
    assert_true(before.objective > 0);
    assert_int_equal(before.empty_splits, 0);
    o.iterations = 10;
    assert_int_equal(kmeans_run(x, n, 2, &o, &after, NULL), 0);
    assert_true(after.empty_splits > 0);
    assert_true(after.objective < before.objective);
    kmeans_result_close(&before);
    kmeans_result_close(&after);
    free(x);
}

/* Too few rows, and rows that are not finite, are refused by name; a stop is obeyed. */
static void refusals(void **state)
{
    (void)state;
    const uint64_t n = 3000;
    float *x = clouds(n, 4, 5, 0.5);
    struct kmeans_options o = options(10);
    struct kmeans_result r;
    struct err e;
    assert_int_equal(kmeans_run(x, 9, 4, &o, &r, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "10 clusters need at least as many rows, there are 9"));
    assert_null(r.labels);
    x[2500 * 4 + 1] = NAN;
    x[1777 * 4 + 3] = INFINITY;
    assert_int_equal(kmeans_run(x, n, 4, &o, &r, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "row 1777 is not finite"));
    x[1777 * 4 + 3] = 0;
    x[2500 * 4 + 1] = 3e38f;
    assert_int_equal(kmeans_run(x, n, 4, &o, &r, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "row 2500"));
    x[2500 * 4 + 1] = 0;
    atomic_bool stop = true;
    o.stop = &stop;
    assert_int_equal(kmeans_run(x, n, 4, &o, &r, &e), XDC_ESTOPPED);
    assert_null(r.centroids);
    free(x);
}

/* The count of rows assigned is one pass for the first labels and one for every update. */
static void counts_passes(void **state)
{
    (void)state;
    const uint64_t n = 1500;
    float *x = clouds(n, 6, 5, 0.5);
    _Atomic uint64_t passes = 0;
    struct kmeans_options o = options(10);
    struct kmeans_result r;
    o.row_passes = &passes;
    o.iterations = 3;
    assert_int_equal(kmeans_run(x, n, 6, &o, &r, NULL), 0);
    assert_int_equal(passes, n * (1 + r.iterations));
    kmeans_result_close(&r);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_on_any_threads),    cmocka_unit_test(converges_to_a_fixed_point),
        cmocka_unit_test(finds_separate_clouds),  cmocka_unit_test(objective_never_rises),
        cmocka_unit_test(tolerance_and_restarts), cmocka_unit_test(ties_go_to_the_lowest),
        cmocka_unit_test(duplicates_do_not_hang), cmocka_unit_test(splits_empty_clusters),
        cmocka_unit_test(splits_in_a_run),        cmocka_unit_test(refusals),
        cmocka_unit_test(counts_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
