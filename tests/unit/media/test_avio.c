/* avio: a window of a file is all there is, wherever libavformat or a hostile header wants to read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <libavutil/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/media/avio.h"

#define BEFORE 1000
#define INSIDE 70000 /* more than two of libavformat's buffers */
#define BEHIND 50000

static int make_file(void)
{
    char path[] = "/tmp/xdc-avio-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && unlink(path) == 0);
    uint8_t *all = malloc(BEFORE + INSIDE + BEHIND);
    memset(all, 'X', BEFORE + INSIDE + BEHIND);
    for (int i = 0; i < INSIDE; i++)
        all[BEFORE + i] = (uint8_t)('a' + i % 26);
    assert_int_equal(write(fd, all, BEFORE + INSIDE + BEHIND), BEFORE + INSIDE + BEHIND);
    free(all);
    return fd;
}

static void check(const uint8_t *got, int64_t at, int n)
{
    for (int i = 0; i < n; i++)
        if (got[i] != (uint8_t)('a' + (at + i) % 26))
            fail_msg("byte %lld is %c", (long long)at + i, got[i]);
}

/* Straight on from the beginning: the window, and then the end. */
static void whole(void **state)
{
    (void)state;
    static uint8_t got[INSIDE + BEHIND];
    const struct media_window w = {.offset = BEFORE, .bytes = INSIDE};
    struct avio_file f;
    int fd = make_file();
    assert_int_equal(avio_file_open(&f, fd, &w), 0);
    assert_int_equal(avio_size(f.ctx), INSIDE);
    assert_int_equal(avio_file_size(&f), INSIDE);
    assert_int_equal(avio_read(f.ctx, got, sizeof got), INSIDE);
    check(got, 0, INSIDE);
    assert_true(avio_feof(f.ctx));
    avio_file_close(&f);
    close(fd);
}

/* Any place, by context and by the bare function: what is read is of the window, and no more than there is.
 */
static void anywhere(void **state)
{
    (void)state;
    static const int64_t places[] = {
        -INT64_MAX,         -70001,   -1, 0, 1, 511, INSIDE - 1, INSIDE, INSIDE + 1, INSIDE + BEHIND, 1 << 30,
        INT64_MAX - BEFORE, INT64_MAX};
    static uint8_t got[4096];
    const struct media_window w = {.offset = BEFORE, .bytes = INSIDE};
    struct avio_file f;
    int fd = make_file();
    assert_int_equal(avio_file_open(&f, fd, &w), 0);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int64_t at = places[i], left = at >= 0 && at < INSIDE ? INSIDE - at : 0;
        int want = left < (int)sizeof got ? (int)left : (int)sizeof got;
        ssize_t n = avio_file_pread(&f, got, sizeof got, at);
        assert_true(at < 0 ? n < 0 : n == want);
        check(got, at, n > 0 ? (int)n : 0);
        for (int whence = SEEK_SET; whence <= SEEK_END; whence++) {
            int64_t pos = avio_seek(f.ctx, at, whence);
            int m = pos < 0 ? 0 : avio_read(f.ctx, got, sizeof got);
            if (m > 0) {
                assert_true(pos < INSIDE && m <= INSIDE - pos);
                check(got, pos, m);
            }
            (void)avio_seek(f.ctx, 0, SEEK_SET);
        }
    }
    avio_file_close(&f);
    close(fd);
}

/* A window of nothing is empty and not the whole file; one that cannot be is refused; none is the file. */
static void edges(void **state)
{
    (void)state;
    uint8_t got[16];
    struct avio_file f;
    int fd = make_file();
    assert_int_equal(avio_file_open(&f, fd, &(struct media_window){.offset = BEFORE}), 0);
    assert_int_equal(avio_file_size(&f), 0);
    assert_int_equal(avio_read(f.ctx, got, sizeof got), AVERROR_EOF);
    avio_file_close(&f);
    assert_true(avio_file_open(&f, fd, &(struct media_window){.offset = UINT64_MAX, .bytes = 1}) < 0);
    assert_true(avio_file_open(&f, fd, &(struct media_window){.offset = 1, .bytes = UINT64_MAX}) < 0);
    assert_int_equal(avio_file_open(&f, fd, &(struct media_window){0}), 0);
    assert_int_equal(avio_size(f.ctx), BEFORE + INSIDE + BEHIND);
    assert_int_equal(avio_read(f.ctx, got, sizeof got), sizeof got);
    assert_int_equal(got[0], 'X');
    avio_file_close(&f);
    /* The file has become shorter than its window. */
    assert_int_equal(ftruncate(fd, BEFORE + 10), 0);
    assert_int_equal(avio_file_open(&f, fd, &(struct media_window){.offset = BEFORE, .bytes = INSIDE}), 0);
    assert_int_equal(avio_read(f.ctx, got, sizeof got), 10);
    check(got, 0, 10);
    avio_file_close(&f);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole), cmocka_unit_test(anywhere),
                                       cmocka_unit_test(edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
