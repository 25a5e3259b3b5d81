/* harvest: a row is what was put, whatever the order; whatever is not whole counts as absent. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "services/trainer/harvest.h"

enum { VIDEO = 6, AUDIO = 3, ROW = 4 * (VIDEO + AUDIO) + 8, CLIPS = 50 };

static char dir[64];
static const char *const name = "harvest/round-0003.rows";

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-test-harvest-XXXXXX");
    return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return chdir("/") == 0 ? fs_remove_tree(dir, NULL) : -1;
}

static struct harvest_spec spec(void)
{
    return (struct harvest_spec){.run_dir = dir, .run = 77, .round = 3, .dims = {VIDEO, AUDIO}};
}

static float value(uint64_t clip, unsigned i)
{
    return (float)clip + 0.5f + (float)i / 64;
}

static struct harvest *create(bool anew)
{
    struct harvest_spec s = spec();
    struct harvest *h = NULL;
    struct err e = {0};
    if (harvest_create(&s, anew, CLIPS, 0, &h, &e) < 0)
        fail_msg("%s", e.msg);
    return h;
}

static struct harvest *reopen(const struct harvest_spec *s)
{
    struct harvest *h = NULL;
    struct err e = {0};
    if (harvest_open(s, &h, &e) < 0)
        fail_msg("%s", e.msg);
    return h;
}

static void put(struct harvest *h, uint64_t clip)
{
    float video[VIDEO], audio[AUDIO];
    struct err e = {0};
    for (unsigned i = 0; i < VIDEO; i++)
        video[i] = value(clip, i);
    for (unsigned i = 0; i < AUDIO; i++)
        audio[i] = value(clip, VIDEO + i);
    if (harvest_put(h, clip, video, audio, &e) < 0)
        fail_msg("%s", e.msg);
}

/* True when the clip has its row; any other row fails. */
static bool has(struct harvest *h, uint64_t clip)
{
    const float *row = NULL;
    struct err e = {0};
    int rc = harvest_get(h, clip, &row, &e);
    if (rc < 0)
        fail_msg("%s", e.msg);
    for (unsigned i = 0; rc && i < VIDEO + AUDIO; i++)
        assert_true(row[i] == value(clip, i));
    return rc;
}

/* Rows come in any order, from two handles, and twice; each is read back as it was last put, video before
 * audio, and the others are absent. */
static void rows_are_what_was_put(void **state)
{
    (void)state;
    struct harvest *a = create(true), *b = create(false);
    static const float old[VIDEO + AUDIO] = {1};
    struct err e = {0};
    assert_int_equal(harvest_put(a, 8, old, old, &e), 0);
    for (unsigned i = 0; i < 20; i++)
        put(i % 3 ? a : b, i * 7 % CLIPS / 2 * 2); /* even ones */
    put(b, 8);
    assert_int_equal(harvest_sync(a, &e), 0);
    harvest_close(a);
    harvest_close(b);
    bool want[CLIPS + 10] = {[8] = true};
    for (unsigned i = 0; i < 20; i++)
        want[i * 7 % CLIPS / 2 * 2] = true;
    struct harvest_spec s = spec();
    struct harvest *r = reopen(&s);
    for (uint64_t clip = 0; clip < CLIPS + 10; clip++)
        assert_int_equal(has(r, clip), want[clip]);
    harvest_close(r);
}

/* Going on keeps what is there; beginning anew does not. */
static void anew_is_empty(void **state)
{
    (void)state;
    struct harvest *h = create(true);
    put(h, 5);
    harvest_close(h);
    h = create(false);
    assert_true(has(h, 5));
    harvest_close(h);
    h = create(true);
    assert_false(has(h, 5));
    harvest_close(h);
}

/* A byte of a row is altered, or the file is cut within it: that row is absent, the ones beside it stay. */
static void torn_rows_are_absent(void **state)
{
    (void)state;
    struct harvest_spec s = spec();
    for (off_t at = 0; at < ROW; at++) {
        struct harvest *h = create(true);
        for (uint64_t clip = 2; clip < 5; clip++)
            put(h, clip);
        harvest_close(h);
        unsigned char byte;
        int fd = open(name, O_RDWR);
        assert_true(fd >= 0 && pread(fd, &byte, 1, 3 * ROW + at) == 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, 3 * ROW + at), 1);
        h = reopen(&s);
        assert_true(has(h, 2) && !has(h, 3) && has(h, 4));
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, 3 * ROW + at), 1);
        assert_true(has(h, 3));
        assert_int_equal(ftruncate(fd, 3 * ROW + at), 0);
        assert_true(has(h, 2) && !has(h, 3) && !has(h, 4));
        harvest_close(h);
        close(fd);
    }
}

/* A row of another run, round or clip is absent, though its bytes are whole. */
static void strange_rows_are_absent(void **state)
{
    (void)state;
    struct err e;
    struct harvest *h = create(true);
    put(h, 0);
    put(h, 1);
    harvest_close(h);
    struct harvest_spec other = spec();
    other.run++;
    h = reopen(&other);
    assert_false(has(h, 1));
    harvest_close(h);
    other = spec();
    other.round = 4;
    assert_int_equal(harvest_open(&other, &h, &e), -ENOENT);
    assert_int_equal(link(name, "harvest/round-0004.rows"), 0);
    h = reopen(&other);
    assert_false(has(h, 1));
    harvest_close(h);

    unsigned char row[ROW];
    int fd = open(name, O_RDWR);
    assert_int_equal(pread(fd, row, ROW, ROW), ROW);
    assert_int_equal(pwrite(fd, row, ROW, 0), ROW);
    close(fd);
    other = spec();
    h = reopen(&other);
    assert_true(has(h, 1) && !has(h, 0));
    harvest_close(h);
}

/* Too little room is said before anything is written; what the file takes up already is not asked for again.
 */
static void room_is_asked_for(void **state)
{
    (void)state;
    struct harvest_spec s = spec();
    struct harvest *h = NULL;
    struct stat st;
    struct err e = {0};
    uint64_t available;
    assert_int_equal(harvest_remove(dir, &e), 0);
    assert_int_equal(fs_free_bytes(dir, &available, &e), 0);
    assert_int_equal(harvest_create(&s, true, 2 * available / ROW, 0, &h, &e), -ENOSPC);
    assert_non_null(strstr(e.msg, "the harvest for the dump of round 3 needs "));
    assert_non_null(strstr(e.msg, dir));
    assert_int_equal(harvest_create(&s, true, 1, (2 * available) >> 20, &h, &e), -ENOSPC);
    assert_true(stat(name, &st) < 0);
}

/* What is removed is gone for readers; removing nothing is fine, and so is closing it. */
static void it_can_be_removed(void **state)
{
    (void)state;
    struct harvest_spec s = spec();
    struct harvest *h = create(true);
    struct err e = {0};
    put(h, 1);
    harvest_close(h);
    assert_int_equal(harvest_remove(dir, &e), 0);
    assert_int_equal(harvest_open(&s, &h, &e), -ENOENT);
    assert_int_equal(harvest_remove(dir, &e), 0);
    harvest_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_what_was_put), cmocka_unit_test(anew_is_empty),
        cmocka_unit_test(torn_rows_are_absent),  cmocka_unit_test(strange_rows_are_absent),
        cmocka_unit_test(room_is_asked_for),     cmocka_unit_test(it_can_be_removed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
