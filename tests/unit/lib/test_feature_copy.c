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

static struct feature_origin *open_origin(void)
{
    struct feature_origin *o;
    struct err e;
    if (feature_origin_open(from, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return o;
}

static struct feature_replica *open_replica(const struct feature_origin *o)
{
    struct feature_replica *r;
    struct err e;
    size_t size;
    const void *record = feature_origin_record(o, &size);
    if (feature_replica_open(to, record, size, &r, &e) < 0)
        fail_msg("%s", e.msg);
    return r;
}

/* Copies the next n blocks, or all that are left. */
static void copy(const struct feature_origin *o, struct feature_replica *r, uint64_t n)
{
    uint32_t encoder;
    uint64_t block;
    struct feature_raw b;
    struct err e;
    while (n-- && feature_replica_next(r, &encoder, &block)) {
        assert_int_equal(feature_origin_block(o, encoder, block, &b, &e), 0);
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
static void check_copy(const struct feature_origin *o)
{
    struct feature_store *s;
    struct err e;
    char path[128];
    if (feature_store_open(to, &s, &e) < 0 || feature_store_verify(s, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(feature_store_info(s)->hash == feature_origin_info(o)->hash);
    assert_true(feature_store_info(s)->first == 70);
    feature_store_close(s);
    snprintf(path, sizeof path, "%s/boot_id", to);
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
        struct feature_origin *o = open_origin();
        assert_true(feature_origin_is_current(o));
        struct feature_replica *r = open_replica(o);
        copy(o, r, UINT64_MAX);
        assert_true(feature_replica_done(r) == 2 * feature_copy_blocks(feature_origin_info(o)));
        seal(r);
        check_copy(o);
        feature_origin_close(o);
    }
}

/* A block that is not the next one, or is cut or too long, is refused; the right one is then taken as if
 * nothing had come. Blocks that do not exist cannot be read. */
static void wrong_blocks_are_refused(void **state)
{
    struct feature_raw b, wrong;
    struct err e;
    (void)state;
    make_shard(5000, FEATURE_F32, ALL, 0);
    struct feature_origin *o = open_origin();
    struct feature_replica *r = open_replica(o);
    assert_int_equal(feature_origin_block(o, 0, 0, &b, &e), 0);
    assert_int_equal(feature_replica_put(r, 0, 1, &b, &e), XDC_EFORMAT);
    assert_int_equal(feature_replica_put(r, 1, 0, &b, &e), XDC_EFORMAT);
    assert_int_equal(feature_replica_put(r, 7, 0, &b, &e), XDC_EFORMAT);
    for (int i = 0; i < 3; i++) {
        wrong = b;
        wrong.size = i == 0 ? b.size - 1 : i == 1 ? b.size + 4 : 0;
        assert_int_equal(feature_replica_put(r, 0, 0, &wrong, &e), XDC_EFORMAT);
        assert_non_null(strstr(e.msg, "bytes instead of"));
    }
    assert_int_equal(feature_origin_block(o, 2, 0, &b, &e), -EINVAL);
    assert_int_equal(feature_origin_block(o, 0, 5, &b, &e), -EINVAL);
    copy(o, r, UINT64_MAX);
    assert_int_equal(feature_replica_put(r, 0, 0, &b, &e), XDC_EFORMAT);
    seal(r);
    check_copy(o);
    feature_origin_close(o);
}

/* What differs from the sealed shard by a value, a bit of a bitmap, or a block that is left out, never gets
 * the shard's name, and is thrown away. */
static void altered_copies_are_thrown_away(void **state)
{
    (void)state;
    make_shard(3000, FEATURE_F16, ALL, 0);
    struct feature_origin *o = open_origin();
    for (int i = 0; i < 3; i++) {
        struct feature_replica *r = open_replica(o);
        struct feature_raw b;
        struct err e;
        uint8_t present[FEATURE_RAW_BITMAP], *values;
        assert_int_equal(feature_replica_found(r), 0);
        assert_int_equal(feature_origin_block(o, 0, 0, &b, &e), 0);
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
    feature_origin_close(o);
}

/* A replica without all its blocks is not sealed. */
static void half_a_copy_is_not_sealed(void **state)
{
    struct err e;
    (void)state;
    make_shard(3000, FEATURE_F32, ALL, 0);
    struct feature_origin *o = open_origin();
    struct feature_replica *r = open_replica(o);
    copy(o, r, 5);
    assert_int_equal(feature_replica_seal(r, &e), XDC_EFORMAT);
    feature_replica_close(r);
    assert_int_equal(access(to, F_OK), -1);
    feature_origin_close(o);
}

/* A writer that is closed, or killed between two commits, is gone on from, wherever it stood. */
static void goes_on_from_what_is_there(void **state)
{
    (void)state;
    make_shard(90000, FEATURE_F32, HOLES, 0); /* the video's blocks need two commits */
    struct feature_origin *o = open_origin();
    for (uint64_t stop = 0; stop < 176; stop += 25) {
        struct feature_replica *r = open_replica(o);
        copy(o, r, stop);
        feature_replica_close(r);
        r = open_replica(o);
        assert_in_range(feature_replica_found(r), stop > 4 ? stop - 4 : 0,
                        stop); /* holes at its end are no blocks */
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
    assert_in_range(feature_replica_found(r), 60, 79);
    copy(o, r, UINT64_MAX);
    seal(r);
    check_copy(o);
    feature_origin_close(o);
}

/* An unfinished replica of another shard, of another start of the system, or without LMDB's form is begun
 * anew; one whose values were altered is found out at its end. */
static void what_cannot_be_trusted_is_begun_anew(void **state)
{
    char data[128], boot[128];
    struct err e;
    (void)state;
    snprintf(data, sizeof data, "%s/data.mdb", tmp);
    snprintf(boot, sizeof boot, "%s/boot_id", tmp);
    for (int i = 0; i < 4; i++) {
        make_shard(20000, FEATURE_F32, ALL, 0);
        struct feature_origin *o = open_origin();
        struct feature_replica *r = open_replica(o);
        copy(o, r, 18);
        feature_replica_close(r);
        if (i == 0) {
            feature_origin_close(o);
            make_shard(20000, FEATURE_F32, ALL, 1);
            o = open_origin();
        } else if (i == 1) {
            assert_int_equal(fs_write_atomic(boot, "another start", 13, NULL), 0);
        } else if (i == 2) {
            assert_int_equal(fs_write_atomic(data, "no LMDB file", 12, NULL), 0);
        } else {
            struct stat st;
            int fd = open(data, O_RDWR);
            assert_int_equal(fstat(fd, &st), 0);
            assert_int_equal(pwrite(fd, "altered", 7, st.st_size / 2), 7);
            close(fd);
        }
        r = open_replica(o);
        assert_int_equal(feature_replica_found(r), i == 3 ? 18 : 0);
        copy(o, r, UINT64_MAX);
        if (i == 3) {
            assert_int_equal(feature_replica_seal(r, &e), XDC_EFORMAT);
            feature_replica_close(r);
        } else {
            seal(r);
            check_copy(o);
        }
        feature_origin_close(o);
    }
}

/* A shard that is there already is not copied over; a record that is none makes no replica. */
static void bad_beginnings_are_refused(void **state)
{
    struct feature_replica *r;
    struct err e;
    size_t size;
    char record[FEATURE_RECORD_MAX];
    (void)state;
    make_shard(1000, FEATURE_F32, ALL, 0);
    struct feature_origin *o = open_origin();
    const void *bytes = feature_origin_record(o, &size);
    assert_in_range(size, 100, sizeof record);
    memcpy(record, bytes, size);
    assert_int_equal(feature_replica_open(from, record, size, &r, &e), -EEXIST);
    assert_int_equal(feature_replica_open(to, record, size - 1, &r, &e), XDC_EFORMAT);
    record[50] ^= 1;
    assert_int_equal(feature_replica_open(to, record, size, &r, &e), XDC_EFORMAT);
    assert_int_equal(fs_remove_tree(from, NULL), 0);
    assert_false(feature_origin_is_current(o));
    feature_origin_close(o);
    assert_int_equal(feature_origin_open(from, &o, &e), -ENOENT);
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
        CASE(what_cannot_be_trusted_is_begun_anew),
        CASE(bad_beginnings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
