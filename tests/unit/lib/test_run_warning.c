/* run_warning: every warning has a name of its own, which finds it, and says what it is and what to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/run_warning.h"

/* Names are found and are none of another's; no text is empty or lacks its full stop. */
static void every_warning_is_explained(void **state)
{
    (void)state;
    for (int w = 0; w < RUN_WARNINGS; w++) {
        const char *texts[] = {run_warning_text(w), run_warning_causes(w), run_warning_advice(w)};
        assert_int_equal(run_warning_find(run_warning_name(w)), w);
        for (unsigned i = 0; i < 3; i++) {
            assert_true(strlen(texts[i]) > 20);
            assert_int_equal(texts[i][strlen(texts[i]) - 1], '.');
        }
    }
    assert_int_equal(run_warning_find("bogus"), -1);
    assert_int_equal(run_warning_find(""), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_warning_is_explained)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
