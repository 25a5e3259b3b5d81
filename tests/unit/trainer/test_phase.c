/* phase: the names are those of /status and of checkpoints, and every run takes the path that the
 * architecture draws. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "services/trainer/phase.h"

static const char *const names[] = {"stats", "warm",     "extract", "labels",
                                    "train", "validate", "export",  "done"};

/* Every phase has its name, is parsed back from it, and says what ends it. */
static void names_go_both_ways(void **state)
{
    (void)state;
    assert_int_equal(sizeof names / sizeof names[0], PHASE_DONE + 1);
    for (unsigned i = 0; i <= PHASE_DONE; i++) {
        enum phase p = PHASE_DONE;
        assert_string_equal(phase_name((enum phase)i), names[i]);
        assert_int_equal(phase_parse(names[i], &p), 0);
        assert_int_equal(p, i);
        assert_true(strlen(phase_ends((enum phase)i)) > 0);
        assert_string_not_equal(phase_ends((enum phase)i), "unknown");
    }
}

/* What is no phase is refused and leaves the output alone; a number beyond the last is unknown. */
static void strangers_are_unknown(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "Train", "train ", "trainer", "unknown"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        enum phase p = PHASE_EXPORT;
        assert_int_equal(phase_parse(wrong[i], &p), -EINVAL);
        assert_int_equal(p, PHASE_EXPORT);
    }
    assert_string_equal(phase_name((enum phase)(PHASE_DONE + 1)), "unknown");
    assert_string_equal(phase_ends((enum phase)(PHASE_DONE + 1)), "unknown");
}

/* The table of what follows what, for runs that cluster and runs that do not, before and after the last
 * round. */
static void every_phase_leads_on(void **state)
{
    (void)state;
    static const struct {
        enum phase from;
        bool clusters, last;
        enum phase to;
    } rows[] = {
        {PHASE_STATS, true, false, PHASE_WARM},     {PHASE_STATS, false, true, PHASE_WARM},
        {PHASE_WARM, true, false, PHASE_EXTRACT},   {PHASE_WARM, true, true, PHASE_EXTRACT},
        {PHASE_WARM, false, false, PHASE_TRAIN},    {PHASE_WARM, false, true, PHASE_EXPORT},
        {PHASE_EXTRACT, true, false, PHASE_LABELS}, {PHASE_EXTRACT, true, true, PHASE_LABELS},
        {PHASE_LABELS, true, false, PHASE_TRAIN},   {PHASE_LABELS, true, true, PHASE_EXPORT},
        {PHASE_TRAIN, true, false, PHASE_EXTRACT},  {PHASE_TRAIN, true, true, PHASE_EXTRACT},
        {PHASE_TRAIN, false, false, PHASE_TRAIN},   {PHASE_TRAIN, false, true, PHASE_EXPORT},
        {PHASE_EXPORT, true, true, PHASE_DONE},     {PHASE_EXPORT, false, true, PHASE_DONE},
        {PHASE_DONE, true, true, PHASE_DONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(phase_next(rows[i].from, true, rows[i].clusters, rows[i].last), rows[i].to);
}

/* A run of two rounds that clusters: the last training is measured by one more extract and cluster. */
static void the_last_training_is_measured(void **state)
{
    (void)state;
    static const enum phase path[] = {PHASE_STATS,   PHASE_WARM,    PHASE_EXTRACT, PHASE_LABELS,
                                      PHASE_TRAIN,   PHASE_EXTRACT, PHASE_LABELS,  PHASE_TRAIN,
                                      PHASE_EXTRACT, PHASE_LABELS,  PHASE_EXPORT,  PHASE_DONE};
    enum phase p = PHASE_STATS;
    unsigned trained = 0;
    for (size_t i = 0; i < sizeof path / sizeof path[0]; i++) {
        assert_int_equal(p, path[i]);
        trained += p == PHASE_TRAIN;
        p = phase_next(p, true, true, trained == 2);
    }
}

/* A run without rounds measures, extracts and ends, whoever makes the labels. */
static void a_run_that_only_extracts(void **state)
{
    (void)state;
    static const enum phase path[] = {PHASE_STATS, PHASE_WARM, PHASE_EXTRACT, PHASE_EXPORT, PHASE_DONE};
    for (int clusters = 0; clusters < 2; clusters++) {
        enum phase p = PHASE_STATS;
        for (size_t i = 0; i < sizeof path / sizeof path[0]; i++) {
            assert_int_equal(p, path[i]);
            p = phase_next(p, false, clusters, true);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_both_ways),       cmocka_unit_test(strangers_are_unknown),
        cmocka_unit_test(every_phase_leads_on),     cmocka_unit_test(the_last_training_is_measured),
        cmocka_unit_test(a_run_that_only_extracts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
