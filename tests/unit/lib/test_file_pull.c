/* file_pull: a file comes over in pieces, whole or not at all, and goes on behind what is there. */
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
#include "lib/file_pull.h"
#include "lib/fsutil.h"

#define SIZE (2 * FILE_PIECE_BYTES + 777)

static char root[64], from[96], part[96], to[96];
static uint8_t piece[FILE_PIECE_BYTES];

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/xdc-pull-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(from, sizeof from, "%s/from", root);
    snprintf(part, sizeof part, "%s/part", root);
    snprintf(to, sizeof to, "%s/to", root);
    uint8_t *data = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    int rc = fs_write_atomic(from, data, SIZE, NULL);
    free(data);
    return rc;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(root, NULL);
}

static int put_next(struct file_pull *p)
{
    size_t n;
    uint64_t size;
    struct err e;
    assert_int_equal(file_piece_read(from, p->at, piece, &n, &size, &e), 0);
    return file_pull_put(p, p->at, size, SIZE, piece, n, &e);
}

static void check_equal(void)
{
    char *a, *b;
    size_t n, m;
    assert_int_equal(fs_read(from, SIZE, &a, &n, NULL), 0);
    assert_int_equal(fs_read(to, SIZE, &b, &m, NULL), 0);
    assert_true(n == m && memcmp(a, b, n) == 0);
    free(a);
    free(b);
}

/* However often it is cut off, and also when only the last piece's arrival was not noticed. */
static void goes_on(void **state)
{
    struct file_pull p;
    (void)state;
    for (int cut = 0; cut < 4; cut++) {
        assert_int_equal(file_pull_open(&p, part, NULL), 0);
        for (int i = 0; i < cut; i++)
            assert_int_equal(put_next(&p), 0);
        assert_int_equal(file_pull_done(&p), cut == 3);
        file_pull_close(&p);
        assert_int_equal(file_pull_open(&p, part, NULL), 0);
        assert_true(p.found == (cut == 3 ? SIZE : (uint64_t)cut * FILE_PIECE_BYTES));
        while (!file_pull_done(&p))
            assert_int_equal(put_next(&p), 0);
        assert_int_equal(file_pull_publish(&p, to, NULL), 0);
        assert_int_equal(access(part, F_OK), -1);
        check_equal();
    }
}

/* Pieces out of order, cut, too long, of another file, or of one that is too large change nothing. */
static void wrong_pieces_are_refused(void **state)
{
    struct file_pull p;
    struct err e;
    (void)state;
    assert_int_equal(file_pull_open(&p, part, &e), 0);
    assert_int_equal(put_next(&p), 0);
    const struct {
        uint64_t offset, size, max;
        size_t n;
    } wrong[] = {
        {0, SIZE, SIZE, FILE_PIECE_BYTES},
        {2 * FILE_PIECE_BYTES, SIZE, SIZE, 777},
        {FILE_PIECE_BYTES, SIZE, SIZE, FILE_PIECE_BYTES - 1},
        {FILE_PIECE_BYTES, SIZE, SIZE, 0},
        {FILE_PIECE_BYTES, SIZE + 1, SIZE + 1, FILE_PIECE_BYTES},
        {FILE_PIECE_BYTES, SIZE, SIZE - 1, FILE_PIECE_BYTES},
        {FILE_PIECE_BYTES, 5, SIZE, 0},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(
            file_pull_put(&p, wrong[i].offset, wrong[i].size, wrong[i].max, piece, wrong[i].n, &e),
            XDC_EFORMAT);
    while (!file_pull_done(&p))
        assert_int_equal(put_next(&p), 0);
    assert_int_equal(file_pull_publish(&p, to, &e), 0);
    check_equal();
    assert_int_equal(file_pull_open(&p, part, &e), 0);
    file_pull_discard(&p);
    assert_int_equal(access(part, F_OK), -1);
    size_t n;
    uint64_t size;
    assert_int_equal(file_piece_read(part, 0, piece, &n, &size, &e), -ENOENT);
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {CASE(goes_on), CASE(wrong_pieces_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
