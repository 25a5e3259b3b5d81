/* scores, and k-means whose distances it computes: on the CPU, as there need not be a GPU. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/torch/scores.h"
#include "services/clusterer/kmeans.h"

#define WORKERS 2

static void must(int rc, const struct err *e)
{
    if (rc)
        fail_msg("%s", e->msg);
}

static float *normal(uint64_t n, uint32_t d, uint64_t seed)
{
    float *x = malloc(n * d * sizeof *x);
    struct rng r;
    rng_init(&r, seed);
    for (uint64_t i = 0; i < n * d; i++)
        x[i] = (float)rng_normal(&r);
    return x;
}

static float *offsets(const float *c, uint32_t k, uint32_t d)
{
    float *out = malloc(k * sizeof *out);
    for (uint32_t i = 0; i < k; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < d; j++)
            sum += (double)c[(size_t)i * d + j] * (double)c[(size_t)i * d + j];
        out[i] = (float)sum;
    }
    return out;
}

/* The label and both scores are those of a search in f64, for more centroids than are scored at a time, for
 * one row and for one centroid. */
static void scores_are_the_least(void **state)
{
    (void)state;
    const struct {
        uint32_t rows, k, d;
    } shapes[] = {{4096, 8193, 3}, {1, 5, 70}, {37, 1, 16}, {300, 2, 1}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const uint32_t n = shapes[s].rows, k = shapes[s].k, d = shapes[s].d;
        float *x = normal(n, d, 1), *c = normal(k, d, 2), *offset = offsets(c, k, d);
        uint32_t *label = malloc(n * sizeof *label), *pick = malloc(n * sizeof *pick);
        float *best = malloc(n * sizeof *best), *second = malloc(n * sizeof *second);
        struct scores *of = NULL;
        struct err e = {0};
        must(scores_open(NET_DEVICE_CPU, 0, 1, &of, &e), &e);
        assert_string_equal(scores_device(of), "cpu");
        must(scores_centroids(of, c, offset, k, d, &e), &e);
        for (uint32_t i = 0; i < n; i++)
            pick[i] = n - 1 - i;
        must(scores_rows(of, 0, x, pick, n, label, best, second, &e), &e);
        for (uint32_t i = 0; i < n; i += n / 64 + 1) {
            double least = INFINITY, next = INFINITY;
            uint32_t at = 0;
            for (uint32_t j = 0; j < k; j++) {
                double score = 0;
                for (uint32_t t = 0; t < d; t++) {
                    double v = (double)c[(size_t)j * d + t];
                    score += v * v - 2 * v * (double)x[(size_t)pick[i] * d + t];
                }
                next = score < least ? least : score < next ? score : next;
                at = score < least ? j : at;
                least = score < least ? score : least;
            }
            const double tolerance = 1e-4;
            assert_true(fabs((double)best[i] - least) < tolerance);
            assert_true(k == 1 ? isinf(second[i]) : fabs((double)second[i] - next) < tolerance);
            assert_true(label[i] == at || next - least < tolerance);
        }
        scores_close(of);
        free(x), free(c), free(offset), free(label), free(pick), free(best), free(second);
    }
}

/* A real device that fails from some call on: 0 fails at once, -1 never. */
struct failing {
    struct scores *of;
    _Atomic int64_t calls_left;
    _Atomic uint64_t scored;
};

static bool fails(struct failing *f, struct err *e)
{
    if (atomic_load(&f->calls_left) < 0 || atomic_fetch_sub(&f->calls_left, 1) > 0)
        return false;
    atomic_store(&f->calls_left, 0);
    err_set(e, XDC_ETORCH, "it went away");
    return true;
}

static int centroids(void *of, const float *c, const float *offset, uint32_t k, uint32_t d, struct err *e)
{
    struct failing *f = of;
    return fails(f, e) ? e->code : scores_centroids(f->of, c, offset, k, d, e);
}

static int rows(void *of, unsigned worker, const float *x, const uint32_t *pick, uint32_t n, uint32_t *label,
                float *best, float *second, struct err *e)
{
    struct failing *f = of;
    if (fails(f, e))
        return e->code;
    atomic_fetch_add(&f->scored, n);
    return scores_rows(f->of, worker, x, pick, n, label, best, second, e);
}

enum data { NOISE, DUPLICATES, TIES };

/* Ties: rows of small integers, which are as far from several centroids exactly. */
static float *make(enum data data, uint64_t n, uint32_t d)
{
    float *x = normal(n, d, 3);
    for (uint64_t i = 0; data == DUPLICATES && i < n; i++)
        memcpy(x + i * d, x + i % 97 * d, d * sizeof *x);
    for (uint64_t i = 0; data == TIES && i < n * d; i++)
        x[i] = x[i] > 0 ? 1 : -1;
    return x;
}

/* Labels, centroids and objective are the CPU's bits, whether the device stays or fails at the first call, at
 * the first rows or in the middle. */
static void k_means_is_the_same_on_a_device(void **state)
{
    (void)state;
    const uint64_t n = 9001;
    const uint32_t d = 33, k = 50;
    const int64_t stays[] = {-1, 0, 1, 7};
    for (int data = NOISE; data <= TIES; data++) {
        float *x = make((enum data)data, n, d);
        struct kmeans_options o = {.k = k, .restarts = 1, .iterations = 6, .threads = WORKERS, .seed = 5};
        struct kmeans_result cpu, device;
        struct err e = {0};
        must(kmeans_run(x, n, d, &o, &cpu, &e), &e);
        for (size_t i = 0; i < sizeof stays / sizeof *stays; i++) {
            struct failing f = {.calls_left = stays[i]};
            must(scores_open(NET_DEVICE_CPU, 0, WORKERS, &f.of, &e), &e);
            struct nearest_device g = {.name = "cpu", .of = &f, .centroids = centroids, .rows = rows};
            o.device = &g;
            must(kmeans_run(x, n, d, &o, &device, &e), &e);
            o.device = NULL;
            assert_memory_equal(device.labels, cpu.labels, n * sizeof *cpu.labels);
            assert_memory_equal(device.centroids, cpu.centroids, (size_t)k * d * sizeof *cpu.centroids);
            assert_true(device.objective == cpu.objective);
            assert_true(nearest_device_on(&g) == (stays[i] < 0));
            assert_true(stays[i] >= 0 || f.scored >= n);
            if (stays[i] >= 0)
                assert_string_equal(g.why.msg, "it went away");
            kmeans_result_close(&device);
            scores_close(f.of);
        }
        kmeans_result_close(&cpu);
        free(x);
    }
}

/* Where there is no GPU, a demand for one is refused with what to do. */
static void demanded_gpu_is_refused(void **state)
{
    (void)state;
    struct scores *of = NULL;
    struct err e = {0};
    if (net_gpus() > 0)
        skip();
    assert_int_equal(scores_open(NET_DEVICE_CUDA, 0, 1, &of, &e), XDC_ECONF);
    assert_non_null(strstr(e.msg, "nvidia-smi"));
    assert_null(of);
    must(scores_open(NET_DEVICE_AUTO, 0, 1, &of, &e), &e);
    assert_string_equal(scores_device(of), "cpu");
    scores_close(of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_the_least),
        cmocka_unit_test(k_means_is_the_same_on_a_device),
        cmocka_unit_test(demanded_gpu_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
