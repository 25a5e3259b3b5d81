/* early_stop: the rule as a table of loss curves and the epochs after which they end; what a checkpoint holds
 * goes on where it was. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "services/trainer/early_stop.h"

enum { EPOCHS = 12 };

static const struct {
    const char *name;
    struct early_stop_rule rule;
    double loss[EPOCHS];
    uint32_t stops; /* after so many epochs; 0: never */
} rows[] = {
    {"off", {0, 0, 1}, {5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}, 0},
    {"off, also when it rises", {0, 0, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 0},
    {"flat: after the second period", {0.05, 0, 3}, {5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}, 6},
    {"flat, one epoch a period", {0.05, 0, 1}, {5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}, 2},
    {"whatever it does", {100, 0, 1}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0.5, 0.25, 0.125}, 2},
    {"falls by enough in each period", {0.5, 0, 2}, {9, 8, 8, 7, 7, 6, 6, 5, 5, 4, 4, 3}, 0},
    {"falls by exactly as much", {0.5, 0, 1}, {9, 8.5, 8, 7.5, 7, 6.5, 6, 5.5, 5, 4.5, 4, 3.5}, 0},
    {"falls by a little less once", {0.5, 0, 1}, {9, 8.5, 8, 7.5, 7.25, 6, 5, 4, 3, 2, 1, 0}, 5},
    {"the best one counts, not the last", {0.5, 0, 3}, {9, 9, 9, 9, 7, 9, 9, 6, 9, 9, 9, 9}, 12},
    {"behind the warm-up", {0.05, 2, 3}, {5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}, 5},
    {"what the warm-up gained does not count", {0.5, 2, 3}, {9, 3, 3, 3, 2.75, 1, 1, 1, 1, 1, 1, 1}, 5},
    {"a warm-up of the round's length", {100, 12, 1}, {5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}, 0},
    {"a loss that is not finite is none", {0.5, 0, 2}, {9, NAN, 8, INFINITY, NAN, 7, NAN, NAN, 1}, 8},
    {"none at first", {0.5, 0, 2}, {NAN, NAN, NAN, 5, 5, 5, 5, 5, 5, 5, 5, 5}, 6},
    {"none at all", {0.5, 0, 2}, {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN}, 0},
};

/* Every curve stops where the table says, says so once, and its best loss is its lowest one until then. */
static void curves_stop_where_they_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct early_stop s = {0};
        uint32_t stops = 0, said = 0;
        double best = INFINITY;
        for (uint32_t n = 1; n <= EPOCHS; n++) {
            if (!stops && isfinite(rows[i].loss[n - 1]))
                best = fmin(best, rows[i].loss[n - 1]);
            if (early_stop_note(&s, &rows[i].rule, n, rows[i].loss[n - 1])) {
                stops = n;
                said++;
            }
        }
        if (stops != rows[i].stops || said > 1 || s.stopped != (stops > 0))
            fail_msg("%s: stops after %u epochs, not %u", rows[i].name, stops, rows[i].stops);
        assert_int_equal(s.measured > 0, isfinite(best));
        assert_true(s.measured == 0 || s.best == best);
    }
}

/* Through JSON after each epoch: the same decisions, the same bits. */
static void a_restored_one_decides_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct early_stop straight[2] = {{0}}, s[2] = {{0}};
        for (uint32_t n = 1; n <= EPOCHS; n++) {
            struct err e = {0};
            double third = rows[i].loss[n - 1] / 3;
            assert_int_equal(early_stop_note(&s[0], &rows[i].rule, n, third),
                             early_stop_note(&straight[0], &rows[i].rule, n, third));
            early_stop_note(&s[1], &rows[i].rule, n, 1);
            early_stop_note(&straight[1], &rows[i].rule, n, 1);
            json_t *j = early_stop_to_json(s, 2);
            char *text = json_dumps(j, 0);
            json_decref(j);
            memset(s, 0xff, sizeof s);
            j = json_loads(text, 0, NULL);
            free(text);
            assert_int_equal(early_stop_from_json(j, s, 2, &e), 0);
            json_decref(j);
            for (unsigned k = 0; k < 2; k++)
                assert_true(s[k].measured == straight[k].measured && s[k].best == straight[k].best &&
                            s[k].bounded == straight[k].bounded && s[k].before == straight[k].before &&
                            s[k].stopped == straight[k].stopped);
        }
    }
}

/* What lacks an entry or a field, or has one of another type, is refused. */
static void other_json_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "null",
        "{}",
        "[]",
        "[{\"measured\":1,\"best\":1.5,\"bounded\":true,\"before\":2.5,\"stopped\":false}]",
        "[{\"measured\":1,\"best\":1.5,\"bounded\":true,\"before\":2.5,\"stopped\":false}, {}]",
        "[{\"measured\":1,\"best\":\"x\",\"bounded\":true,\"before\":2.5,\"stopped\":false}, {}]",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct early_stop s[2];
        struct err e = {0};
        json_t *j = json_loads(wrong[i], JSON_DECODE_ANY, NULL);
        assert_non_null(j);
        assert_int_equal(early_stop_from_json(j, s, 2, &e), XDC_EFORMAT);
        assert_non_null(strstr(e.msg, "hold-out"));
        json_decref(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curves_stop_where_they_should),
        cmocka_unit_test(a_restored_one_decides_alike),
        cmocka_unit_test(other_json_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
