/* feature_store: rows come back as they were put, absent ones as zeros, and nothing unsealed, torn or altered
 * is used. */
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
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/lib/dumps.h"

/* Reads all rows in pieces of `piece` and compares each: to 2^-11 of its size in f16, 2^-8 in bf16, exactly
 * in f32. */
static void check_rows(struct feature_store *s, int (*has)(uint64_t), uint64_t piece)
{
    const struct feature_info *info = feature_store_info(s);
    struct err e;
    for (uint32_t n = 0; n < info->encoders; n++) {
        uint32_t dim = info->encoder[n].dim;
        float *out = malloc(piece * dim * sizeof *out);
        assert_non_null(out);
        uint64_t end = info->first + info->rows;
        for (uint64_t first = info->first; first < end; first += piece) {
            uint64_t rows = end - first < piece ? end - first : piece;
            assert_int_equal(feature_store_read(s, n, first, rows, out, &e), 0);
            for (uint64_t i = 0; i < rows * dim; i++) {
                uint64_t row = first + i / dim;
                float want = has(row) ? example(n, row, (uint32_t)(i % dim)) : 0;
                float slack = info->dtype == FEATURE_F16    ? fabsf(want) * 0x1p-11f + 0x1p-25f
                              : info->dtype == FEATURE_BF16 ? fabsf(want) * 0x1p-8f
                                                            : 0;
                if (fabsf(out[i] - want) > slack)
                    fail_msg("encoder %u row %llu: %g, not %g", n, (unsigned long long)row, (double)out[i],
                             (double)want);
            }
        }
        free(out);
        for (uint64_t row = info->first; row < end; row++)
            assert_int_equal(feature_store_has(s, n, row), has(row));
        assert_false(feature_store_has(s, n, end));
        assert_false(feature_store_has(s, n, info->first - 1));
    }
}

/* All dtypes, block edges, holes, shards that begin anywhere, dumps of one row and of none: values,
 * presence, counts and identities come back. */
static void test_round_trip(void **state)
{
    (void)state;
    static const struct {
        uint64_t first, rows;
        uint32_t dim;
        enum feature_dtype dtype;
        int (*has)(uint64_t);
    } cases[] = {
        {0, 5000, 24, FEATURE_F32, all_rows},
        {0, 5000, 24, FEATURE_F16, all_rows},
        {0, 5000, 24, FEATURE_F32, some_rows},
        {0, 5000, 25, FEATURE_F16, some_rows},
        {0, 5000, 24, FEATURE_BF16, all_rows},
        {0, 3001, 37, FEATURE_BF16, some_rows},
        {0, 200000, 2, FEATURE_F16, all_rows}, /* branches of several levels */
        {0, 1024, 64, FEATURE_F16, all_rows},
        {0, 1025, 64, FEATURE_F16, all_rows},
        {0, 1, 1, FEATURE_F32, all_rows},
        {0, 3000, 1, FEATURE_F16, all_rows},
        {0, 3000, 8, FEATURE_F16, no_rows},
        {0, 0, 8, FEATURE_F32, all_rows},
        {1000, 5000, 24, FEATURE_F16, some_rows},
        {1023, 1025, 16, FEATURE_F32, all_rows},
        {((uint64_t)1 << 34) + 5, 2000, 4, FEATURE_F32, some_rows},
        {77, 0, 8, FEATURE_F32, all_rows},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct feature_info info = example_info(cases[i].rows, cases[i].dim, cases[i].dtype);
        struct feature_store *s;
        struct err e;
        info.first = cases[i].first;
        info.total += cases[i].first;
        uint64_t hash = rewrite_dump(&info, cases[i].has), valid = 0;
        if (feature_store_open(dir, &s, &e) < 0)
            fail_msg("case %zu: %s", i, e.msg);
        for (uint64_t row = info.first; row < info.first + info.rows; row++)
            valid += (uint64_t)cases[i].has(row);
        const struct feature_info *got = feature_store_info(s);
        assert_true(got->manifest == 0xaaaa && got->run == 0xbbbb && got->weights == 0xcccc &&
                    got->hash == hash);
        assert_true(got->first == info.first && got->total == info.total);
        assert_true(got->rows == info.rows && got->round == 3 && got->rank == 1 && got->ranks == 2);
        assert_true(got->dtype == info.dtype && got->encoders == 2 &&
                    got->encoder[1].dim == info.encoder[1].dim);
        assert_string_equal(got->encoder[1].name, "audio");
        assert_true(got->encoder[0].valid == valid && got->encoder[1].valid == valid);
        check_rows(s, cases[i].has, 1024);
        check_rows(s, cases[i].has, 777);
        assert_int_equal(feature_store_verify(s, &e), 0);
        feature_store_close(s);
    }
}

/* The encoders' rows may come in any interleaving: the hash is of the features, not of the order of calls. */
static void test_hash_is_of_the_features(void **state)
{
    (void)state;
    struct feature_info info = example_info(3000, 16, FEATURE_F16);
    uint64_t hash = write_dump(&info, all_rows), again;
    struct feature_store *s;
    struct err e;
    float values[16];
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
    assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
    for (uint32_t n = 2; n-- > 0;)
        for (uint64_t row = 0; row < info.rows; row++) {
            for (uint32_t d = 0; d < info.encoder[n].dim; d++)
                values[d] = example(n, row, d);
            assert_int_equal(feature_store_put(s, n, row, values, &e), 0);
        }
    assert_int_equal(feature_store_seal(s, &again, &e), 0);
    feature_store_close(s);
    assert_true(hash == again);
    assert_true(rewrite_dump(&info, some_rows) != hash);
    info.round++;
    assert_true(rewrite_dump(&info, all_rows) != hash);
    info.round--;
    info.weights++;
    assert_true(rewrite_dump(&info, all_rows) != hash);
    info.weights--;
    info.total++;
    assert_true(rewrite_dump(&info, all_rows) != hash);
    info.total--;
    assert_true(rewrite_dump(&info, all_rows) == hash);
}

/* 20,000 rows of 512 dimensions in f16, two encoders interleaved: at most 1 % more than the raw values. */
static void test_size(void **state)
{
    (void)state;
    struct feature_info info = example_info(20000, 512, FEATURE_F16);
    struct stat st;
    info.encoder[1].dim = 512;
    write_dump(&info, all_rows);
    assert_int_equal(stat(data_path, &st), 0);
    double ratio = (double)st.st_size / (2 * 20000.0 * 512 * 2);
    print_message("size of the dump / raw bytes = %.4f\n", ratio);
    assert_true(ratio <= 1.01);
    assert_int_equal(unlink(data_path), 0);
    assert_int_equal(rmdir(dir), 0); /* there is no other file to count */

    info.encoders = 1;
    write_dump(&info, all_rows);
    assert_int_equal(stat(data_path, &st), 0);
    ratio = (double)st.st_size / (20000.0 * 512 * 2);
    print_message("one encoder alone: %.4f\n", ratio);
    assert_true(ratio <= 1.01);
}

/* Rows out of order or out of range, wrong encoders and values that are no numbers are refused; the dump goes
 * on. */
static void test_put_refuses(void **state)
{
    (void)state;
    struct feature_info info = example_info(2000, 4, FEATURE_F16);
    struct feature_store *s;
    struct err e;
    float good[4] = {1, -2, 3, 65504}, big[4] = {0, 0, 65520, 0}, nan[4] = {NAN},
          inf[4] = {0, 0, 0, -INFINITY}, out[8];
    uint64_t hash;
    assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
    assert_int_equal(feature_store_put(s, 0, 10, good, &e), 0);
    assert_int_equal(feature_store_put(s, 0, 10, good, &e), -EINVAL);
    assert_int_equal(feature_store_put(s, 0, 9, good, &e), -EINVAL);
    assert_int_equal(feature_store_put(s, 0, 2000, good, &e), -EINVAL);
    assert_int_equal(feature_store_put(s, 2, 11, good, &e), -EINVAL);
    assert_int_equal(feature_store_put(s, 0, 11, big, &e), -ERANGE);
    assert_int_equal(feature_store_put(s, 0, 11, nan, &e), -ERANGE);
    assert_int_equal(feature_store_put(s, 0, 11, inf, &e), -ERANGE);
    assert_int_equal(feature_store_read(s, 0, 0, 1, out, &e), -EINVAL);
    assert_int_equal(feature_store_verify(s, &e), -EINVAL);
    assert_int_equal(feature_store_put(s, 0, 1500, good, &e), 0);
    assert_int_equal(feature_store_put(s, 0, 1023, good, &e), -EINVAL);
    assert_int_equal(feature_store_seal(s, &hash, &e), 0);
    assert_int_equal(feature_store_put(s, 0, 1600, good, &e), -EROFS);
    assert_int_equal(feature_store_seal(s, &hash, &e), -EROFS);
    feature_store_close(s);
    assert_int_equal(feature_store_open(dir, &s, &e), 0);
    assert_int_equal(feature_store_info(s)->encoder[0].valid, 2);
    assert_int_equal(feature_store_read(s, 0, 1499, 2, out, &e), 0);
    assert_true(out[3] == 0 && out[4] == 1 && out[7] == 65504);
    assert_int_equal(feature_store_read(s, 0, 1999, 2, out, &e), -EINVAL);
    assert_int_equal(feature_store_read(s, 0, UINT64_MAX, 2, out, &e), -EINVAL);
    assert_int_equal(feature_store_read(s, 2, 0, 1, out, &e), -EINVAL);
    assert_int_equal(feature_store_read(s, 0, 2000, 0, out, &e), 0);
    feature_store_close(s);
}

/* The rows of a shard are those from `first` on: others are neither put nor read. */
static void test_rows_of_a_shard(void **state)
{
    (void)state;
    struct feature_info info = example_info(2000, 4, FEATURE_F32);
    struct feature_store *s;
    struct err e;
    float in[4] = {1, 2, 3, 4}, out[8];
    uint64_t hash;
    info.first = 500;
    info.total = 3000;
    assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
    assert_int_equal(feature_store_put(s, 0, 499, in, &e), -EINVAL);
    assert_int_equal(feature_store_put(s, 0, 2500, in, &e), -EINVAL);
    assert_int_equal(feature_store_put(s, 0, 500, in, &e), 0);
    assert_int_equal(feature_store_put(s, 0, 2499, in, &e), 0);
    assert_int_equal(feature_store_put(s, 0, 2499, in, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "row 2499 of video comes after row 2499"));
    assert_int_equal(feature_store_seal(s, &hash, &e), 0);
    feature_store_close(s);
    assert_int_equal(feature_store_open(dir, &s, &e), 0);
    assert_int_equal(feature_store_read(s, 0, 499, 1, out, &e), -EINVAL);
    assert_int_equal(feature_store_read(s, 0, 0, 0, out, &e), -EINVAL);
    assert_int_equal(feature_store_read(s, 0, 2499, 2, out, &e), -EINVAL);
    assert_int_equal(feature_store_read(s, 0, 2500, 0, out, &e), 0);
    assert_int_equal(feature_store_read(s, 0, 500, 2, out, &e), 0);
    assert_true(out[3] == 4 && out[4] == 0);
    assert_int_equal(feature_store_read(s, 0, 2498, 2, out, &e), 0);
    assert_true(out[3] == 0 && out[4] == 1);
    assert_true(feature_store_has(s, 0, 500) && feature_store_has(s, 0, 2499));
    assert_false(feature_store_has(s, 0, 0) || feature_store_has(s, 0, 1999));
    assert_int_equal(feature_store_verify(s, &e), 0);
    feature_store_close(s);
}

/* A dump that makes no sense is refused before a directory appears. */
static void test_create_refuses(void **state)
{
    (void)state;
    struct feature_info good = example_info(10, 4, FEATURE_F32), bad[15];
    for (int i = 0; i < 15; i++)
        bad[i] = good;
    bad[0].encoders = 0;
    bad[1].encoders = FEATURE_ENCODERS_MAX + 1;
    bad[2].dtype = (enum feature_dtype)7;
    bad[3].encoder[0].dim = 0;
    bad[4].encoder[0].dim = 1u << 30;
    bad[5].encoder[1].name[0] = '\0';
    strcpy(bad[6].encoder[1].name, "video");
    strcpy(bad[7].encoder[1].name, "a/valid");
    bad[8].rows = UINT64_MAX;
    bad[9].rank = bad[9].ranks;
    bad[10].ranks = bad[10].rank = 0;
    bad[11].ranks = FEATURE_RANKS_MAX + 1;
    bad[12].first = good.total - good.rows + 1;
    bad[13].total = (uint64_t)1 << 41;
    bad[14].ranks = 1; /* of which the only one has all rows */
    bad[14].rank = 0;
    for (int i = 0; i < 15; i++) {
        struct feature_store *s;
        struct err e;
        assert_int_equal(feature_store_create(dir, &bad[i], &s, &e), -EINVAL);
    }
    assert_int_equal(rmdir(root), 0);
    assert_int_equal(mkdir(root, 0700), 0);
}

/* What a crash leaves, before any seal, does not open, is replaced by another dump's create, and a sealed
 * dump is never written over. */
static void test_unsealed_counts_as_none(void **state)
{
    (void)state;
    struct feature_info info = example_info(3000, 8, FEATURE_F32);
    struct feature_store *s;
    struct err e;
    float values[8] = {1};
    assert_int_equal(feature_store_open(dir, &s, &e), -ENOENT);
    assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
    for (uint64_t row = 0; row < 2500; row++)
        assert_int_equal(feature_store_put(s, 0, row, values, &e), 0);
    feature_store_close(s);
    assert_int_equal(access(tmp, F_OK), 0);
    assert_int_equal(feature_store_open(dir, &s, &e), -ENOENT);
    assert_int_equal(feature_store_open(tmp, &s, &e), XDC_EFORMAT);

    info.weights++;
    write_dump(&info, some_rows);
    assert_true(access(tmp, F_OK) < 0);
    assert_int_equal(feature_store_open(dir, &s, &e), 0);
    check_rows(s, some_rows, 1000);
    feature_store_close(s);
    assert_int_equal(feature_store_create(dir, &info, &s, &e), -EEXIST);
    assert_int_equal(feature_store_open(dir, &s, &e), 0);
    feature_store_close(s);
}

/* 0, or the first refusal of open and verify. */
static int open_and_verify(void)
{
    struct feature_store *s;
    struct err e;
    int rc = feature_store_open(dir, &s, &e);
    if (rc < 0)
        return rc;
    rc = feature_store_verify(s, &e);
    feature_store_close(s);
    return rc;
}

/* Cut anywhere, or with any one byte altered (tried at about 4,000 places of every kind of page), open or
 * verify says XDC_EFORMAT: nothing crashes, nothing passes. */
static void test_altered(void **state)
{
    (void)state;
    struct feature_info info = example_info(2500, 16, FEATURE_F16);
    char *data;
    size_t size;
    struct err e;
    write_dump(&info, some_rows);
    assert_int_equal(open_and_verify(), 0);
    assert_int_equal(fs_read(data_path, 1 << 26, &data, &size, &e), 0);
    int fd = open(data_path, O_RDWR);
    assert_true(fd >= 0);
    /* All of each page's header and some of its pointers and rest. */
    for (size_t at = 0; at < size; at += at % 4096 < 40 || size - at < 64 ? 1 : 101) {
        char other = (char)(data[at] ^ (1 << at % 8));
        assert_int_equal(pwrite(fd, &other, 1, (off_t)at), 1);
        if (open_and_verify() != XDC_EFORMAT)
            fail_msg("byte %zu of %zu altered, and nothing is said", at, size);
        assert_int_equal(pwrite(fd, &data[at], 1, (off_t)at), 1);
    }
    assert_int_equal(open_and_verify(), 0);
    for (size_t cut = 1; cut <= size; cut += cut < 64 ? 1 : 4096) {
        assert_int_equal(ftruncate(fd, (off_t)(size - cut)), 0);
        assert_int_equal(open_and_verify(), XDC_EFORMAT);
        assert_int_equal(pwrite(fd, data, size, 0), (int)size);
    }
    close(fd);
    free(data);
    assert_int_equal(unlink(data_path), 0);
    assert_int_equal(open_and_verify(), -ENOENT);
}

/* Puts all rows from *row on, until one is refused. */
static int put_rows(struct feature_store *s, uint64_t *row, struct err *e)
{
    const struct feature_info *info = feature_store_info(s);
    float values[512];
    int rc = 0;
    for (; rc == 0 && *row < info->rows; *row += rc == 0) {
        for (uint32_t d = 0; d < info->encoder[0].dim; d++)
            values[d] = example(0, *row, d);
        rc = feature_store_put(s, 0, *row, values, e);
    }
    return rc;
}

/* A full disk (here: a limit of the file's size) is -ENOSPC, stays so until there is room, loses nothing, and
 * leaves no dump. */
static void test_full_disk(void **state)
{
    (void)state;
    struct feature_info info = example_info(9000, 512, FEATURE_F32);
    struct rlimit old, small = {.rlim_cur = 12 << 20};
    struct feature_store *s;
    struct err e;
    uint64_t hash, calm, row = 0;
    info.encoders = 1;
    calm = write_dump(&info, all_rows);
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(put_rows(s, &row, &e), -ENOSPC);
    assert_int_equal(put_rows(s, &row, &e), -ENOSPC);
    uint64_t stopped = row;
    int rc = feature_store_seal(s, &hash, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(rc, -ENOSPC);
    assert_non_null(strstr(e.msg, "no space left"));
    assert_true(stopped > 1024 && stopped < 9000);
    struct feature_store *none;
    assert_int_equal(feature_store_open(dir, &none, &e), -ENOENT);
    assert_int_equal(put_rows(s, &row, &e), 0);
    small.rlim_cur = 4512 * 4096; /* all blocks, not the trees behind them */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    rc = feature_store_seal(s, &hash, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(rc, -ENOSPC);
    assert_int_equal(feature_store_seal(s, &hash, &e), 0);
    feature_store_close(s);
    assert_true(hash == calm);
    assert_int_equal(feature_store_open(dir, &s, &e), 0);
    check_rows(s, all_rows, 1000);
    assert_int_equal(feature_store_verify(s, &e), 0);
    feature_store_close(s);
}

/* The reserve is left free: with one that no disk has, no block is written, and the sentence says what is
 * needed where. */
static void test_reserve(void **state)
{
    (void)state;
    struct feature_info info = example_info(3000, 16, FEATURE_F32);
    struct feature_store *s;
    struct err e;
    uint64_t hash, row = 0;
    info.encoders = 1;
    assert_int_equal(feature_store_create(dir, &info, &s, &e), 0);
    feature_store_reserve(s, (uint64_t)1 << 30);
    assert_int_equal(put_rows(s, &row, &e), -ENOSPC);
    assert_int_equal(row, 1024);
    assert_non_null(
        strstr(e.msg, "the next block of the dump of round 3 needs 1073741825 MiB with the reserve"));
    assert_non_null(strstr(e.msg, root));
    feature_store_reserve(s, 0);
    assert_int_equal(put_rows(s, &row, &e), 0);
    feature_store_reserve(s, (uint64_t)1 << 30);
    assert_int_equal(feature_store_seal(s, &hash, &e), -ENOSPC);
    feature_store_reserve(s, 0);
    assert_int_equal(feature_store_seal(s, &hash, &e), 0);
    feature_store_close(s);
    assert_true(rewrite_dump(&info, all_rows) == hash);
}

/* A block is lent as it is stored: its own bytes, its bitmap, its place; one without a row has no values. */
static void test_block(void **state)
{
    (void)state;
    static const enum feature_dtype dtypes[] = {FEATURE_F32, FEATURE_F16, FEATURE_BF16};
    for (size_t i = 0; i < 3; i++) {
        struct feature_info info = example_info(5000, 24, dtypes[i]);
        struct feature_store *s;
        struct feature_block b;
        struct err e;
        float lent[24], read[24];
        info.first = 100;
        info.total += 100;
        rewrite_dump(&info, some_rows);
        assert_int_equal(feature_store_open(dir, &s, &e), 0);
        for (uint64_t row = 100; row < 5100; row += 7) {
            assert_int_equal(feature_store_block(s, 0, row, &b, &e), 0);
            uint64_t at = row - b.first;
            assert_true(b.first % 1024 == 100 && at < b.rows && b.dim == 24 && b.dtype == dtypes[i]);
            assert_int_equal(b.valid[at / 8] >> at % 8 & 1, some_rows(row));
            if (!b.values) {
                assert_false(some_rows(row));
                continue;
            }
            size_t bytes = 24 * feature_value_bytes(b.dtype);
            feature_values_to_float(b.dtype, (const char *)b.values + at * bytes, lent, 24);
            assert_int_equal(feature_store_read(s, 0, row, 1, read, &e), 0);
            assert_memory_equal(lent, read, sizeof lent);
        }
        assert_int_equal(feature_store_block(s, 0, 99, &b, &e), -EINVAL);
        assert_int_equal(feature_store_block(s, 0, 5100, &b, &e), -EINVAL);
        assert_int_equal(feature_store_block(s, 2, 100, &b, &e), -EINVAL);
        feature_store_close(s);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_hash_is_of_the_features),
        TEST(test_size),
        TEST(test_put_refuses),
        TEST(test_create_refuses),
        TEST(test_unsealed_counts_as_none),
        TEST(test_rows_of_a_shard),
        TEST(test_altered),
        TEST(test_full_disk),
        TEST(test_reserve),
        TEST(test_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
