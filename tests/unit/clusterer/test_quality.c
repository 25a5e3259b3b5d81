/* quality against scikit-learn's numbers, and its corner cases. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "lib/label_table.h"
#include "services/clusterer/quality.h"

#define assert_close(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

/* Agreement with the independent implementation: both are sums of some thousand f64 terms. */
#define TOLERANCE 1e-9

struct golden {
    uint32_t n, ka, kb, agree, skew;
    double mi, nmi, ami, entropy, imbalance;
    uint64_t min, max;
    double median;
    double ari, accuracy, class_entropy, purity;
};

/* Printed by tests/golden/metrics.py. */
static const struct golden golden[] = {
    /* scikit-learn 1.9.1, SciPy 1.17.1, NumPy 2.4.6 */
    {1000, 10, 10, 100, 0, 2.2975250094765, 1, 1, 2.2975250094765, 1.00996, 80, 116, 100.5, 1, 1, 0, 1},
    {1000, 10, 10, 50, 0, 0.662597526622063, 0.288371997378476, 0.275306378472596, 2.2975250094765, 1.00996,
     80, 116, 100.5, 0.242108588669585, 0.54, 1.63328136925398, 0.540910065505402},
    {1000, 10, 10, 0, 0, 0.0452911428613792, 0.0197042106269043, 0.00171457439814198, 2.2975250094765,
     1.00996, 80, 116, 100.5, 0.000799594678683722, 0.143, 2.25383503796335, 0.154096723783165},
    {5000, 64, 32, 30, 40, 0.620688085585393, 0.191914846392803, 0.131045362281988, 3.11534723429095,
     11.09090816, 30, 2047, 46.5, 0.117872615083247, 0.2382, 2.56073018102245, 0.326507301967488},
    {200, 100, 90, 0, 0, 3.28355586147516, 0.767089273057514, 0.00534882964593399, 4.31007680172377, 1.53, 0,
     6, 2, 0.00365973073393921, 0.385, 0.657074039102308, 0.60632183908046},
    {20000, 256, 256, 10, 10, 1.48408639655568, 0.274061161365777, 0.0421042211203564, 5.29810378807115,
     3.50184704, 47, 2047, 70, 0.0136626111112155, 0.1004, 3.90460159610523, 0.101138283064672},
    {300, 1, 7, 0, 0, 0, 0, 0, -0, 1, 300, 300, 300, 0, 0.16, 1.93869637066774, 0.16},
    {300, 1, 1, 0, 0, 0, 1, 1, -0, 1, 300, 300, 300, 1, 1, 0, 1},
    {40, 40, 3, 20, 5, 0.594392225195415, 0.306850568442435, 0.0050266481508889, 2.80477802306555, 3.2, 0, 8,
     1, 0.00839512564951275, 0.225, 0.252128819330523, 0.85515873015873},
};

static uint32_t mix(uint32_t i, uint32_t salt)
{
    uint32_t x = i * 2654435761u + salt * 40503u + 977u;
    x ^= x >> 15;
    x *= 2246822519u;
    return x ^ (x >> 13);
}

static void labelings(const struct golden *g, uint32_t *a, uint32_t *b)
{
    for (uint32_t i = 0; i < g->n; i++) {
        a[i] = mix(i, 1) % 100 < g->skew ? 0 : mix(i, 2) % g->ka;
        b[i] = mix(i, 3) % 100 < g->agree ? a[i] % g->kb : mix(i, 4) % g->kb;
    }
}

/* MI, NMI, AMI, ARI, entropies, imbalance, sizes, the accuracy of the best one-to-one naming and purity are
 * scikit-learn's, SciPy's and NumPy's. */
static void golden_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        const struct golden *g = &golden[i];
        uint32_t *a = malloc(g->n * sizeof *a), *b = malloc(g->n * sizeof *b);
        struct quality_agreement q;
        struct quality_sizes s;
        struct quality_truth t;
        labelings(g, a, b);
        assert_int_equal(quality_agreement(a, b, g->n, &q, NULL), 0);
        assert_int_equal(quality_sizes(a, g->n, g->ka, &s, NULL), 0);
        assert_int_equal(q.both, g->n);
        assert_close(q.mi, g->mi, TOLERANCE);
        assert_close(q.nmi, g->nmi, TOLERANCE);
        assert_close(q.ami, g->ami, TOLERANCE);
        assert_close(s.entropy, g->entropy, TOLERANCE);
        assert_close(s.imbalance, g->imbalance, TOLERANCE);
        assert_close(s.median, g->median, 0);
        assert_int_equal(s.min, g->min);
        assert_int_equal(s.max, g->max);
        assert_int_equal(quality_truth(a, b, g->n, &t, NULL), 0);
        assert_int_equal(t.both, g->n);
        assert_close(t.ari, g->ari, TOLERANCE);
        assert_close(t.accuracy, g->accuracy, TOLERANCE);
        assert_close(t.entropy, g->class_entropy, TOLERANCE);
        assert_close(t.purity, g->purity, TOLERANCE);
        free(a);
        free(b);
    }
}

/* Agreement is symmetric, and blind to the names of the clusters, however large they are. */
static void symmetric_and_blind_to_names(void **state)
{
    (void)state;
    const struct golden *g = &golden[3];
    uint32_t *a = malloc(g->n * sizeof *a), *b = malloc(g->n * sizeof *b), *c = malloc(g->n * sizeof *c);
    struct quality_agreement ab, ba, cb;
    labelings(g, a, b);
    for (uint32_t i = 0; i < g->n; i++)
        c[i] = 4000000000u - a[i] * 1000003u;
    assert_int_equal(quality_agreement(a, b, g->n, &ab, NULL), 0);
    assert_int_equal(quality_agreement(b, a, g->n, &ba, NULL), 0);
    assert_int_equal(quality_agreement(c, b, g->n, &cb, NULL), 0);
    assert_close(ab.ami, ba.ami, 1e-12);
    assert_close(ab.nmi, cb.nmi, 1e-12);
    assert_close(ab.ami, cb.ami, 1e-12);
    struct quality_truth tb, uc;
    assert_int_equal(quality_truth(a, b, g->n, &tb, NULL), 0);
    assert_int_equal(quality_truth(c, b, g->n, &uc, NULL), 0);
    assert_close(tb.ari, uc.ari, 0);
    assert_close(tb.accuracy, uc.accuracy, 0);
    assert_close(tb.entropy, uc.entropy, 1e-12);
    assert_close(tb.purity, uc.purity, 1e-12);
    free(a);
    free(b);
    free(c);
}

/* Clips without a label in either labeling do not count; with none left the answer is that of equal labelings
 * of nothing. */
static void absent_labels(void **state)
{
    (void)state;
    const uint32_t a[] = {0, 0, LABEL_NONE, 1, 1, 2, LABEL_NONE},
                   b[] = {5, 5, 9, 7, LABEL_NONE, 7, LABEL_NONE};
    const uint32_t a2[] = {0, 0, 1, 2}, b2[] = {5, 5, 7, 7};
    struct quality_agreement q, r;
    assert_int_equal(quality_agreement(a, b, 7, &q, NULL), 0);
    assert_int_equal(quality_agreement(a2, b2, 4, &r, NULL), 0);
    assert_int_equal(q.both, 4);
    assert_close(q.mi, r.mi, 0);
    assert_close(q.ami, r.ami, 0);
    /* 5 <-> 0 and 7 <-> one of 1 and 2: one clip of four is left over */
    struct quality_truth t;
    assert_int_equal(quality_truth(a, b, 7, &t, NULL), 0);
    assert_int_equal(t.both, 4);
    assert_close(t.accuracy, 0.75, 0);
    assert_close(t.purity, 1, 0);
    assert_close(t.entropy, 0, 0);
    const uint32_t now[] = {0, 1, LABEL_NONE, 3, 4, 9, LABEL_NONE},
                   then[] = {0, 2, 2, 3, 4, LABEL_NONE, LABEL_NONE};
    assert_close(quality_churn(now, then, 7), 0.25, 0);
    const uint32_t none[] = {LABEL_NONE, LABEL_NONE};
    assert_int_equal(quality_agreement(none, b, 2, &q, NULL), 0);
    assert_int_equal(q.both, 0);
    assert_close(quality_churn(none, then, 2), 0, 0);
    assert_int_equal(quality_truth(none, b, 2, &t, NULL), 0);
    assert_int_equal(t.both, 0);
    assert_close(t.accuracy, 0, 0);
}

/* Empty clusters count in the sizes; equal clusters have imbalance 1 and entropy ln k. */
static void sizes(void **state)
{
    (void)state;
    const uint32_t even[] = {0, 1, 2, 3, 3, 2, 1, 0}, lone[] = {2, 2, LABEL_NONE, 2};
    struct quality_sizes s;
    assert_int_equal(quality_sizes(even, 8, 4, &s, NULL), 0);
    assert_close(s.imbalance, 1, 1e-15);
    assert_close(s.entropy, log(4), 1e-15);
    assert_int_equal(s.empty, 0);
    assert_int_equal(quality_sizes(lone, 4, 4, &s, NULL), 0);
    assert_int_equal(s.labelled, 3);
    assert_int_equal(s.empty, 3);
    assert_int_equal(s.min, 0);
    assert_int_equal(s.max, 3);
    assert_close(s.median, 0, 0);
    assert_close(s.imbalance, 4, 1e-15);
    assert_close(s.entropy, 0, 0);
}

/* The share of the inertia follows the columns that separate the clusters. */
static void inertia_share(void **state)
{
    (void)state;
    /* clusters at (0, 0, 0) and (3, 0, 4), with noise that averages out: 9 of 25 lie in the first column */
    const float x[] = {1, 1, 0, -1, -1, 0, 4, 2, 4, 2, -2, 4};
    const uint32_t labels[] = {0, 0, 2, 2};
    double share;
    assert_int_equal(quality_inertia_share(x, 4, 3, labels, 3, 1, &share, NULL), 0);
    assert_close(share, 9.0 / 25, 1e-12);
    assert_int_equal(quality_inertia_share(x, 4, 3, labels, 3, 3, &share, NULL), 0);
    assert_close(share, 1, 1e-12);
    const uint32_t same[] = {1, 1, 1, 1};
    assert_int_equal(quality_inertia_share(x, 4, 3, same, 3, 1, &share, NULL), 0);
    assert_close(share, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_numbers), cmocka_unit_test(symmetric_and_blind_to_names),
        cmocka_unit_test(absent_labels),  cmocka_unit_test(sizes),
        cmocka_unit_test(inertia_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
