/* cpus: what taskset leaves, and cores among them. The reference is nproc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include "lib/cpus.h"

static unsigned nproc(void)
{
    unsigned n = 0;
    FILE *f = popen("env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc", "r");
    assert_non_null(f);
    assert_int_equal(1, fscanf(f, "%u", &n));
    assert_int_equal(0, pclose(f));
    return n;
}

static void counts_what_may_be_used(void **state)
{
    (void)state;
    assert_int_equal(nproc(), cpus_usable());
    assert_in_range(cpus_cores(), 1, cpus_usable());
}

static void each_cpu_alone_is_one_core(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(0, sched_getaffinity(0, sizeof all, &all));
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        assert_int_equal(0, sched_setaffinity(0, sizeof one, &one));
        assert_int_equal(1, cpus_usable());
        assert_int_equal(1, cpus_cores());
        assert_int_equal(1, nproc());
    }
    assert_int_equal(0, sched_setaffinity(0, sizeof all, &all));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_what_may_be_used),
                                       cmocka_unit_test(each_cpu_alone_is_one_core)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
