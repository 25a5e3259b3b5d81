#include "lib/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

/* A sentence grows on the way up, its code stays. */
static void grows(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(err_sys(&e, ENOENT, "open %s", "labels/round-0007.xdcl"), -ENOENT);
    assert_int_equal(err_wrap(&e, "load labels of round %d", 7), -ENOENT);
    assert_int_equal(e.code, -ENOENT);
    assert_string_equal(e.msg,
                        "load labels of round 7: open labels/round-0007.xdcl: No such file or directory");
    assert_int_equal(err_set(&e, XDC_EFORMAT, "row %d", 3), XDC_EFORMAT);
    assert_int_equal(e.code, XDC_EFORMAT);
    assert_string_equal(e.msg, "row 3");
}

/* Without a place for the sentence the code is still returned. */
static void no_place(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, XDC_ECONF, "x"), XDC_ECONF);
    assert_int_equal(err_sys(NULL, EIO, "x"), -EIO);
    assert_int_equal(err_wrap(NULL, "x"), 0);
}

/* A sentence that is too long is cut at its end, however often it is wrapped. */
static void cut(void **state)
{
    (void)state;
    struct err e;
    char text[3000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(err_set(&e, -1, "%s", text), -1);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    assert_int_equal(err_wrap(&e, "context"), -1);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    assert_memory_equal(e.msg, "context: aaa", 12);
    assert_int_equal(err_wrap(&e, "%s", text), -1);
    assert_int_equal(err_sys(&e, EIO, "%s", text), -EIO);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
}

/* Codes lead to the statuses of sysexits.h; what is unknown is a software error, never success. */
static void exit_statuses(void **state)
{
    (void)state;
    static const struct {
        int code, status;
    } cases[] = {
        {0, 0},
        {XDC_EUSAGE, 64},
        {XDC_EFORMAT, 65},
        {XDC_EMISMATCH, 65},
        {XDC_EMEDIA, 65},
        {XDC_EUNSTABLE, 65},
        {-ENOENT, 66},
        {XDC_ETORCH, 70},
        {-ENOMEM, 70},
        {-123456, 70},
        {1, 70},
        {-EEXIST, 73},
        {XDC_ESTORE, 74},
        {-ENOSPC, 74},
        {-EIO, 74},
        {-EROFS, 74},
        {XDC_ESTOPPED, 75},
        {XDC_ELOCKED, 75},
        {-EACCES, 77},
        {-EPERM, 77},
        {XDC_ECONF, 78},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(err_exit_status(cases[i].code), cases[i].status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows),
        cmocka_unit_test(no_place),
        cmocka_unit_test(cut),
        cmocka_unit_test(exit_statuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
