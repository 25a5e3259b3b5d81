/* The choices of first centroids: where they come from, how likely, and how good. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "services/clusterer/kmeans_init.h"
#include "services/clusterer/rows.h"

static struct kmeans_options options(uint32_t k, enum kmeans_start init)
{
    return (struct kmeans_options){
        .k = k, .init = init, .restarts = 1, .iterations = 50, .threads = 2, .seed = 7};
}

static int init(const float *x, uint64_t n, uint32_t d, const struct kmeans_options *o, struct rng *r,
                float *centroids, struct err *e)
{
    struct feed f;
    feed_array(&f, x, n, d);
    return kmeans_init(&f, o, r, centroids, e);
}

/* `groups` small clouds around random places far apart. */
static float *clouds(uint64_t n, uint32_t d, uint32_t groups)
{
    float *x = malloc(n * d * sizeof *x), *place = malloc((size_t)groups * d * sizeof *place);
    struct rng r;
    rng_init(&r, 3);
    for (size_t i = 0; i < (size_t)groups * d; i++)
        place[i] = (float)(20 * rng_normal(&r));
    for (uint64_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < d; j++)
            x[i * d + j] = place[i % groups * d + j] + (float)rng_normal(&r);
    free(place);
    return x;
}

/* The row that a centroid is a copy of; n where there is none. */
static uint64_t row_of(const float *x, uint64_t n, uint32_t d, const float *centroid)
{
    uint64_t i = 0;
    while (i < n && memcmp(x + i * d, centroid, d * sizeof *x) != 0)
        i++;
    return i;
}

static double objective(const float *x, uint64_t n, uint32_t d, const float *centroids, uint32_t k)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        double least = INFINITY;
        for (uint32_t c = 0; c < k; c++)
            least = fmin(least, rows_distance(x + i * d, centroids + (size_t)c * d, d));
        sum += least;
    }
    return sum;
}

/* Random: k different rows, and every pair of rows equally often. */
static void random_is_uniform(void **state)
{
    (void)state;
    enum { N = 6, DRAWS = 30000 };
    const float x[N] = {0, 1, 2, 3, 4, 5};
    struct kmeans_options o = options(2, KMEANS_RANDOM);
    unsigned pairs[N][N] = {{0}};
    struct rng r;
    float centroids[2];
    rng_init(&r, 5);
    for (unsigned i = 0; i < DRAWS; i++) {
        assert_int_equal(init(x, N, 1, &o, &r, centroids, NULL), 0);
        pairs[(int)centroids[0]][(int)centroids[1]]++;
    }
    for (unsigned a = 0; a < N; a++)
        for (unsigned b = 0; b < N; b++) /* 2000 each, of deviation 43 */
            assert_true(a < b ? abs((int)pairs[a][b] - 2000) < 220 : pairs[a][b] == 0);
    o.k = N;
    float all[N];
    assert_int_equal(init(x, N, 1, &o, &r, all, NULL), 0);
    assert_memory_equal(all, x, sizeof x);
}

/* Given: taken as they are, by each restart, and improved from there. */
static void given_are_taken(void **state)
{
    (void)state;
    const float x[] = {0, 1, 2, 10, 11, 12}, given[] = {9, -5};
    struct kmeans_options o = options(2, KMEANS_GIVEN);
    struct kmeans_result r;
    struct rng rng;
    float centroids[2];
    o.given = given;
    rng_init(&rng, 1);
    assert_int_equal(init(x, 6, 1, &o, &rng, centroids, NULL), 0);
    assert_memory_equal(centroids, given, sizeof given);
    o.restarts = 2;
    assert_int_equal(kmeans_run(x, 6, 1, &o, &r, NULL), 0);
    assert_memory_equal(r.labels, ((uint32_t[]){1, 1, 1, 0, 0, 0}), 6 * sizeof(uint32_t));
    assert_memory_equal(r.centroids, ((float[]){11, 1}), 2 * sizeof(float));
    assert_int_equal(r.restart, 0);
    kmeans_result_close(&r);
}

/* k-means||: rows, the same on any number of threads, one in each of clouds far apart; and on a cloud without
 * structure better than random rows. */
static void parallel_is_good(void **state)
{
    (void)state;
    const uint64_t n = 5000;
    const uint32_t d = 12, k = 40;
    const unsigned threads[] = {1, 2, 3};
    float *x = clouds(n, d, k), first[40 * 12], centroids[40 * 12];
    struct kmeans_options o = options(k, KMEANS_PARALLEL);
    for (size_t i = 0; i < 3; i++) {
        struct rng r;
        bool met[40] = {false};
        rng_init(&r, 11);
        o.threads = threads[i];
        assert_int_equal(init(x, n, d, &o, &r, centroids, NULL), 0);
        if (i == 0)
            memcpy(first, centroids, sizeof first);
        assert_memory_equal(centroids, first, sizeof first);
        for (uint32_t c = 0; c < k; c++) {
            uint64_t row = row_of(x, n, d, centroids + c * d);
            assert_true(row < n);
            assert_false(met[row % k]);
            met[row % k] = true;
        }
    }
    free(x);
    x = clouds(n, 2, 1);
    double sum[2] = {0, 0};
    for (uint64_t seed = 0; seed < 5; seed++)
        for (int i = 0; i < 2; i++) {
            struct rng r;
            rng_init(&r, seed);
            o = options(k, i ? KMEANS_RANDOM : KMEANS_PARALLEL);
            assert_int_equal(init(x, n, 2, &o, &r, centroids, NULL), 0);
            sum[i] += objective(x, n, 2, centroids, k);
        }
    assert_true(sum[0] < 0.9 * sum[1]);
    free(x);
}

struct rows_of {
    const float *x;
    uint32_t d;
};

static int read_rows(void *arg, uint64_t first, uint64_t n, float *out, struct err *e)
{
    const struct rows_of *from = arg;
    (void)e;
    memcpy(out, from->x + first * from->d, n * from->d * sizeof *out);
    return 0;
}

/* Rows that are read block by block give the centroids of those in memory, by every choice; those are rows.
 */
static void same_from_a_reader(void **state)
{
    (void)state;
    const uint64_t n = 20000; /* more than k-means++ samples */
    const uint32_t d = 3, k = 20;
    const enum kmeans_start starts[] = {KMEANS_PLUSPLUS, KMEANS_PARALLEL, KMEANS_RANDOM};
    float *x = clouds(n, d, 30), whole[20 * 3], read[20 * 3];
    for (size_t i = 0; i < 3; i++) {
        struct kmeans_options o = options(k, starts[i]);
        struct rows_of from = {x, d};
        struct feed f;
        struct rng r;
        rng_init(&r, 4);
        assert_int_equal(init(x, n, d, &o, &r, whole, NULL), 0);
        rng_init(&r, 4);
        assert_int_equal(feed_reader(&f, n, d, 0, read_rows, &from, NULL), 0);
        assert_int_equal(kmeans_init(&f, &o, &r, read, NULL), 0);
        feed_close(&f);
        assert_memory_equal(read, whole, sizeof whole);
        for (uint32_t c = 0; c < k; c++)
            assert_true(row_of(x, n, d, whole + c * d) < n);
    }
    free(x);
}

/* Weighted k-means++ never takes a row that counts for nothing, and begins with any of the others in the
 * share of its weight. */
static void weights_count(void **state)
{
    (void)state;
    enum { DRAWS = 8000 };
    const float x[] = {0, 100, 1, 50};
    const double weight[] = {3, 0, 1, 0};
    struct kmeans_options o = options(2, KMEANS_PLUSPLUS);
    unsigned first[4] = {0};
    struct rng r;
    rng_init(&r, 2);
    for (unsigned i = 0; i < DRAWS; i++) {
        float centroids[2];
        assert_int_equal(kmeans_plusplus(x, weight, 4, 1, &o, &r, centroids, NULL), 0);
        assert_true((centroids[0] == 0 && centroids[1] == 1) || (centroids[0] == 1 && centroids[1] == 0));
        first[centroids[0] == 0 ? 0 : 2]++;
    }
    assert_true(abs((int)first[0] - 6000) < 250); /* of deviation 39 */
}

/* Fewer different rows than k: k-means|| leaves it to k-means++, which gives copies. */
static void few_rows(void **state)
{
    (void)state;
    const float x[] = {4, 4, 4, 4, 9, 9};
    struct kmeans_options o = options(4, KMEANS_PARALLEL);
    struct rng r;
    float centroids[4];
    rng_init(&r, 1);
    assert_int_equal(init(x, 6, 1, &o, &r, centroids, NULL), 0);
    unsigned fours = 0, nines = 0;
    for (unsigned c = 0; c < 4; c++) {
        fours += centroids[c] == 4;
        nines += centroids[c] == 9;
    }
    assert_true(fours + nines == 4 && fours && nines);
}

/* A stop ends the choice. */
static void stops(void **state)
{
    (void)state;
    float *x = clouds(5000, 4, 3), centroids[12];
    const enum kmeans_start starts[] = {KMEANS_PLUSPLUS, KMEANS_PARALLEL};
    atomic_bool stop = true;
    for (size_t i = 0; i < 2; i++) {
        struct kmeans_options o = options(3, starts[i]);
        struct rng r;
        rng_init(&r, 1);
        o.stop = &stop;
        assert_int_equal(init(x, 5000, 4, &o, &r, centroids, NULL), XDC_ESTOPPED);
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_is_uniform),
        cmocka_unit_test(given_are_taken),
        cmocka_unit_test(parallel_is_good),
        cmocka_unit_test(same_from_a_reader),
        cmocka_unit_test(weights_count),
        cmocka_unit_test(few_rows),
        cmocka_unit_test(stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
