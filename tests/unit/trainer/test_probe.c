/* probe: nearest neighbours by brute force, written another way, agree; groups, ties and empty sets are as
 * the header says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/rng.h"
#include "services/trainer/probe.h"

enum { N = 150, D = 37, CLASSES = 5 };

struct candidate {
    double cosine;
    uint64_t row;
};

static int nearest_first(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->cosine != y->cosine)
        return x->cosine > y->cosine ? -1 : 1;
    return x->row < y->row ? -1 : 1;
}

static double cosine_of(const float *a, const float *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (unsigned j = 0; j < D; j++) {
        ab += (double)a[j] * (double)b[j];
        aa += (double)a[j] * (double)a[j];
        bb += (double)b[j] * (double)b[j];
    }
    return ab / sqrt(aa * bb);
}

/* Sorts all candidates of a row and counts classes over the first k. */
static bool row_is_right(const float *x, const uint32_t *class_of, const uint64_t *group, uint64_t i,
                         unsigned k)
{
    struct candidate all[N];
    unsigned n = 0, counts[CLASSES] = {0}, most = 0;
    for (uint64_t j = 0; j < N; j++)
        if (group[j] != group[i])
            all[n++] = (struct candidate){cosine_of(x + i * D, x + j * D), j};
    qsort(all, n, sizeof all[0], nearest_first);
    for (unsigned j = 0; j < k && j < n; j++)
        counts[class_of[all[j].row]]++;
    for (unsigned c = 0; c < CLASSES; c++)
        most = counts[c] > most ? counts[c] : most;
    for (unsigned j = 0; j < k && j < n; j++)
        if (counts[class_of[all[j].row]] == most)
            return class_of[all[j].row] == class_of[i];
    return false;
}

/* Random clouds of any tightness, groups of one and of several rows: the same share, which lies between
 * chance and all. */
static void agrees_with_brute_force(void **state)
{
    (void)state;
    static float x[N * D];
    uint32_t class_of[N];
    uint64_t group[N];
    unsigned between = 0;
    for (unsigned turn = 0; turn < 24; turn++) {
        struct rng r;
        unsigned k = 1 + turn % 8 * 3, right = 0;
        double got;
        rng_init(&r, turn);
        for (uint64_t i = 0; i < N; i++) {
            class_of[i] = (uint32_t)rng_below(&r, CLASSES);
            group[i] = i / (1 + turn % 3);
            for (unsigned j = 0; j < D; j++)
                x[i * D + j] = (float)((j % CLASSES == class_of[i] ? 0.1 * (turn % 7) : 0) + rng_normal(&r));
        }
        for (uint64_t i = 0; i < N; i++)
            right += row_is_right(x, class_of, group, i, k);
        assert_int_equal(probe_knn(x, N, D, class_of, group, k, &got, NULL), 0);
        assert_true(fabs(got - (double)right / N) < 1e-9);
        between += right > N / 4 && right < N - 5;
    }
    assert_true(between > 5);
}

/* The length of a row does not count, clips of one video do not help each other, of equal counts the class of
 * the nearest wins, and rows without a neighbour do not count. */
static void the_rules_hold(void **state)
{
    (void)state;
    static const struct {
        float x[8]; /* [4, 2] */
        uint32_t class_of[4];
        uint64_t n, group[4];
        uint32_t k;
        double want;
    } rows[] = {
        {{1, 0, 900, 1, 0, 2, 1, 700}, {0, 0, 1, 1}, 4, {0, 1, 2, 3}, 1, 1},
        {{1, 0, 900, 1, 0, 2, 1, 700}, {0, 0, 1, 1}, 4, {0, 0, 1, 1}, 1, 0},
        {{1, 0, 3, 1, 1, 3, 0, 1}, {0, 0, 1, 1}, 4, {0, 1, 2, 3}, 2, 1},    /* one of each: the nearer */
        {{1, 0, 3, 1, 1, 3, 0, 1}, {0, 0, 1, 1}, 4, {0, 1, 2, 3}, 3, 0},    /* two of the other */
        {{1, 0, 3, 1, 1, 3, 0, 1}, {0, 0, 1, 1}, 4, {0, 1, 2, 3}, 500, 0},  /* fewer rows than k */
        {{1, 0, 1, 0, 1, 0, 1, 0}, {0, 0, 0, 1}, 4, {0, 1, 2, 3}, 1, 0.75}, /* all equal: the lowest row */
        {{1, 0, 1, 0}, {0, 0}, 2, {5, 5}, 1, 0},                            /* no neighbour at all */
        {{1, 0, 1, 0, 1, 0}, {0, 0, 0}, 3, {5, 5, 6}, 1, 1},
        {{0, 0, 1, 0, 1, 1}, {0, 0, 0}, 3, {0, 1, 2}, 1, 1}, /* a row of zeros */
        {{0}, {0}, 1, {0}, 20, 0},
        {{0}, {0}, 0, {0}, 20, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double got = -1;
        assert_int_equal(
            probe_knn(rows[i].x, rows[i].n, 2, rows[i].class_of, rows[i].group, rows[i].k, &got, NULL), 0);
        if (fabs(got - rows[i].want) > 1e-9)
            fail_msg("row %zu: %f, not %f", i, got, rows[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_brute_force),
        cmocka_unit_test(the_rules_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
