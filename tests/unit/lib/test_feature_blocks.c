/* feature_store: whole blocks that are put as they are stored make the dump that their rows make, and a copy
 * is what it was begun as, or it is not sealed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>
#include "lib/feature_record.h"
#include "tests/unit/lib/dumps.h"

/* Seals a dump and opens it at another place, so that its name is free. */
static struct feature_store *make_source(const struct feature_info *info, int (*has)(uint64_t))
{
    struct feature_store *s;
    char from[160];
    struct err e;
    write_dump(info, has);
    snprintf(from, sizeof from, "%s/from", root);
    assert_int_equal(fs_remove_tree(from, NULL), 0);
    assert_int_equal(rename(dir, from), 0);
    if (feature_store_open(from, &s, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

/* Blocks [first, end) of an encoder; 0 or what the first refused one gives. */
static int put_blocks(struct feature_store *to, const struct feature_store *from, uint32_t encoder,
                      uint64_t first, uint64_t end, struct err *e)
{
    int rc = 0;
    for (uint64_t b = first; rc == 0 && b < end; b++) {
        struct feature_block block;
        uint64_t row = feature_store_info(from)->first + b * FEATURE_BLOCK_ROWS;
        assert_int_equal(feature_store_block(from, encoder, row, &block, NULL), 0);
        if (block.values)
            rc = feature_store_put_block(to, encoder, b, block.valid, block.values, e);
    }
    return rc;
}

static void put_row(struct feature_store *s, uint32_t encoder, uint64_t row)
{
    float values[64];
    for (uint32_t d = 0; d < feature_store_info(s)->encoder[encoder].dim; d++)
        values[d] = example(encoder, row, d);
    assert_int_equal(feature_store_put(s, encoder, row, values, NULL), 0);
}

static void seal_as(struct feature_store *s, const struct feature_store *from)
{
    struct err e;
    uint64_t hash;
    if (feature_store_seal(s, &hash, &e) < 0)
        fail_msg("%s", e.msg);
    feature_store_close(s);
    assert_true(hash == feature_store_info(from)->hash);
    assert_int_equal(feature_store_open(dir, &s, &e), 0);
    assert_int_equal(feature_store_verify(s, &e), 0);
    feature_store_close(s);
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
}

/* Of any dtype, with holes, rows and blocks in turn; blocks that an interrupted writer has kept are passed
 * over.
 */
static void test_same_dump(void **state)
{
    (void)state;
    for (int dtype = FEATURE_F32; dtype <= FEATURE_BF16; dtype++) {
        struct feature_info info = example_info(6500, 24, (enum feature_dtype)dtype);
        struct feature_store *s, *from = make_source(&info, some_rows);
        struct err e;
        assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
        assert_int_equal(put_blocks(s, from, 0, 0, 5, &e), 0);
        for (uint64_t row = 0; row < 1024; row++)
            if (some_rows(row))
                put_row(s, 1, row);
        assert_int_equal(put_blocks(s, from, 1, 1, 6, &e), 0);
        feature_store_close(s);
        assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
        assert_int_equal(feature_store_missing(s, 0), 5 * 1024);
        assert_int_equal(feature_store_missing(s, 1), 6 * 1024);
        assert_int_equal(put_blocks(s, from, 0, 0, 7, &e), 0);
        assert_int_equal(put_blocks(s, from, 1, 3, 6, &e), 0);
        for (uint64_t row = 6144; row < 6500; row++)
            if (some_rows(row))
                put_row(s, 1, row);
        seal_as(s, from);
        feature_store_close(from);
    }
}

/* Blocks out of place, over rows that are there, or with a bitmap that does not fit change nothing. */
static void test_refuses(void **state)
{
    (void)state;
    struct feature_info info = example_info(2500, 16, FEATURE_F32);
    struct feature_store *s, *from = make_source(&info, all_rows);
    uint8_t all[FEATURE_BITMAP_BYTES], none[FEATURE_BITMAP_BYTES] = {0};
    float values[16 * 1024] = {0};
    struct err e;
    memset(all, 0xff, sizeof all);
    assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
    assert_int_equal(put_blocks(s, from, 0, 0, 1, &e), 0);
    put_row(s, 1, 0);
    const struct {
        uint32_t encoder;
        uint64_t block;
        const uint8_t *present;
        int rc;
    } bad[] = {
        {0, 0, all, -EINVAL},
        {1, 0, all, -EINVAL},
        {2, 1, all, -EINVAL},
        {0, 3, all, -EINVAL},
        {0, UINT64_MAX / FEATURE_BLOCK_ROWS + 2, all, -EINVAL},
        {0, 1, none, XDC_EFORMAT},
        {0, 2, all, XDC_EFORMAT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(feature_store_put_block(s, bad[i].encoder, bad[i].block, bad[i].present, values, &e),
                         bad[i].rc);
    assert_int_equal(feature_store_put_block(from, 0, 1, all, values, &e), -EROFS);
    assert_int_equal(put_blocks(s, from, 0, 1, 3, &e), 0);
    for (uint64_t row = 1; row < 2500; row++)
        put_row(s, 1, row);
    seal_as(s, from);
    feature_store_close(from);
}

/* Without room, by the reserve or because the write fails, one block waits, the next is refused until there
 * is some, and nothing is lost. */
static void test_no_room(void **state)
{
    (void)state;
    struct feature_info info = example_info(8 * 1024, 256, FEATURE_F32);
    info.encoders = 1;
    struct feature_store *s, *from = make_source(&info, all_rows);
    struct rlimit old, small;
    struct err e;
    uint64_t hash;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    static const struct {
        uint64_t reserve_mib;
        rlim_t size;
        uint64_t taken; /* blocks, with the one that waits */
    } cases[] = {{(uint64_t)1 << 30, RLIM_INFINITY, 1}, {0, 3 << 20, 3}, {0, 5000, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
        feature_store_reserve(s, cases[i].reserve_mib);
        small = (struct rlimit){.rlim_cur = cases[i].size, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        int taken = put_blocks(s, from, 0, 0, cases[i].taken, &e);
        int first = put_blocks(s, from, 0, cases[i].taken, 8, &e);
        int again = put_blocks(s, from, 0, cases[i].taken, 8, &e);
        int sealed = feature_store_seal(s, &hash, &e);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        feature_store_reserve(s, 0);
        assert_int_equal(taken, 0);
        assert_true(first == -ENOSPC && again == -ENOSPC && sealed == -ENOSPC);
        assert_int_equal(put_blocks(s, from, 0, cases[i].taken, 8, &e), 0);
        seal_as(s, from);
    }
    feature_store_close(from);
}

/* A copy that is not what was promised keeps its unsealed name; an unfinished dump is no beginning of a copy,
 * nor a copy that of a dump, nor one of another dump with the same fields. */
static void test_copy(void **state)
{
    (void)state;
    struct feature_info info = example_info(3000, 16, FEATURE_F16);
    struct feature_store *s, *from = make_source(&info, some_rows);
    struct feature_record record = *feature_store_record(from), altered = record;
    struct err e;
    uint64_t hash;
    assert_true(feature_store_is_current(from));
    altered.encoder[0].valid++;
    assert_int_equal(feature_store_create_copy(dir, &altered, &s, &e), XDC_EFORMAT);
    assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
    assert_int_equal(put_blocks(s, from, 0, 0, 1, &e), 0);
    feature_store_close(s);
    assert_int_equal(feature_store_create_copy(dir, &record, &s, &e), 0);
    assert_int_equal(feature_store_missing(s, 0), 0);
    assert_int_equal(put_blocks(s, from, 0, 0, 1, &e), 0);
    assert_int_equal(feature_store_seal(s, &hash, &e), XDC_EFORMAT); /* not whole */
    assert_non_null(strstr(e.msg, "not those that were sealed"));
    feature_store_close(s);
    assert_int_equal(access(dir, F_OK), -1);
    assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
    assert_int_equal(feature_store_missing(s, 0), 0);
    feature_store_close(s);
    assert_int_equal(feature_store_create_copy(dir, &record, &s, &e), 0);
    assert_int_equal(put_blocks(s, from, 0, 0, 3, &e), 0);
    feature_store_close(s);
    feature_store_close(from);
    from = make_source(&info, all_rows);
    assert_int_equal(feature_store_create_copy(dir, feature_store_record(from), &s, &e), 0);
    assert_int_equal(feature_store_missing(s, 0), 0);
    for (uint32_t n = 0; n < 2; n++)
        assert_int_equal(put_blocks(s, from, n, 0, 3, &e), 0);
    seal_as(s, from);
    feature_store_close(from);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_same_dump),
        TEST(test_refuses),
        TEST(test_no_room),
        TEST(test_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
