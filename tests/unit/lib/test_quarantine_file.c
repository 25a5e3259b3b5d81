/* quarantine_file: what was written is what is read, and nothing cut, altered or out of order is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include "lib/fsutil.h"
#include "lib/quarantine_file.h"

static char dir[64], path[96];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-quarantine-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/m.lmdb.quarantine", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

/* Lists of 0, 1 and 1000 videos come back. */
static void test_round_trip(void **state)
{
    (void)state;
    static struct quarantined_video videos[1000];
    static const size_t counts[] = {0, 1, 1000};
    for (size_t i = 0; i < 1000; i++)
        videos[i] = (struct quarantined_video){.video = i * i * i + 5, .code = 1 + (uint32_t)i % 63};
    for (size_t c = 0; c < 3; c++) {
        struct quarantine_list in = {.manifest = 0xfedcba9876543210, .videos = videos, .n = counts[c]}, out;
        struct err e;
        assert_int_equal(quarantine_file_write(path, &in, &e), 0);
        assert_int_equal(quarantine_file_read(path, &out, &e), 0);
        assert_true(out.manifest == in.manifest && out.n == in.n);
        assert_memory_equal(out.videos, videos, out.n * sizeof *videos);
        free(out.videos);
    }
}

/* Entries out of order, doubled, or with a code that is no fault. */
static void test_refuses_entries(void **state)
{
    (void)state;
    static const struct quarantined_video wrong[][2] = {{{5, 7, 0}, {4, 7, 0}},
                                                        {{5, 7, 0}, {5, 8, 0}},
                                                        {{5, 0, 0}, {6, 7, 0}},
                                                        {{5, 7, 0}, {6, 64, 0}},
                                                        {{5, 7, 1}, {6, 7, 0}}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct quarantined_video videos[2];
        struct quarantine_list in = {.manifest = 1, .videos = videos, .n = 2}, out;
        struct err e;
        memcpy(videos, wrong[i], sizeof videos);
        assert_int_equal(quarantine_file_write(path, &in, &e), 0);
        assert_int_equal(quarantine_file_read(path, &out, &e), XDC_EFORMAT);
        assert_null(out.videos);
    }
}

/* No file, and a file cut at any length or with any byte altered. */
static void test_refuses_damage(void **state)
{
    (void)state;
    struct quarantined_video videos[] = {{1, 7, 0}, {3, 4, 0}};
    struct quarantine_list in = {.manifest = 99, .videos = videos, .n = 2}, out;
    struct err e;
    char *data;
    size_t size;
    assert_int_equal(quarantine_file_read(path, &out, &e), -ENOENT);
    assert_int_equal(quarantine_file_write(path, &in, &e), 0);
    assert_int_equal(fs_read(path, 1000, &data, &size, &e), 0);
    assert_int_equal(size, 32 + 2 * 16 + 8);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(fs_write_atomic(path, data, i, &e), 0);
        assert_int_equal(quarantine_file_read(path, &out, &e), XDC_EFORMAT);
        data[i] ^= 0x10;
        assert_int_equal(fs_write_atomic(path, data, size, &e), 0);
        assert_int_equal(quarantine_file_read(path, &out, &e), XDC_EFORMAT);
        data[i] ^= 0x10;
    }
    free(data);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_round_trip), TEST(test_refuses_entries),
                                       TEST(test_refuses_damage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
