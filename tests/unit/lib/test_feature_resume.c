/* An unsealed dump is gone on with: wherever its writer ended, and whatever the disk then made of it, the
 * dump that is sealed in the end is the undisturbed one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/feature_store.h"
#include "lib/fsutil.h"

static char root[64], dir[128], tmp[160], data_path[200], progress_path[200];

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/xdc-resume-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(dir, sizeof dir, "%s/rank-0", root);
    snprintf(tmp, sizeof tmp, "%s.tmp", dir);
    snprintf(data_path, sizeof data_path, "%s/data.mdb", tmp);
    snprintf(progress_path, sizeof progress_path, "%s/progress", tmp);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(root, NULL);
}

enum { ROWS = 7000, DIM = 12, FIRST = 50 };

static struct feature_info example_info(void)
{
    return (struct feature_info){
        .manifest = 0xaaaa,
        .run = 0xbbbb,
        .weights = 0xcccc,
        .heads = 0xdddd,
        .first = FIRST,
        .rows = ROWS,
        .total = ROWS + FIRST,
        .round = 3,
        .rank = 1,
        .ranks = 2,
        .dtype = FEATURE_F16,
        .encoders = 2,
        .encoder = {{"video", DIM, 0}, {"audio", DIM / 2, 0}},
    };
}

static struct feature_store *begin(const struct feature_info *info)
{
    struct feature_store *s;
    struct err e;
    if (feature_store_create(dir, info, &s, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

static int has(uint64_t row)
{
    return row % 5 != 2 && !(row >= 2100 && row < 3200);
}

static int put(struct feature_store *s, uint32_t encoder, uint64_t row)
{
    float values[DIM];
    struct err e;
    for (uint32_t d = 0; d < DIM; d++)
        values[d] = (float)sin((double)row * 0.7 + d * 1.3 + encoder);
    int rc = feature_store_put(s, encoder, row, values, &e);
    if (rc < 0)
        fail_msg("%s", e.msg);
    return rc;
}

/* Both encoders, rows [from, to). */
static void put_rows(struct feature_store *s, uint64_t from, uint64_t to)
{
    for (uint64_t row = from; row < to; row++)
        for (uint32_t n = 0; has(row) && n < 2; n++)
            put(s, n, row);
}

static uint64_t seal(struct feature_store *s)
{
    struct err e;
    uint64_t hash;
    if (feature_store_seal(s, &hash, &e) < 0)
        fail_msg("%s", e.msg);
    feature_store_close(s);
    assert_int_equal(access(tmp, F_OK), -1);
    char path[200];
    snprintf(path, sizeof path, "%s/progress", dir);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(feature_store_open(dir, &s, &e), 0);
    assert_int_equal(feature_store_verify(s, &e), 0);
    for (uint64_t row = FIRST; row < FIRST + ROWS; row++)
        assert_true(feature_store_has(s, 0, row) == has(row) && feature_store_has(s, 1, row) == has(row));
    feature_store_close(s);
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
    return hash;
}

static uint64_t undisturbed(void)
{
    struct feature_info info = example_info();
    struct feature_store *s = begin(&info);
    assert_true(feature_store_missing(s, 0) == FIRST && feature_store_missing(s, 1) == FIRST);
    put_rows(s, FIRST, FIRST + ROWS);
    return seal(s);
}

/* Begins, writes up to a row and ends without a word, as a killed process does. */
static void interrupted(uint64_t row)
{
    struct feature_info info = example_info();
    struct feature_store *s = begin(&info);
    put_rows(s, FIRST, row);
    feature_store_close(s);
}

/* Goes on from the first missing row; returns that of the first encoder. */
static uint64_t finish(uint64_t want_hash)
{
    struct feature_info info = example_info();
    struct feature_store *s = begin(&info);
    uint64_t from = feature_store_missing(s, 0), other = feature_store_missing(s, 1);
    put_rows(s, other < from ? other : from, FIRST + ROWS);
    assert_true(seal(s) == want_hash);
    return from;
}

/* Ended after any row: the whole blocks are there, also over several interruptions, and holes of whole blocks
 * are passed over. */
static void test_goes_on(void **state)
{
    (void)state;
    static const struct {
        uint64_t ended, missing;
    } cases[] = {
        {FIRST, FIRST},
        {FIRST + 1024, FIRST}, /* full, but not yet written: nothing has come behind it */
        {FIRST + 1030, FIRST + 1024},
        {FIRST + 2048 + 3, FIRST + 2048},
        {FIRST + 3000, FIRST + 2048}, /* in the hole */
        {FIRST + 3300, FIRST + 3072},
        {FIRST + ROWS, FIRST + 6144}, /* before the seal */
    };
    uint64_t hash = undisturbed();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        interrupted(cases[i].ended);
        assert_int_equal(finish(hash), cases[i].missing);
    }
    struct feature_info info = example_info();
    for (uint64_t row = FIRST + 500; row < FIRST + ROWS; row += 900) {
        struct feature_store *s = begin(&info);
        put_rows(s, feature_store_missing(s, 0), row);
        feature_store_close(s);
    }
    assert_int_equal(finish(hash), FIRST + 6144);
}

/* One encoder has more blocks than the other: each lacks its own, and rows that are there are passed over. */
static void test_uneven(void **state)
{
    (void)state;
    uint64_t hash = undisturbed();
    struct feature_info info = example_info();
    struct feature_store *s = begin(&info);
    for (uint64_t row = FIRST; row < FIRST + 5000; row++)
        for (uint32_t n = 0; has(row) && n < (row < FIRST + 1500 ? 2 : 1); n++)
            put(s, n, row);
    feature_store_close(s);
    s = begin(&info);
    assert_int_equal(feature_store_missing(s, 0), FIRST + 4096);
    assert_int_equal(feature_store_missing(s, 1), FIRST + 1024);
    float values[DIM] = {0};
    struct err e;
    put(s, 0, FIRST + 4097);
    assert_int_equal(feature_store_put(s, 0, FIRST + 4096, values, &e), -EINVAL);
    feature_store_close(s);
    assert_int_equal(finish(hash), FIRST + 4096);
}

/* Another run, round, manifest, weights, heads, ranks, rows, dtype or encoder: begun anew, nothing is taken.
 */
static void test_of_another(void **state)
{
    (void)state;
    uint64_t hash = undisturbed();
    for (int i = 0; i < 11; i++) {
        struct feature_info info = example_info();
        interrupted(FIRST + 3000);
        info.run += i == 0;
        info.round += i == 1;
        info.manifest += i == 2;
        info.weights += i == 3;
        info.heads += i == 4;
        info.ranks += i == 5;
        info.rank -= i == 6;
        info.rows -= i == 7;
        info.dtype = i == 8 ? FEATURE_BF16 : FEATURE_F16;
        info.encoder[1].dim += i == 9;
        info.encoder[1].name[0] = i == 10 ? 'b' : 'a';
        struct feature_store *s = begin(&info);
        assert_true(feature_store_missing(s, 0) == FIRST && feature_store_missing(s, 1) == FIRST);
        feature_store_close(s);
        assert_int_equal(finish(hash), FIRST);
    }
}

/* Any byte of the blocks or of what is known of them altered, either file cut anywhere, or gone: what does
 * not verify is dropped and put anew, and what lies before it stays. */
static void test_altered(void **state)
{
    (void)state;
    uint64_t hash = undisturbed();
    const char *const paths[] = {data_path, progress_path};
    unsigned kept_some = 0, dropped = 0;
    for (unsigned which = 0; which < 2; which++)
        for (unsigned share = 0; share < 40; share++) {
            struct stat st;
            interrupted(FIRST + 5000);
            assert_int_equal(stat(paths[which], &st), 0);
            off_t at = st.st_size * share / 40;
            at += at < 8192 && which == 0 ? 8192 : 0; /* before are pages that the seal writes */
            int fd = open(paths[which], O_RDWR);
            char byte;
            assert_int_equal(pread(fd, &byte, 1, at), 1);
            byte ^= 4;
            assert_int_equal(share % 2 ? ftruncate(fd, at) : pwrite(fd, &byte, 1, at), share % 2 ? 0 : 1);
            close(fd);
            uint64_t from = finish(hash);
            assert_true(from <= FIRST + 4096);
            kept_some += from > FIRST;
            dropped += from < FIRST + 4096;
        }
    assert_true(kept_some > 30 && dropped > 60);
    for (unsigned which = 0; which < 2; which++) {
        interrupted(FIRST + 5000);
        assert_int_equal(unlink(paths[which]), 0);
        assert_int_equal(finish(hash), FIRST);
    }
}

/* Notes come back, those before the end of the process alone, and end with the seal. */
static void test_notes(void **state)
{
    (void)state;
    uint64_t hash = undisturbed();
    struct feature_info info = example_info();
    struct feature_store *s = begin(&info);
    const struct feature_note *notes;
    struct err e;
    assert_int_equal(feature_store_notes(s, &notes), 0);
    for (uint32_t i = 0; i < 200; i++)
        assert_int_equal(feature_store_note(s, FIRST + 10 * i + 2, 7 + i, &e), 0);
    put_rows(s, FIRST, FIRST + 2500);
    feature_store_close(s);
    s = begin(&info);
    assert_int_equal(feature_store_missing(s, 0), FIRST + 2048);
    assert_int_equal(feature_store_notes(s, &notes), 200);
    for (uint32_t i = 0; i < 200; i++)
        assert_true(notes[i].row == FIRST + 10 * i + 2 && notes[i].reason == 7 + i);
    put_rows(s, FIRST + 2048, FIRST + ROWS);
    assert_true(seal(s) == hash);
    s = begin(&info);
    assert_int_equal(feature_store_notes(s, &notes), 0);
    feature_store_close(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_goes_on), TEST(test_uneven), TEST(test_of_another), TEST(test_altered), TEST(test_notes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
