/* row_store: rows in memory and in a file, and the file's failures. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "services/clusterer/row_store.h"

/* At the cap rows lie in memory, above it in a file, from which any stretch of them is read back. */
static void both_sides_of_the_cap(void **state)
{
    (void)state;
    const uint64_t n = 1000;
    const uint32_t d = 7;
    struct row_store s;
    float out[20 * 7];
    assert_int_equal(row_store_open(&s, n, d, n * d * sizeof(float), "/tmp", 0, NULL), 0);
    assert_int_equal(s.fd, -1);
    row_store_close(&s);
    assert_int_equal(row_store_open(&s, n, d, n * d * sizeof(float) - 1, "/tmp", 0, NULL), 0);
    assert_true(s.fd >= 0);
    for (uint64_t i = 0; i < n * d; i++)
        s.x[i] = (float)i;
    for (uint64_t first = 0; first <= n - 20; first += 98) {
        assert_int_equal(row_store_read(&s, first, 20, out, NULL), 0);
        assert_memory_equal(out, s.x + first * d, sizeof out);
    }
    struct err e;
    assert_int_equal(row_store_read(&s, n - 10, 20, out, &e), XDC_EFORMAT); /* behind the end */
    row_store_close(&s);
    assert_null(s.x);
    row_store_close(&s);
}

struct fed {
    _Atomic uint64_t rows, wrong;
};

static void on_fed(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker)
{
    struct fed *seen = arg;
    (void)worker;
    for (size_t i = 0; i < rows * 7; i++)
        seen->wrong += x[i] != (float)(first * 7 + i);
    seen->rows += rows;
}

/* A feed hands out the first n rows, the same from memory and from a file. */
static void feeds(void **state)
{
    (void)state;
    enum { N = 5000, FED = 4000, D = 7 };
    struct fed seen;
    for (int file = 0; file < 2; file++) {
        struct row_store s;
        struct feed f;
        assert_int_equal(row_store_open(&s, N, D, file ? 0 : UINT64_MAX, "/tmp", 0, NULL), 0);
        for (uint64_t i = 0; i < (uint64_t)N * D; i++)
            s.x[i] = (float)i;
        assert_int_equal(row_store_feed(&s, FED, 1, &f, NULL), 0);
        assert_int_equal(f.x == NULL, file);
        atomic_init(&seen.rows, 0);
        atomic_init(&seen.wrong, 0);
        assert_int_equal(feed_run(&f, 2, NULL, 100, on_fed, &seen, NULL), 0);
        assert_int_equal(seen.rows, FED);
        assert_int_equal(seen.wrong, 0);
        feed_close(&f);
        row_store_close(&s);
    }
}

/* No folder, and more room than there is, are refused before a row is written. */
static void refusals(void **state)
{
    (void)state;
    struct row_store s;
    struct err e;
    assert_int_equal(row_store_open(&s, 10, 10, 0, "/tmp/no such folder", 0, &e), -ENOENT);
    assert_null(s.x);
    assert_true(row_store_open(&s, 1ull << 36, 1024, 0, "/tmp", 0, &e) < 0); /* 256 TiB */
    assert_non_null(strstr(e.msg, "MiB are free in /tmp"));
    assert_int_equal(row_store_open(&s, 10, 10, 0, "/tmp", 1ull << 40, &e), -ENOSPC); /* the reserve */
    assert_null(s.x);
    assert_non_null(strstr(e.msg, "the file of rows that are clustered needs"));
    row_store_close(&s);
}

/* A configured cap is taken as it is; else it follows what is free. */
static void caps(void **state)
{
    (void)state;
    assert_true(row_store_cap(3) == 3ull << 20);
    assert_true(row_store_cap(0) > 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_of_the_cap),
        cmocka_unit_test(feeds),
        cmocka_unit_test(refusals),
        cmocka_unit_test(caps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
