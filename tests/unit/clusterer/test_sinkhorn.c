/* sinkhorn and softmax: against plain f64 arithmetic, on any number of threads, from memory and from a
 * reader. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "lib/rng.h"
#include "services/clusterer/sinkhorn.h"
#include "services/clusterer/softmax.h"

/* lambda / 2 (log p + log q) of random logits, whose spread is `sharp`. */
static float *make_rows(uint64_t n, uint32_t k, double lambda, double sharp, uint64_t seed)
{
    float *m = calloc(n * k, sizeof *m);
    double *logit = malloc(k * sizeof *logit);
    struct rng r;
    rng_init(&r, seed);
    for (uint64_t i = 0; i < n; i++)
        for (int modality = 0; modality < 2; modality++) {
            double sum = 0;
            for (uint32_t j = 0; j < k; j++)
                sum += exp(logit[j] = sharp * rng_normal(&r) + (j % 3 == 0 ? sharp : 0));
            for (uint32_t j = 0; j < k; j++)
                m[i * k + j] += (float)(lambda / 2 * (logit[j] - log(sum)));
        }
    free(logit);
    return m;
}

static double log_sum(double most, double sum)
{
    return most + log(sum);
}

/* The same in the plainest way: one logarithm of a sum after the other. */
struct plain {
    double *log_alpha, *log_beta;
    uint32_t iterations;
};

static double row_lse(const float *m, const double *la, uint32_t k)
{
    double most = -INFINITY, sum = 0;
    for (uint32_t j = 0; j < k; j++)
        most = fmax(most, (double)m[j] + la[j]);
    for (uint32_t j = 0; j < k; j++)
        sum += exp((double)m[j] + la[j] - most);
    return log_sum(most, sum);
}

static double column_lse(const float *m, const double *lb, uint64_t n, uint32_t k, uint32_t j)
{
    double most = -INFINITY, sum = 0;
    for (uint64_t i = 0; i < n; i++)
        most = fmax(most, (double)m[i * k + j] + lb[i]);
    for (uint64_t i = 0; i < n; i++)
        sum += exp((double)m[i * k + j] + lb[i] - most);
    return log_sum(most, sum);
}

static void plain_run(const float *m, uint64_t n, uint32_t k, const double *r, double tolerance, bool compat,
                      uint32_t iterations, struct plain *p)
{
    p->log_alpha = malloc(k * sizeof(double));
    p->log_beta = malloc(n * sizeof(double));
    for (uint64_t i = 0; i < n; i++)
        p->log_beta[i] = -log((double)n);
    for (p->iterations = 0; p->iterations < iterations;) {
        double change = 0, off = 0;
        for (uint32_t j = 0; j < k; j++)
            p->log_alpha[j] = log(r[j]) - column_lse(m, p->log_beta, n, k, j);
        for (uint64_t i = 0; i < n; i++) {
            double b = -log((double)n) - row_lse(m + i * k, p->log_alpha, k);
            change += fabs(exp(p->log_beta[i] - b) - 1);
            p->log_beta[i] = b;
        }
        for (uint32_t j = 0; j < k; j++)
            off = fmax(off, fabs(exp(p->log_alpha[j] + column_lse(m, p->log_beta, n, k, j)) / r[j] - 1));
        if (compat ? p->iterations++ % 10 == 0 && change <= 0.1 : (p->iterations++, off <= tolerance))
            break;
    }
}

static void plain_close(struct plain *p)
{
    free(p->log_alpha);
    free(p->log_beta);
}

static double *uneven_sizes(uint32_t k)
{
    double *r = malloc(k * sizeof *r), sum = 0;
    for (uint32_t j = 0; j < k; j++)
        sum += r[j] = 1 + j % 4;
    for (uint32_t j = 0; j < k; j++)
        r[j] /= sum;
    return r;
}

static void run(const float *m, uint64_t n, uint32_t k, const double *r, const struct sinkhorn_options *o,
                struct sinkhorn_result *out)
{
    struct feed f;
    struct err e = {0};
    feed_array(&f, m, n, k);
    if (sinkhorn_run(&f, r, o, out, &e))
        fail_msg("%s", e.msg);
}

static const struct {
    uint64_t n;
    uint32_t k;
    double lambda, sharp, tolerance;
    bool compat;
} cases[] = {
    {1, 1, 20, 1, 1e-9, false},   {50, 3, 20, 1, 1e-9, false},    {1500, 17, 20, 0.1, 1e-9, false},
    {1026, 5, 2, 3, 1e-9, false}, {3000, 40, 20, 1, 1e-3, false}, {300, 16, 20, 2, 1e-3, false},
    {700, 33, 10, 0.5, 0, true},  {400, 8, 20, 0.2, 0, true},
};

/* Iterations, scalings (up to a common factor), labels, cost and error are those of plain f64 arithmetic, by
 * either rule; the transport's rows and columns add up to what they should. */
static void against_plain(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        uint64_t n = cases[c].n;
        uint32_t k = cases[c].k;
        float *m = make_rows(n, k, cases[c].lambda, cases[c].sharp, c + 1);
        double *r = uneven_sizes(k), cost = 0;
        struct sinkhorn_options o = {.lambda = cases[c].lambda,
                                     .tolerance = cases[c].tolerance,
                                     .iterations = 400,
                                     .compat = cases[c].compat,
                                     .threads = 2};
        struct sinkhorn_result got;
        struct plain want;
        plain_run(m, n, k, r, o.tolerance, o.compat, o.iterations, &want);
        run(m, n, k, r, &o, &got);
        assert_int_equal(got.iterations, want.iterations);
        assert_true(want.iterations < 400 && got.converged);
        for (uint32_t j = 0; j < k; j++)
            assert_true(fabs(got.log_alpha[j] - want.log_alpha[j]) < 1e-8);
        double off = 0;
        for (uint64_t i = 0; i < n; i++)
            want.log_beta[i] = -log((double)n) - row_lse(m + i * k, got.log_alpha, k);
        for (uint32_t j = 0; j < k; j++)
            off = fmax(off, fabs(exp(got.log_alpha[j] + column_lse(m, want.log_beta, n, k, j)) / r[j] - 1));
        assert_true(fabs(off - got.error) < 1e-10);
        assert_true(o.compat || off <= o.tolerance + 1e-10);
        for (uint64_t i = 0; i < n; i++) {
            const float *row = m + i * k;
            uint32_t best = 0;
            for (uint32_t j = 1; j < k; j++)
                if ((double)row[j] + got.log_alpha[j] > (double)row[best] + got.log_alpha[best])
                    best = j;
            assert_int_equal(got.labels[i], best);
            cost -= (double)row[best] / o.lambda / (double)n;
        }
        assert_true(fabs(cost - got.cost) < 1e-9);
        sinkhorn_result_close(&got);
        plain_close(&want);
        free(m);
        free(r);
    }
}

/* Probabilities far below what f64 holds, where p^(lambda / 2) is 0: the same steps as by logarithms
 * throughout. */
static void beyond_f64(void **state)
{
    (void)state;
    const uint64_t n = 500;
    const uint32_t k = 10;
    float *m = make_rows(n, k, 100, 60, 3);
    double *r = uneven_sizes(k);
    struct sinkhorn_options o = {.lambda = 100, .tolerance = 0, .iterations = 40, .threads = 2};
    struct sinkhorn_result got;
    struct plain want;
    unsigned vanished = 0;
    for (uint64_t i = 0; i < n * k; i++)
        vanished += exp((double)m[i]) == 0;
    assert_true(vanished > n * k / 2);
    plain_run(m, n, k, r, 0, false, 40, &want);
    run(m, n, k, r, &o, &got);
    for (uint32_t j = 0; j < k; j++)
        assert_true(fabs(got.log_alpha[j] / want.log_alpha[j] - 1) < 1e-9);
    sinkhorn_result_close(&got);
    plain_close(&want);
    free(m);
    free(r);
}

struct array {
    const float *x;
    uint32_t d;
    int fail_after; /* reads; negative: never */
};

static int read_array(void *arg, uint64_t first, uint64_t n, float *out, struct err *e)
{
    struct array *a = arg;
    if (a->fail_after-- == 0)
        return err_set(e, -EIO, "a broken disk");
    memcpy(out, a->x + first * a->d, n * a->d * sizeof *out);
    return 0;
}

/* Every bit is the same on 1, 2 and 5 threads, and from a reader in blocks. */
static void same_bits(void **state)
{
    (void)state;
    const uint64_t n = 5000;
    const uint32_t k = 37;
    float *m = make_rows(n, k, 20, 0.7, 9);
    double *r = uneven_sizes(k), mass[2][37];
    struct sinkhorn_result first = {0}, other;
    for (unsigned pass = 0; pass < 6; pass++) {
        static const unsigned threads[] = {1, 2, 5};
        struct sinkhorn_options o = {
            .lambda = 20, .tolerance = 1e-6, .iterations = 60, .compat = false, .threads = threads[pass % 3]};
        struct array a = {m, k, -1};
        struct feed f;
        if (pass < 3)
            feed_array(&f, m, n, k);
        else
            assert_int_equal(feed_reader(&f, n, k, 0, read_array, &a, NULL), 0);
        assert_int_equal(sinkhorn_mass(&f, &o, mass[pass > 0], NULL), 0);
        assert_int_equal(sinkhorn_run(&f, r, &o, pass ? &other : &first, NULL), 0);
        feed_close(&f);
        if (pass == 0)
            continue;
        assert_memory_equal(mass[0], mass[1], sizeof mass[0]);
        assert_memory_equal(other.labels, first.labels, n * sizeof *first.labels);
        assert_memory_equal(other.log_alpha, first.log_alpha, k * sizeof *first.log_alpha);
        assert_memory_equal(&other.cost, &first.cost, sizeof first.cost);
        assert_int_equal(other.iterations, first.iterations);
        sinkhorn_result_close(&other);
    }
    sinkhorn_result_close(&first);
    free(m);
    free(r);
}

/* Masses are the shares of the columns of p q. */
static void masses(void **state)
{
    (void)state;
    const uint64_t n = 1100;
    const uint32_t k = 6;
    float *m = make_rows(n, k, 20, 1, 4);
    double mass[6], want[6] = {0}, sum = 0;
    struct feed f;
    feed_array(&f, m, n, k);
    struct sinkhorn_options o = {.lambda = 20, .threads = 2};
    assert_int_equal(sinkhorn_mass(&f, &o, mass, NULL), 0);
    for (uint64_t i = 0; i < n * k; i++)
        sum += exp((double)m[i] / 10);
    for (uint64_t i = 0; i < n * k; i++)
        want[i % k] += exp((double)m[i] / 10) / sum;
    for (uint32_t j = 0; j < k; j++)
        assert_true(fabs(mass[j] - want[j]) < 1e-12);
    free(m);
}

/* Equal columns: every row takes the lowest. Rows that took no part get the same rule. */
static void ties(void **state)
{
    (void)state;
    const uint64_t n = 40;
    const uint32_t k = 18;
    float m[40 * 18];
    double r[18];
    uint32_t labels[40];
    for (uint64_t i = 0; i < n * k; i++)
        m[i] = -3;
    for (uint32_t j = 0; j < k; j++)
        r[j] = 1.0 / k;
    struct sinkhorn_options o = {.lambda = 20, .tolerance = 1e-9, .iterations = 10, .threads = 1};
    struct sinkhorn_result got;
    run(m, n, k, r, &o, &got);
    assert_int_equal(got.iterations, 1);
    m[7] = m[12] = -2; /* of the first row */
    sinkhorn_labels(m, n, k, got.log_alpha, 2, labels);
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(got.labels[i], 0);
        assert_int_equal(labels[i], i == 0 ? 7 : 0);
    }
    sinkhorn_result_close(&got);
}

/* What is no row of log-probabilities is named by the lowest of them; a reader's failure and a wish to stop
 * come through; no rows are no transport. */
static void refusals(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 0.5f, -2e9f};
    const uint64_t n = 3000;
    const uint32_t k = 5;
    double *r = uneven_sizes(k), mass[5];
    struct sinkhorn_options o = {.lambda = 20, .tolerance = 1e-9, .iterations = 5, .threads = 2};
    struct sinkhorn_result got;
    struct feed f;
    struct err e;
    for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++) {
        float *m = make_rows(n, k, 20, 1, 4);
        m[2900 * k + 4] = m[1234 * k + 3] = bad[b];
        feed_array(&f, m, n, k);
        assert_int_equal(sinkhorn_run(&f, r, &o, &got, &e), XDC_EFORMAT);
        assert_non_null(strstr(e.msg, "row 1234 "));
        assert_null(got.labels);
        assert_int_equal(sinkhorn_mass(&f, &o, mass, &e), XDC_EFORMAT);
        free(m);
    }
    float *m = make_rows(n, k, 20, 1, 4);
    for (int reads = 0; reads < 12; reads += 4) {
        struct array a = {m, k, reads};
        assert_int_equal(feed_reader(&f, n, k, 0, read_array, &a, NULL), 0);
        assert_int_equal(sinkhorn_run(&f, r, &o, &got, &e), -EIO);
        assert_string_equal(e.msg, "a broken disk");
        feed_close(&f);
    }
    atomic_bool stop = true;
    o.stop = &stop;
    feed_array(&f, m, n, k);
    assert_int_equal(sinkhorn_run(&f, r, &o, &got, &e), XDC_ESTOPPED);
    o.stop = NULL;
    feed_array(&f, m, 0, k);
    assert_int_equal(sinkhorn_run(&f, r, &o, &got, &e), XDC_EFORMAT);
    free(m);
    free(r);
}

/* Out of iterations it says so, with the error that is left; passes are counted. */
static void out_of_iterations(void **state)
{
    (void)state;
    const uint64_t n = 600;
    const uint32_t k = 9;
    float *m = make_rows(n, k, 20, 1, 8);
    double *r = uneven_sizes(k);
    _Atomic uint64_t passes = 0;
    struct sinkhorn_options o = {
        .lambda = 20, .tolerance = 0, .iterations = 3, .threads = 1, .row_passes = &passes};
    struct sinkhorn_result got;
    run(m, n, k, r, &o, &got);
    assert_false(got.converged);
    assert_int_equal(got.iterations, 3);
    assert_true(got.error > 1e-6 && got.error < 10);
    assert_int_equal(atomic_load(&passes), n * (3 + 3)); /* the largest, the start, the labels */
    sinkhorn_result_close(&got);
    free(m);
    free(r);
}

/* Exponentials are within their bound from e^0 to where they end; what is smaller stays there. */
static void exponentials(void **state)
{
    (void)state;
    double shift[1] = {0}, e[3], bias[3] = {0.25, 0, -1e300}, most, sum;
    for (double x = 0; x > -708; x -= 0.01) {
        double got = 0;
        float xf = (float)x;
        softmax_add(&got, &xf, 1, shift, 1);
        assert_true(fabs(got / exp((double)xf) - 1) < 2e-14);
    }
    double tiny = 0;
    softmax_add(&tiny, (const float[]){-1e9f}, 1, shift, 1);
    assert_true(tiny > 0 && tiny < 1e-307);
    softmax_row((const float[]){-1, -0.5f, 0}, bias, 3, e, &most, &sum);
    assert_true(most == -0.5 && fabs(sum - 1 - exp(-0.25)) < 4e-14 && e[1] > 1 - 2e-14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_plain), cmocka_unit_test(beyond_f64),
        cmocka_unit_test(same_bits),     cmocka_unit_test(masses),
        cmocka_unit_test(ties),          cmocka_unit_test(refusals),
        cmocka_unit_test(exponentials),  cmocka_unit_test(out_of_iterations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
