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

/* A final share of 1 is a constant rate, at every step. */
static void share_of_one_is_constant(void **state)
{
    (void)state;
    for (uint64_t step = 0; step < 100; step += 9)
        assert_true(schedule_lr(0.03, 1.0, step, 100) == 0.03);
}

/* The cosine begins at lr, is at the mean of both ends half-way, ends at lr x share, and never rises. */
static void cosine_goes_down_to_the_share(void **state)
{
    (void)state;
    static const double shares[] = {0.0, 0.01, 0.5};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        double lr = 0.2, last = lr;
        assert_true(fabs(schedule_lr(lr, shares[i], 0, 101) - lr) < 1e-15);
        assert_true(fabs(schedule_lr(lr, shares[i], 50, 101) - lr * (1 + shares[i]) / 2) < 1e-15);
        assert_true(fabs(schedule_lr(lr, shares[i], 25, 101) -
                         lr * (shares[i] + (1 - shares[i]) * 0.5 * (1 + sqrt(0.5)))) < 1e-15);
        assert_true(fabs(schedule_lr(lr, shares[i], 100, 101) - lr * shares[i]) < 1e-15);
        for (uint64_t step = 1; step <= 100; step++) {
            double now = schedule_lr(lr, shares[i], step, 101);
            assert_true(now < last);
            last = now;
        }
    }
}

/* A round of one step trains with the full rate, and a step beyond the round stays at the end's. */
static void edges_stay_in_range(void **state)
{
    (void)state;
    assert_true(schedule_lr(0.1, 0.0, 0, 1) == 0.1);
    assert_true(schedule_lr(0.1, 0.0, 0, 0) == 0.1);
    assert_true(fabs(schedule_lr(0.1, 0.25, 500, 100) - 0.025) < 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_hold_every_position),
        cmocka_unit_test(share_of_one_is_constant),
        cmocka_unit_test(cosine_goes_down_to_the_share),
        cmocka_unit_test(edges_stay_in_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
