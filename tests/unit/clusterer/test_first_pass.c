/* k-means with its first pass in integers: what comes out is what comes out without, for rows of every kind.
 */
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

enum kind { NOISE, CLOUDS, DUPLICATES, GRID, HUGE_ROWS, TINY, CONSTANT, OUTLIER, LENGTHS, KINDS };

static float *rows_of(enum kind kind, uint64_t n, uint32_t d)
{
    float *x = malloc(n * d * sizeof *x);
    struct rng r;
    rng_init(&r, 5 + (uint64_t)kind);
    for (uint64_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < d; j++) {
            float v = (float)rng_normal(&r), *to = &x[i * d + j];
            switch (kind) {
            case CLOUDS:
                *to = (i % 50 >> j % 6 & 1 ? 2.0f : -2.0f) + v / 4;
                break;
            case DUPLICATES:
                *to = i < 40 ? v : x[i % 40 * d + j];
                break;
            case GRID: /* rows midway between others */
                *to = (float)(i >> 2 * (j % 5) & 3);
                break;
            case HUGE_ROWS:
                *to = v * 1e13f;
                break;
            case TINY: /* squares below the smallest normal number */
                *to = v * 1e-21f;
                break;
            case CONSTANT:
                *to = j % 2 ? 1000 : v;
                break;
            case OUTLIER:
                *to = j == i % d ? v * 1e4f : v;
                break;
            case LENGTHS: /* some are 0 */
                *to = i % 7 ? v * powf(10, (float)(i % 7) - 4) : 0;
                break;
            default:
                *to = v;
            }
        }
    return x;
}

static void assert_exact(const float *x, uint64_t n, uint32_t d, uint32_t k, const struct kmeans_result *r)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t best = 0;
        double least = INFINITY;
        for (uint32_t c = 0; c < k; c++) {
            double dist = 0;
            for (uint32_t j = 0; j < d; j++) {
                double t = (double)x[i * d + j] - (double)r->centroids[(size_t)c * d + j];
                dist += t * t;
            }
            best = dist < least ? c : best;
            least = dist < least ? dist : least;
        }
        assert_int_equal(r->labels[i], best);
    }
}

/* With `first` as without: from given centroids and from chosen ones. */
static void compare(const float *x, uint64_t n, uint32_t d, uint32_t k, unsigned threads, bool given)
{
    struct kmeans_result r[2];
    _Atomic uint64_t passes[2] = {0};
    for (int i = 0; i < 2; i++) {
        struct kmeans_options o = {.k = k,
                                   .restarts = given ? 1 : 2,
                                   .iterations = 3,
                                   .threads = threads,
                                   .seed = 3,
                                   .init = given ? KMEANS_GIVEN : KMEANS_RANDOM,
                                   .given = given ? x : NULL,
                                   .first = i ? NEAREST_INT8 : NEAREST_F32,
                                   .row_passes = &passes[i]};
        assert_int_equal(kmeans_run(x, n, d, &o, &r[i], NULL), 0);
    }
    assert_memory_equal(r[0].labels, r[1].labels, n * sizeof *r[0].labels);
    assert_memory_equal(r[0].centroids, r[1].centroids, (size_t)k * d * sizeof *r[0].centroids);
    assert_true(r[0].objective == r[1].objective);
    assert_int_equal(r[0].iterations, r[1].iterations);
    assert_int_equal(r[0].restart, r[1].restart);
    assert_int_equal(r[0].empty_splits, r[1].empty_splits);
    assert_int_equal(passes[0], passes[1]);
    if (given)
        assert_exact(x, n, d, k, &r[1]);
    kmeans_result_close(&r[0]);
    kmeans_result_close(&r[1]);
}

/* Odd and even shapes, from fewer centroids and columns than a vector has to several blocks of centroids. */
static void changes_nothing(void **state)
{
    (void)state;
    const struct {
        uint32_t n, d, k;
    } shapes[] = {{1, 1, 1}, {15, 3, 2}, {300, 17, 31}, {700, 64, 48}, {520, 37, 257}, {1040, 21, 1030}};
    if (!nearest_int8_able(64))
        skip();
    for (enum kind kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            float *x = rows_of(kind, shapes[i].n, shapes[i].d);
            compare(x, shapes[i].n, shapes[i].d, shapes[i].k, 1 + i % 2, true);
            if (shapes[i].k < 300)
                compare(x, shapes[i].n, shapes[i].d, shapes[i].k, 2 - i % 2, false);
            free(x);
        }
}

/* So many columns that centroids make several blocks, which batches of several groups meet. */
static void several_blocks(void **state)
{
    (void)state;
    const uint32_t n = 150, d = 8200, k = 70;
    if (!nearest_int8_able(d))
        skip();
    float *x = rows_of(NOISE, n, d);
    compare(x, n, d, k, 2, true);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_nothing),
        cmocka_unit_test(several_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
