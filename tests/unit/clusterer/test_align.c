/* align: against all permutations, on any number of threads, and with outputs that were shuffled. */
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
#include "services/clusterer/align.h"

static void softmax(float *p, uint32_t k, double sharp, struct rng *r)
{
    double sum = 0, x[256];
    for (uint32_t j = 0; j < k; j++)
        sum += x[j] = exp(sharp * rng_normal(r));
    for (uint32_t j = 0; j < k; j++)
        p[j] = (float)(x[j] / sum);
}

/* The mean over rows of the sum of differences under an order. */
static double difference(const float *video, const float *audio, uint64_t n, uint32_t k,
                         const uint32_t *order)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < k; j++)
            sum += fabs((double)video[i * k + j] - (double)audio[i * k + order[j]]);
    return sum / (double)n;
}

static double least_of(const float *video, const float *audio, uint64_t n, uint32_t k, uint32_t *order,
                       uint32_t at)
{
    double least = at == k ? difference(video, audio, n, k, order) : INFINITY;
    for (uint32_t i = at; i < k; i++) {
        uint32_t t = order[at];
        order[at] = order[i];
        order[i] = t;
        least = fmin(least, least_of(video, audio, n, k, order, at + 1));
        order[i] = order[at];
        order[at] = t;
    }
    return least;
}

/* No permutation is better, and what it says of itself is so. */
static void against_all(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 5);
    for (uint32_t c = 0; c < 18; c++) {
        uint32_t k = 1 + c % 6, order[6], plain[6] = {0, 1, 2, 3, 4, 5};
        uint64_t n = 3 + 41 * (c / 3);
        float video[256 * 6], audio[256 * 6];
        double before, after;
        for (uint64_t i = 0; i < n; i++) {
            softmax(video + i * k, k, 1, &r);
            softmax(audio + i * k, k, 1, &r);
        }
        assert_int_equal(align_outputs(video, audio, n, k, 2, NULL, order, &before, &after, NULL), 0);
        bool used[6] = {false};
        for (uint32_t j = 0; j < k; j++) {
            assert_true(order[j] < k && !used[order[j]]);
            used[order[j]] = true;
        }
        assert_true(fabs(after - difference(video, audio, n, k, order)) < 1e-5);
        assert_true(fabs(before - difference(video, audio, n, k, plain)) < 1e-5);
        assert_true(after - least_of(video, audio, n, k, plain, 0) < 1e-5);
    }
}

/* Outputs of one modality that are the other's in another order are found again, on 1, 2 and 5 threads alike.
 */
static void shuffled(void **state)
{
    (void)state;
    enum { N = 300, K = 133 };
    float *video = malloc(N * K * sizeof *video), *audio = malloc(N * K * sizeof *audio);
    uint32_t place[K], order[K];
    struct rng r;
    double before, after;
    rng_init(&r, 8);
    for (uint32_t j = 0; j < K; j++)
        place[j] = j;
    for (uint32_t j = K; j > 1; j--) {
        uint32_t i = (uint32_t)rng_below(&r, j), t = place[j - 1];
        place[j - 1] = place[i];
        place[i] = t;
    }
    for (uint64_t i = 0; i < N; i++) {
        softmax(video + i * K, K, 2, &r);
        for (uint32_t j = 0; j < K; j++)
            audio[i * K + place[j]] = video[i * K + j];
    }
    for (unsigned threads = 1; threads < 6; threads += threads + 1) {
        memset(order, 0, sizeof order);
        assert_int_equal(align_outputs(video, audio, N, K, threads, NULL, order, &before, &after, NULL), 0);
        assert_memory_equal(order, place, sizeof order);
        assert_true(after == 0 && before > 0.5);
    }
    free(video);
    free(audio);
}

/* Asked to stop it does. */
static void stopped(void **state)
{
    (void)state;
    const float p[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    uint32_t order[2];
    double before, after;
    atomic_bool stop = true;
    struct err e;
    assert_int_equal(align_outputs(p, p, 2, 2, 2, &stop, order, &before, &after, &e), XDC_ESTOPPED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_all),
        cmocka_unit_test(shuffled),
        cmocka_unit_test(stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
