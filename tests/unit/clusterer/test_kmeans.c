/* kmeans: the promises of its header on small data, with brute force as the reference. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
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

/* Rows of an array, as a reader gives them; fails at the read that reaches row `fail`, or after `reads`. */
struct reader {
    const float *x;
    uint32_t d;
    uint64_t fail, reads;
};

static int read_rows(void *arg, uint64_t first, uint64_t n, float *out, struct err *e)
{
    struct reader *r = arg;
    if (first + n > r->fail || r->reads-- == 0)
        return err_set(e, -EIO, "row %llu is lost", (unsigned long long)r->fail);
    memcpy(out, r->x + first * r->d, n * r->d * sizeof *out);
    return 0;
}

/* Labels of the result are a whole search's in f64, the lowest of equal ones. */
static void assert_exact(const float *x, uint64_t n, uint32_t d, uint32_t k, const struct kmeans_result *r)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t best = 0;
        double least = INFINITY;
        for (uint32_t c = 0; c < k; c++) {
            double dist = distance(x + i * d, r->centroids + (size_t)c * d, d);
            best = dist < least ? c : best;
            least = dist < least ? dist : least;
        }
        assert_int_equal(r->labels[i], best);
    }
}

static void assert_same(const struct kmeans_result *a, const struct kmeans_result *b, uint64_t n,
                        size_t cells)
{
    assert_memory_equal(a->labels, b->labels, n * sizeof *a->labels);
    assert_memory_equal(a->centroids, b->centroids, cells * sizeof *a->centroids);
    assert_true(a->objective == b->objective);
    assert_int_equal(a->iterations, b->iterations);
    assert_int_equal(a->empty_splits, b->empty_splits);
}

/* On 1 and 2 threads, with blocks of any shape, with and without the first pass in integers, from memory and
 * from a reader that gives a few rows at a time the result is the same bits, and its labels are exact. */
static void same_in_any_way(const float *x, uint64_t n, uint32_t d, struct kmeans_options o)
{
    const uint32_t blocks[][2] = {{0, 0}, {256, 256}, {4096, 4096}, {256, 4096}, {17, 32}};
    struct kmeans_result first, r;
    assert_int_equal(kmeans_run(x, n, d, &o, &first, NULL), 0);
    assert_exact(x, n, d, o.k, &first);
    for (unsigned i = 0; i < 10; i++) {
        struct reader from = {x, d, UINT64_MAX, UINT64_MAX};
        struct feed f;
        o.threads = 1 + i % 2;
        o.first = (i + i / 2) % 2 ? NEAREST_INT8 : NEAREST_F32;
        o.block_rows = blocks[i / 2][0];
        o.block_columns = blocks[i / 2][1];
        if (i / 2 % 2 == 0)
            assert_int_equal(feed_reader(&f, n, d, 0, read_rows, &from, NULL), 0);
        else
            feed_array(&f, x, n, d);
        assert_int_equal(kmeans_run_feed(&f, &o, &r, NULL), 0);
        assert_same(&r, &first, n, (size_t)o.k * d);
        kmeans_result_close(&r);
        feed_close(&f);
    }
    kmeans_result_close(&first);
}

static void same_on_random_rows(void **state)
{
    (void)state;
    struct kmeans_options o = options(290);
    float *x = clouds(4500, 40, 60, 0.6);
    o.iterations = 3;
    o.init = KMEANS_GIVEN;
    o.given = x;
    same_in_any_way(x, 4500, 40, o);
    free(x);
}

/* Every row is there many times over, and more clusters are asked for than rows are distinct. */
static void same_on_duplicates(void **state)
{
    (void)state;
    struct kmeans_options o = options(64);
    float *x = clouds(3000, 9, 20, 0.5);
    o.iterations = 4;
    for (uint64_t i = 150; i < 3000; i++)
        memcpy(x + i * 9, x + i % 150 * 9, 9 * sizeof *x);
    same_in_any_way(x, 3000, 9, o);
    o.k = 160;
    o.init = KMEANS_GIVEN;
    o.given = x;
    same_in_any_way(x, 3000, 9, o);
    free(x);
}

/* Points of a grid and centroids between them: most rows are as near to several centroids. */
static void same_on_ties(void **state)
{
    (void)state;
    const uint64_t n = 4096;
    struct kmeans_options o = options(64);
    float x[4096 * 3], centroids[64 * 3];
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < 3; j++)
            x[i * 3 + j] = (float)(i >> (4 * j) & 15) - 7.5f;
    for (uint32_t i = 0; i < 64; i++)
        for (uint32_t j = 0; j < 3; j++)
            centroids[i * 3 + j] = (float)(4 * (i >> (2 * j) & 3)) - 6.5f;
    o.init = KMEANS_GIVEN;
    o.given = centroids;
    for (o.iterations = 0; o.iterations < 4; o.iterations++)
        same_in_any_way(x, n, 3, o);
}

/* Centroids may be given; bounds that spare work change nothing, those of the first pass neither: each
 * iteration is that of a run begun where the one before ended. */
static void bounds_change_nothing(void **state)
{
    (void)state;
    const uint64_t n = 6000;
    const uint32_t d = 24, k = 40;
    float *x = clouds(n, d, 40, 0.25);
    struct kmeans_options o = options(k);
    struct kmeans_result step, whole;
    float *centroids = malloc((size_t)k * d * sizeof *centroids);
    memcpy(centroids, x, (size_t)k * d * sizeof *centroids);
    for (uint32_t i = 1; i < 12; i++) {
        o.iterations = 1;
        o.init = KMEANS_GIVEN;
        o.first = NEAREST_F32;
        o.given = centroids;
        assert_int_equal(kmeans_run(x, n, d, &o, &step, NULL), 0);
        o.iterations = i;
        o.first = NEAREST_INT8;
        o.given = x;
        assert_int_equal(kmeans_run(x, n, d, &o, &whole, NULL), 0);
        if (whole.iterations == i)
            assert_memory_equal(step.centroids, whole.centroids, (size_t)k * d * sizeof *centroids);
        assert_exact(x, n, d, k, &whole);
        memcpy(centroids, step.centroids, (size_t)k * d * sizeof *centroids);
        kmeans_result_close(&step);
        kmeans_result_close(&whole);
    }
    free(centroids);
    free(x);
}

/* What a reader fails with is what the run fails with. */
static void reader_fails(void **state)
{
    (void)state;
    float *x = clouds(5000, 4, 5, 0.5);
    struct kmeans_options o = options(10);
    for (uint64_t fail = 0; fail < 5000; fail += 1500) {
        struct reader from = {x, 4, fail, UINT64_MAX};
        struct kmeans_result r;
        struct feed f;
        struct err e;
        assert_int_equal(feed_reader(&f, 5000, 4, 0, read_rows, &from, &e), 0);
        assert_int_equal(kmeans_run_feed(&f, &o, &r, &e), -EIO);
        assert_non_null(strstr(e.msg, "is lost"));
        assert_null(r.labels);
        feed_close(&f);
    }
    free(x);
}

/* A run that is cut off again and again goes on from its checkpoint, through restarts too, and ends as one
 * that was not; the file is gone then. One of other data, or damaged, is as none. */
static void goes_on_from_a_checkpoint(void **state)
{
    (void)state;
    const uint64_t n = 3000; /* three reads a pass */
    const uint32_t d = 8, k = 30;
    float *x = clouds(n, d, 50, 0.4);
    char path[] = "/tmp/test_kmeans.XXXXXX";
    int fd = mkstemp(path), rc = -EIO;
    struct kmeans_options o = options(k);
    struct kmeans_result whole, r;
    uint32_t cut = 0;
    assert_true(fd >= 0);
    o.restarts = 3;
    assert_int_equal(kmeans_run(x, n, d, &o, &whole, NULL), 0);
    assert_true(whole.iterations > 5);
    o.checkpoint = path;
    assert_int_equal(write(fd, "damaged", 7), 7);
    close(fd);
    while (rc) { /* 12 passes: check and sample, at most two to take it up, the rest goes on */
        struct reader from = {x, d, UINT64_MAX, 36};
        struct feed f;
        assert_int_equal(feed_reader(&f, n, d, 0, read_rows, &from, NULL), 0);
        rc = kmeans_run_feed(&f, &o, &r, NULL);
        feed_close(&f);
        assert_true(rc == 0 || rc == -EIO);
        assert_true(++cut < 100);
    }
    assert_true(cut > 2);
    assert_same(&r, &whole, n, (size_t)k * d);
    assert_int_equal(r.restart, whole.restart);
    assert_int_equal(access(path, F_OK), -1);
    kmeans_result_close(&r);
    kmeans_result_close(&whole);
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
        cmocka_unit_test(counts_passes),          cmocka_unit_test(same_on_random_rows),
        cmocka_unit_test(same_on_duplicates),     cmocka_unit_test(same_on_ties),
        cmocka_unit_test(bounds_change_nothing),  cmocka_unit_test(goes_on_from_a_checkpoint),
        cmocka_unit_test(reader_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
