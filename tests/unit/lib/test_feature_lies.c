/* feature_store: files that are sealed but are no sound dump: each is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "lib/feature_record.h"
#include "lib/store.h"
#include "tests/unit/lib/dumps.h"

/* A dump of the version before is refused by name, whatever its record's size. */
static void test_old_version(void **state)
{
    (void)state;
    struct store w = {0};
    struct feature_store *s;
    struct err e;
    unsigned meta;
    void *to;
    const uint32_t head[2] = {1, FEATURE_BLOCK_ROWS};
    assert_int_equal(fs_mkdirs(dir, &e), 0);
    assert_int_equal(store_create(&w, data_path, 1 << 20, &e), 0);
    assert_int_equal(store_db(&w, "meta", true, &meta, &e), 0);
    assert_int_equal(store_append(&w, meta, 0, 1872, &to, &e), 0);
    memset(to, 0, 1872);
    memcpy(to, "XDCFEAT\n", 8);
    memcpy((char *)to + 8, head, sizeof head);
    assert_int_equal(store_seal(&w, &e), 0);
    store_close(&w);
    assert_int_equal(feature_store_open(dir, &s, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "version 1 "));
}

/* Seals a dump of 1500 rows of one encoder, 2 values each in f32, all there, but for one lie. */
enum lie {
    NO_LIE,
    SHORT_BLOCK,
    LONG_BLOCK,
    NO_BLOCK,
    SHORT_BITMAP,
    BIT_BEYOND,
    BIT_LESS,
    BLOCK_BEYOND,
    NO_DATABASE,
    LIES
};

static void write_lie(enum lie lie)
{
    struct feature_info info = {.rows = 1500,
                                .total = 1500,
                                .ranks = 1,
                                .dtype = FEATURE_F32,
                                .encoders = 1,
                                .encoder = {{"video", 2, 1500}}};
    struct store w = {0};
    struct feature_record r;
    unsigned meta, rows, valid;
    struct err e;
    void *to;
    feature_record_fill(&info, (const uint64_t[]){0}, &r);
    assert_int_equal(fs_mkdirs(dir, &e), 0);
    assert_int_equal(store_create(&w, data_path, 1 << 20, &e), 0);
    assert_int_equal(store_db(&w, "meta", true, &meta, &e), 0);
    assert_int_equal(store_db(&w, "video", true, &rows, &e), 0);
    assert_int_equal(store_db(&w, lie == NO_DATABASE ? "other" : "video/valid", true, &valid, &e), 0);
    assert_int_equal(store_append(&w, meta, 0, sizeof r, &to, &e), 0);
    memcpy(to, &r, sizeof r);
    for (uint64_t b = 0; b < 2 + (lie == BLOCK_BEYOND); b++) {
        size_t bytes = (b == 0 ? 1024 : 476) * 8, bitmap = lie == SHORT_BITMAP ? 127 : 128;
        bytes += lie == LONG_BLOCK ? 8 : 0;
        bytes -= lie == SHORT_BLOCK ? 8 : 0;
        assert_int_equal(store_append(&w, valid, b, bitmap, &to, &e), 0);
        memset(to, 0, bitmap);
        memset(to, 0xff, b == 0 ? bitmap : 59);
        if (b == 1)
            ((uint8_t *)to)[59] = lie == BIT_BEYOND ? 0x1f : lie == BIT_LESS ? 0x07 : 0x0f;
        if (b == 1 && lie == NO_BLOCK)
            continue;
        assert_int_equal(store_append(&w, rows, b, bytes, &to, &e), 0);
        memset(to, 0, bytes);
    }
    assert_int_equal(store_seal(&w, &e), 0);
    store_close(&w);
}

/* Sealed as if it were whole, yet with blocks or bitmaps that are not what the record says: refused by name
 * when it is opened or the block is read, and nothing is read beyond a block's end. */
static void test_sealed_lies(void **state)
{
    (void)state;
    static const char *const said[LIES] = {
        [SHORT_BLOCK] = "block 0 of video is not as its bitmap says",
        [LONG_BLOCK] = "block 0 of video is not as its bitmap says",
        [NO_BLOCK] = "block 1 of video is not as its bitmap says",
        [SHORT_BITMAP] = "bitmap 0 of video has 127 bytes",
        [BIT_BEYOND] = "the bitmaps of video count 1501 rows, sealed with 1500",
        [BIT_LESS] = "the bitmaps of video count 1499 rows, sealed with 1500",
        [BLOCK_BEYOND] = "the bitmaps of video count 1500 rows, sealed with 1500",
        [NO_DATABASE] = "has no database video/valid"};
    for (enum lie lie = NO_LIE; lie < LIES; lie++) {
        struct feature_store *s = NULL;
        struct feature_block b;
        struct err e;
        float out[2];
        write_lie(lie);
        int rc = feature_store_open(dir, &s, &e);
        for (uint64_t row = 0; rc == 0 && row < 1500; row += 1499) {
            int read = feature_store_read(s, 0, row, 1, out, &e);
            rc = feature_store_block(s, 0, row, &b, &e);
            assert_int_equal(rc, read);
        }
        assert_int_equal(rc, lie == NO_LIE ? 0 : XDC_EFORMAT);
        if (lie != NO_LIE && (!strstr(e.msg, said[lie]) || !strstr(e.msg, dir)))
            fail_msg("lie %d: %s", (int)lie, e.msg);
        feature_store_close(s);
        assert_int_equal(fs_remove_tree(dir, NULL), 0);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_old_version), TEST(test_sealed_lies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
