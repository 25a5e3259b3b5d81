/* schedule: batches are counted without loss, and the learning rate follows the cosine that the method names.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "services/trainer/schedule.h"

/* Whole batches, a short last one, none at all, and numbers of the size of a web data set. */
static void batches_hold_every_position(void **state)
{
    (void)state;
    static const struct {
        uint64_t positions;
        uint32_t batch;
        uint64_t want;
    } rows[] = {{0, 32, 0},
                {1, 32, 1},
                {31, 32, 1},
                {32, 32, 1},
                {33, 32, 2},
                {7, 1, 7},
                {65000000000, 32, 2031250000}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(schedule_batches(rows[i].positions, rows[i].batch), rows[i].want);
}

/* The epochs at which the published schedule relabels (algorithms.md 4.6: 200 epochs, j / 99 to the power of
 * 1.5); a power of 1 divides evenly; every round has a step however few there are; the last ends with all. */
static void relabelling_grows_rarer(void **state)
{
    (void)state;
    static const double epochs[] = {0, 0.20, 0.57, 1.06, 1.62, 2.27, 2.98};
    for (uint32_t j = 0; j < 7; j++)
        assert_true(fabs((double)schedule_relabel(200000, 99, 1.5, j) / 1000 - epochs[j]) < 0.006);
    for (uint32_t j = 0; j <= 10; j++)
        assert_int_equal(schedule_relabel(500, 10, 1, j), 50 * j);
    for (uint64_t steps = 1; steps < 200; steps += 7) {
        for (uint32_t j = 0; j < 20; j++)
            assert_true(schedule_relabel(steps, 20, 1.5, j) < schedule_relabel(steps, 20, 1.5, j + 1));
        assert_int_equal(schedule_relabel(steps, 20, 1.5, 0), 0);
        assert_int_equal(schedule_relabel(steps, 20, 1.5, 20), steps > 20 ? steps : 20);
    }
}

static const struct schedule cosine = {.last = 0.01, .epochs = 10};

/* A final share of 1 is a constant rate, at every step. */
static void share_of_one_is_constant(void **state)
{
    (void)state;
    const struct schedule s = {.last = 1, .epochs = 10};
    for (uint64_t step = 0; step < 100; step += 9)
        assert_true(schedule_rate(&s, step, 10) == 1);
}

/* The cosine begins at 1, is at the mean of both ends half-way, ends at its share, and never rises. */
static void cosine_goes_down_to_the_share(void **state)
{
    (void)state;
    static const double shares[] = {0.0, 0.01, 0.5};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        /* 101 steps: one epoch of them */
        struct schedule s = {.last = shares[i], .epochs = 1};
        double last = 1;
        assert_true(fabs(schedule_rate(&s, 0, 101) - 1) < 1e-15);
        assert_true(fabs(schedule_rate(&s, 50, 101) - (1 + shares[i]) / 2) < 1e-15);
        assert_true(fabs(schedule_rate(&s, 25, 101) - (shares[i] + (1 - shares[i]) * 0.5 * (1 + sqrt(0.5)))) <
                    1e-15);
        assert_true(fabs(schedule_rate(&s, 100, 101) - shares[i]) < 1e-15);
        for (uint64_t step = 1; step <= 100; step++) {
            double now = schedule_rate(&s, step, 101);
            assert_true(now < last);
            last = now;
        }
    }
}

/* A round of one step trains with the full rate, and a step beyond the round stays at the end's. */
static void edges_stay_in_range(void **state)
{
    (void)state;
    const struct schedule one = {.last = 0, .epochs = 1};
    assert_true(schedule_rate(&one, 0, 1) == 1);
    assert_true(schedule_rate(&one, 0, 0) == 1);
    assert_true(fabs(schedule_rate(&cosine, 500, 10) - 0.01) < 1e-15);
}

/* The warm-up is a straight line from its share to the full rate, fractions of an epoch too; the cosine
 * starts behind it and still ends where it should. */
static void warm_up_leads_to_the_full_rate(void **state)
{
    (void)state;
    struct schedule s = {.warmup = 2.5, .warmup_start = 0.1, .last = 0.01, .epochs = 10};
    assert_true(fabs(schedule_rate(&s, 0, 10) - 0.1) < 1e-15);
    assert_true(fabs(schedule_rate(&s, 5, 10) - (0.1 + 0.9 * 5 / 25)) < 1e-15);
    assert_true(schedule_rate(&s, 24, 10) < 1);
    assert_true(schedule_rate(&s, 25, 10) == 1);
    assert_true(schedule_rate(&s, 26, 10) < 1);
    assert_true(fabs(schedule_rate(&s, 99, 10) - 0.01) < 1e-15);
}

/* The published schedule (algorithms.md 1.9): warm-up 10, then a tenth every 10, of 30 epochs. */
static void steps_fall_by_their_factor(void **state)
{
    (void)state;
    struct schedule s = {.warmup = 10, .step = true, .every = 10, .factor = 0.1, .epochs = 30};
    static const struct {
        uint64_t step;
        double want;
    } rows[] = {{0, 0}, {50, 0.5}, {99, 0.99}, {100, 1}, {199, 1}, {200, 0.1}, {299, 0.1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_true(fabs(schedule_rate(&s, rows[i].step, 10) - rows[i].want) < 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_hold_every_position), cmocka_unit_test(relabelling_grows_rarer),
        cmocka_unit_test(share_of_one_is_constant),    cmocka_unit_test(cosine_goes_down_to_the_share),
        cmocka_unit_test(edges_stay_in_range),         cmocka_unit_test(warm_up_leads_to_the_full_rate),
        cmocka_unit_test(steps_fall_by_their_factor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
