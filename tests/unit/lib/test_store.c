/* store: the sticky error, the growing map, and what a seal is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/store.h"

static char dir[64], path[128];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-store-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/s.lmdb", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

/* A full map is -ENOSPC; after it every write, commit and seal says the same again, and the file does not
 * open. */
static void test_sticky(void **state)
{
    (void)state;
    struct store s, r;
    struct err e, again;
    unsigned db;
    void *to;
    int rc = 0;
    assert_int_equal(store_create(&s, path, 1 << 20, &e), 0);
    assert_int_equal(store_db(&s, "a", true, &db, &e), 0);
    for (uint64_t key = 0; rc == 0 && key < 100; key++) {
        rc = store_append(&s, db, key, 65536, &to, &e);
        if (rc == 0)
            memset(to, 1, 65536);
    }
    assert_int_equal(rc, -ENOSPC);
    assert_non_null(strstr(e.msg, "full"));
    assert_int_equal(store_append(&s, db, 1000, 1, &to, &again), -ENOSPC);
    assert_string_equal(again.msg, e.msg);
    assert_int_equal(store_commit(&s, 0, &again), -ENOSPC);
    assert_int_equal(store_db(&s, "b", true, &db, &again), -ENOSPC);
    assert_int_equal(store_seal(&s, &again), -ENOSPC);
    assert_string_equal(again.msg, e.msg);
    store_close(&s);
    assert_int_equal(store_open(&r, path, UINT64_MAX, &e), XDC_EFORMAT);
    store_close(&r);
}

/* The same data fit when every commit asks for room, and all of it is there after the seal. */
static void test_grows(void **state)
{
    (void)state;
    struct store s;
    struct err e;
    unsigned db;
    void *to;
    const void *value;
    size_t size;
    uint64_t n;
    assert_int_equal(store_create(&s, path, 1 << 20, &e), 0);
    assert_int_equal(store_db(&s, "a", true, &db, &e), 0);
    for (uint64_t key = 0; key < 100; key++) {
        assert_int_equal(store_append(&s, db, key, 65536, &to, &e), 0);
        memset(to, (int)key, 65536);
        assert_int_equal(store_commit(&s, 1 << 20, &e), 0);
    }
    assert_int_equal(store_seal(&s, &e), 0);
    store_close(&s);
    assert_int_equal(store_open(&s, path, UINT64_MAX, &e), 0);
    assert_int_equal(store_db(&s, "b", false, &db, &e), XDC_EFORMAT);
    assert_int_equal(store_db(&s, "a", false, &db, &e), 0);
    assert_int_equal(store_count(&s, db, &n, &e), 0);
    assert_int_equal(n, 100);
    for (uint64_t key = 0; key < 100; key++) {
        assert_int_equal(store_get(&s, db, key, &value, &size, &e), 0);
        assert_true(size == 65536 && ((const uint8_t *)value)[0] == key &&
                    ((const uint8_t *)value)[65535] == key);
    }
    assert_int_equal(store_get(&s, db, 100, &value, &size, &e), -ENOENT);
    assert_int_equal(store_check(&s, &e), 0);
    store_close(&s);
}

/* Keys must ascend; a key that does not ends the writing. */
static void test_keys_ascend(void **state)
{
    (void)state;
    struct store s;
    struct err e;
    unsigned db;
    void *to;
    assert_int_equal(store_create(&s, path, 1 << 20, &e), 0);
    assert_int_equal(store_db(&s, "a", true, &db, &e), 0);
    assert_int_equal(store_append(&s, db, 300, 1, &to, &e), 0);
    assert_int_equal(store_append(&s, db, 299, 1, &to, &e), XDC_ESTORE);
    assert_int_equal(store_seal(&s, &e), XDC_ESTORE);
    store_close(&s);
    store_close(&s);
}

/* A folder that is not there is told by name. */
static void test_create_fails(void **state)
{
    (void)state;
    struct store s;
    struct err e;
    char there[160];
    snprintf(there, sizeof there, "%s/none/s.lmdb", dir);
    assert_int_equal(store_create(&s, there, 1 << 20, &e), -ENOENT);
    assert_non_null(strstr(e.msg, there));
    assert_int_equal(store_open(&s, there, UINT64_MAX, &e), -ENOENT);
    assert_non_null(strstr(e.msg, there));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_sticky),
        TEST(test_grows),
        TEST(test_keys_ascend),
        TEST(test_create_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
