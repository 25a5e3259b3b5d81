/* feature_copy: a replica made block by block is the shard that was sealed, bit for bit, or it is nothing; a
 * writer that was killed is gone on from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/feature_copy.h"
#include "lib/feature_record.h"
#include "lib/fsutil.h"

static char root[64], from[96], to[96], tmp[112];

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/xdc-copy-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(from, sizeof from, "%s/from/rank-1", root);
    snprintf(to, sizeof to, "%s/to/rank-1", root);
    snprintf(tmp, sizeof tmp, "%s.tmp", to);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(root, NULL);
}

/* What a row has: everything, holes of whole blocks, nothing. */
enum shape { ALL, HOLES, NONE };

static bool has(enum shape shape, uint32_t encoder, uint64_t row)
{
    if (shape == NONE)
        return false;
    return shape == ALL || (row % 3 != encoder && (row < 1024 || row >= 4096));
}

/* Seals the shard that is copied; `salt` changes its values. */
static void make_shard(uint64_t rows, enum feature_dtype dtype, enum shape shape, float salt)
{
    struct feature_info info = {.manifest = 1,
                                .run = 2,
                                .weights = 3,
                                .rows = rows,
                                .first = 70,
                                .total = rows + 70,
                                .round = 3,
                                .rank = 1,
                                .ranks = 2,
                                .dtype = dtype,
                                .encoders = 2,
                                .encoder = {{"video", 33, 0}, {"audio", 7, 0}}};
    struct feature_store *s;
    struct err e;
    uint64_t hash;
    float x[33];
    assert_int_equal(fs_remove_tree(from, NULL), 0);
    if (feature_store_create(from, &info, &s, &e) < 0)
        fail_msg("%s", e.msg);
    for (uint32_t n = 0; n < 2; n++)
        for (uint64_t r = 0; r < rows; r++) {
            for (uint32_t d = 0; d < 33; d++)
                x[d] = salt + (float)((r * 31 + d * 7 + n) % 1000);
            if (has(shape, n, r))
                assert_int_equal(feature_store_put(s, n, 70 + r, x, NULL), 0);
        }
    assert_int_equal(feature_store_seal(s, &hash, NULL), 0);
    feature_store_close(s);
}

static struct feature_store *open_origin(void)
{
    struct feature_store *o;
    struct err e;
    if (feature_store_open(from, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return o;
}

static struct feature_replica *open_replica(const struct feature_store *o)
{
    struct feature_replica *r;
    struct err e;
    if (feature_replica_open(to, feature_store_record(o), &r, &e) < 0)
        fail_msg("%s", e.msg);
    return r;
}

/* Copies the next n blocks, or all that are left. */
static void copy(const struct feature_store *o, struct feature_replica *r, uint64_t n)
{
    uint32_t encoder;
    uint64_t block;
    struct feature_raw b;
    struct err e;
    while (n-- && feature_replica_next(r, &encoder, &block)) {
        assert_int_equal(feature_raw_read(o, encoder, block, &b, &e), 0);
        if (feature_replica_put(r, encoder, block, &b, &e) < 0)
            fail_msg("%s", e.msg);
    }
}

static void seal(struct feature_replica *r)
{
    struct err e;
    if (feature_replica_seal(r, &e) < 0)
        fail_msg("%s", e.msg);
    feature_replica_close(r);
}

/* The copy is a sealed shard of the same hash, sound to its last byte, with nothing else in its directory. */
static void check_copy(const struct feature_store *o)
{
    struct feature_store *s;
    struct err e;
    char path[128];
    if (feature_store_open(to, &s, &e) < 0 || feature_store_verify(s, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(feature_store_info(s)->hash == feature_store_info(o)->hash);
    assert_true(feature_store_info(s)->first == 70);
    feature_store_close(s);
    snprintf(path, sizeof path, "%s/progress", to);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(tmp, F_OK), -1);
    assert_int_equal(fs_remove_tree(to, NULL), 0);
}

/* All sizes around a block, both dtypes, holes of whole blocks, and shards without any row. */
static void copies_are_equal(void **state)
{
    static const struct {
        uint64_t rows;
        enum feature_dtype dtype;
        enum shape shape;
    } cases[] = {{5000, FEATURE_F32, ALL},  {5000, FEATURE_F16, HOLES}, {1024, FEATURE_F32, ALL},
                 {1025, FEATURE_BF16, ALL}, {1, FEATURE_F32, ALL},      {3000, FEATURE_F16, NONE},
                 {0, FEATURE_F32, ALL},     {9000, FEATURE_F32, HOLES}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_shard(cases[i].rows, cases[i].dtype, cases[i].shape, 0);
        struct feature_store *o = open_origin();
        assert_true(feature_store_is_current(o));
        struct feature_replica *r = open_replica(o);
        copy(o, r, UINT64_MAX);
        assert_true(feature_replica_done(r) == 2 * feature_block_count(feature_store_info(o)));
        seal(r);
        check_copy(o);
        feature_store_close(o);
    }
}

/* A block that is not the next one, is cut or too long, or has a bitmap of no row or of rows that there are
 * not, is refused; the right one is then taken as if
 * nothing had come. Blocks that do not exist cannot be read. */
static void wrong_blocks_are_refused(void **state)
{
    struct feature_raw b, wrong;
    struct err e;
    (void)state;
    make_shard(5000, FEATURE_F32, ALL, 0);
    struct feature_store *o = open_origin();
    struct feature_replica *r = open_replica(o);
    assert_int_equal(feature_raw_read(o, 0, 0, &b, &e), 0);
    assert_int_equal(feature_replica_put(r, 0, 1, &b, &e), XDC_EFORMAT);
    assert_int_equal(feature_replica_put(r, 1, 0, &b, &e), XDC_EFORMAT);
    assert_int_equal(feature_replica_put(r, 7, 0, &b, &e), XDC_EFORMAT);
    for (int i = 0; i < 3; i++) {
        wrong = b;
        wrong.size = i == 0 ? b.size - 1 : i == 1 ? b.size + 4 : 0;
        assert_int_equal(feature_replica_put(r, 0, 0, &wrong, &e), XDC_EFORMAT);
        assert_non_null(strstr(e.msg, "bytes instead of"));
    }
    assert_int_equal(feature_raw_read(o, 2, 0, &b, &e), -EINVAL);
    assert_int_equal(feature_raw_read(o, 0, 5, &b, &e), -EINVAL);
    assert_int_equal(feature_raw_read(o, 0, UINT64_MAX / FEATURE_BLOCK_ROWS + 1, &b, &e), -EINVAL);
    copy(o, r, 4);
    assert_int_equal(feature_raw_read(o, 0, 4, &b, &e), 0); /* 904 rows */
    for (int i = 0; i < 2; i++) {
        uint8_t present[FEATURE_BITMAP_BYTES] = {0};
        if (i == 1)
            memcpy(present, b.present, 113);
        present[113] = i == 1 ? 1 : 0;
        wrong = b;
        wrong.present = present;
        assert_int_equal(feature_replica_put(r, 0, 4, &wrong, &e), XDC_EFORMAT);
        assert_non_null(strstr(e.msg, "bitmap"));
    }
    copy(o, r, UINT64_MAX);
    assert_int_equal(feature_replica_put(r, 0, 0, &b, &e), XDC_EFORMAT);
    seal(r);
    check_copy(o);
    feature_store_close(o);
}

/* What differs from the sealed shard by a value, a bit of a bitmap, or a block that is left out, never gets
 * the shard's name, and is thrown away. */
static void altered_copies_are_thrown_away(void **state)
{
    (void)state;
    make_shard(3000, FEATURE_F16, ALL, 0);
    struct feature_store *o = open_origin();
    for (int i = 0; i < 3; i++) {
        struct feature_replica *r = open_replica(o);
        struct feature_raw b;
        struct err e;
        uint8_t present[FEATURE_BITMAP_BYTES], *values;
        assert_int_equal(feature_replica_found(r), 0);
        assert_int_equal(feature_raw_read(o, 0, 0, &b, &e), 0);
        uint64_t check = feature_raw_check(0, &b);
        assert_true(check != feature_raw_check(1, &b));
        values = malloc(b.size);
        memcpy(values, b.values, b.size);
        memcpy(present, b.present, sizeof present);
        b.values = i == 2 ? NULL : values;
        b.present = present;
        if (i == 0)
            values[b.size - 1] ^= 1;
        else
            present[3] ^= 1;
        assert_true(check != feature_raw_check(0, &b));
        assert_int_equal(feature_replica_put(r, 0, 0, &b, &e), 0);
        copy(o, r, UINT64_MAX);
        assert_int_equal(feature_replica_seal(r, &e), XDC_EFORMAT);
        assert_non_null(strstr(e.msg, "not those that were sealed"));
        feature_replica_close(r);
        assert_int_equal(access(to, F_OK), -1);
        assert_int_equal(access(tmp, F_OK), -1);
        free(values);
    }
    feature_store_close(o);
}

/* A replica without all its blocks is not sealed, and is thrown away. */
static void half_a_copy_is_not_sealed(void **state)
{
    struct err e;
    (void)state;
    make_shard(3000, FEATURE_F32, ALL, 0);
    struct feature_store *o = open_origin();
    struct feature_replica *r = open_replica(o);
    copy(o, r, 5);
    assert_int_equal(feature_replica_seal(r, &e), XDC_EFORMAT);
    feature_replica_close(r);
    assert_int_equal(access(to, F_OK), -1);
    assert_int_equal(access(tmp, F_OK), -1);
    feature_store_close(o);
}

/* A writer that is closed, or killed, is gone on from behind its last block, wherever it stood. */
static void goes_on_from_what_is_there(void **state)
{
    (void)state;
    make_shard(90000, FEATURE_F32, HOLES, 0);
    struct feature_store *o = open_origin();
    for (uint64_t stop = 0; stop < 176; stop += 25) {
        struct feature_replica *r = open_replica(o);
        copy(o, r, stop);
        feature_replica_close(r);
        r = open_replica(o);
        assert_int_equal(feature_replica_found(r), stop);
        assert_int_equal(feature_replica_done(r), stop);
        copy(o, r, UINT64_MAX);
        seal(r);
        check_copy(o);
    }
    pid_t child = fork();
    if (child == 0) {
        copy(o, open_replica(o), 80);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct feature_replica *r = open_replica(o);
    assert_int_equal(feature_replica_found(r), 80);
    copy(o, r, UINT64_MAX);
    seal(r);
    check_copy(o);
    feature_store_close(o);
}

/* Holes at the end of what is there are no blocks: they are wanted again. */
static void trailing_holes_come_again(void **state)
{
    (void)state;
    make_shard(9000, FEATURE_F32, HOLES, 0);
    struct feature_store *o = open_origin();
    struct feature_replica *r = open_replica(o);
    copy(o, r, 3);
    assert_int_equal(feature_replica_done(r), 3);
    feature_replica_close(r);
    r = open_replica(o);
    assert_int_equal(feature_replica_found(r), 1);
    copy(o, r, UINT64_MAX);
    seal(r);
    check_copy(o);
    feature_store_close(o);
}

static void alter(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* What is gone on with is what is as it was put: of another shard nothing, though it be of the same round and
 * weights; else what stands before the first cut or altered entry or block. The replica is whole in the end.
 */
static void what_cannot_be_trusted_comes_again(void **state)
{
    enum { ENTRY = sizeof(struct feature_record) + 4 * (32 + FEATURE_BITMAP_BYTES) };
    static const struct {
        const char *what, *file;
        off_t cut, alter; /* at which byte */
        uint64_t found;
    } cases[] = {
        {"another shard", NULL, 0, 0, 0},
        {"no progress", "progress", 0, 0, 0},
        {"another beginning", "progress", 0, 20, 0},
        {"a torn entry", "progress", ENTRY + 20, 0, 4},
        {"an altered entry", "progress", 0, ENTRY + 20, 4},
        {"an altered block", "data.mdb", 0, 2 * 4096 + 4 * (33 * 4 * 1024 + 4096) + 777, 4},
        {"a cut block", "data.mdb", 2 * 4096 + 4 * (33 * 4 * 1024 + 4096) + 777, 0, 4},
        {"no data", "data.mdb", 0, 0, 0},
    };
    char path[128];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_shard(20000, FEATURE_F32, ALL, 0);
        struct feature_store *o = open_origin();
        struct feature_replica *r = open_replica(o);
        copy(o, r, 18);
        feature_replica_close(r);
        snprintf(path, sizeof path, "%s/%s", tmp, cases[i].file ? cases[i].file : "");
        if (!cases[i].file) {
            feature_store_close(o);
            make_shard(20000, FEATURE_F32, ALL, 1);
            o = open_origin();
        } else if (cases[i].alter) {
            alter(path, cases[i].alter);
        } else {
            assert_int_equal(truncate(path, cases[i].cut), 0);
        }
        r = open_replica(o);
        if (feature_replica_found(r) != cases[i].found)
            fail_msg("%s: %llu blocks are found", cases[i].what,
                     (unsigned long long)feature_replica_found(r));
        copy(o, r, UINT64_MAX);
        seal(r);
        check_copy(o);
        feature_store_close(o);
    }
}

/* A shard that is there already is not copied over; a record that is none makes no replica. */
static void bad_beginnings_are_refused(void **state)
{
    struct feature_replica *r;
    struct err e;
    (void)state;
    make_shard(1000, FEATURE_F32, ALL, 0);
    struct feature_store *o = open_origin();
    struct feature_record record = *feature_store_record(o);
    assert_true(record.hash == feature_store_info(o)->hash);
    assert_int_equal(feature_replica_open(from, &record, &r, &e), -EEXIST);
    record.rows ^= 1;
    assert_int_equal(feature_replica_open(to, &record, &r, &e), XDC_EFORMAT);
    assert_int_equal(fs_remove_tree(from, NULL), 0);
    assert_false(feature_store_is_current(o));
    feature_store_close(o);
    assert_int_equal(feature_store_open(from, &o, &e), -ENOENT);
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(copies_are_equal),
        CASE(wrong_blocks_are_refused),
        CASE(altered_copies_are_thrown_away),
        CASE(half_a_copy_is_not_sealed),
        CASE(goes_on_from_what_is_there),
        CASE(trailing_holes_come_again),
        CASE(what_cannot_be_trusted_comes_again),
        CASE(bad_beginnings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
