/* health: each warning is due where its figure crosses the bound, and not before. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "services/trainer/health.h"

/* Guessing among k classes has a loss of ln k; a round's first epoch is spared. */
static void loss_of_guessing(void **state)
{
    (void)state;
    static const struct {
        double of_chance; /* loss / ln k */
        uint32_t k, epoch;
        bool due;
    } rows[] = {{1, 4, 0, false},  {1, 4, 1, true},       {0.991, 4, 1, true},   {0.989, 4, 1, false},
                {3, 256, 1, true}, {0.98, 256, 7, false}, {0.995, 256, 7, true}, {0, 4, 5, false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(health_loss_at_chance(rows[i].of_chance * log(rows[i].k), rows[i].k, rows[i].epoch),
                         rows[i].due);
    assert_false(health_loss_at_chance(0, 1, 1)); /* one class is always guessed */
}

/* The largest cluster holds more than half, or more than half of the clusters are empty. */
static void clusters_collapse(void **state)
{
    (void)state;
    static const struct {
        uint64_t counts[8];
        uint32_t k;
        double largest;
        uint32_t used;
        bool due;
    } rows[] = {{{10, 10, 10, 10}, 4, 0.25, 4, false},
                {{20, 10, 5, 5}, 4, 0.5, 4, false},
                {{21, 10, 5, 4}, 4, 0.525, 4, true},
                {{20, 20, 0, 0}, 4, 0.5, 2, false},
                {{40, 0, 0, 0}, 4, 1, 1, true},
                {{5, 5, 5, 0, 0, 0, 0, 0}, 8, 1.0 / 3, 3, true},
                {{5, 5, 5, 5, 0, 0, 0, 0}, 8, 0.25, 4, false},
                {{0, 0, 0, 0, 5, 5, 5}, 7, 1.0 / 3, 3, true},
                {{0, 0, 0, 4, 4, 4, 4}, 7, 0.25, 4, false},
                {{89, 11}, 2, 0.89, 2, false}, /* of two one always holds half or more */
                {{91, 9}, 2, 0.91, 2, true},
                {{59, 20, 21}, 3, 0.59, 3, false},
                {{61, 20, 19}, 3, 0.61, 3, true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct health_clusters c;
        uint64_t labelled = 0;
        for (uint32_t j = 0; j < rows[i].k; j++)
            labelled += rows[i].counts[j];
        assert_int_equal(health_collapsed(rows[i].counts, rows[i].k, labelled, &c), rows[i].due);
        assert_true(fabs(c.largest - rows[i].largest) < 1e-12);
        assert_int_equal(c.used, rows[i].used);
    }
}

/* Without a labelled clip there is nothing to say. */
static void no_labels_no_warning(void **state)
{
    (void)state;
    struct health_clusters c;
    assert_false(health_collapsed((const uint64_t[]){0, 0, 0, 0}, 4, 0, &c));
}

/* Dimensions 0 to `dead` - 1 of 6 have one value for all rows; the rows come in parts. */
static bool is_dead(uint32_t dead, uint32_t rows, uint32_t *out_dead)
{
    enum { DIM = 6 };
    struct health_range r;
    struct err e;
    float x[2 * DIM];
    assert_int_equal(health_range_init(&r, DIM, &e), 0);
    for (uint32_t row = 0; row < rows; row += 2) {
        uint32_t n = rows - row < 2 ? 1 : 2;
        for (uint32_t i = 0; i < n * DIM; i++)
            x[i] = i % DIM < dead ? -3.5f : (float)((row + i / DIM) % 5) - 2 * (float)(i % DIM);
        health_range_add(&r, x, n);
    }
    assert_int_equal(r.rows, rows);
    bool is = health_range_dead(&r, out_dead);
    health_range_close(&r);
    return is;
}

/* More than half must be constant, over more than one row. */
static void constant_dimensions_are_dead(void **state)
{
    (void)state;
    uint32_t dead;
    for (uint32_t n = 0; n <= 6; n++) {
        assert_int_equal(is_dead(n, 9, &dead), n > 3);
        assert_int_equal(dead, n);
    }
    assert_false(is_dead(6, 1, &dead));
    assert_false(is_dead(6, 0, &dead));
    assert_true(is_dead(6, 2, &dead));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_of_guessing),
        cmocka_unit_test(clusters_collapse),
        cmocka_unit_test(no_labels_no_warning),
        cmocka_unit_test(constant_dimensions_are_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
