/* feature_dump: however the clips of a round are cut into shards, they read as one array; shards that are not
 * there, not of one dump or not in one row are refused by name. */
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
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "lib/feature_dump.h"
#include "lib/fsutil.h"

static char root[64], round_dir[96];

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/xdc-dump-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(round_dir, sizeof round_dir, "%s/round-0003", root);
    return mkdir(round_dir, 0700);
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(root, NULL);
}

/* A shard that has not been told its rows yet. */
static struct feature_info example_info(enum feature_dtype dtype)
{
    return (struct feature_info){
        .manifest = 0xaaaaaaaaaaaaaaaa,
        .run = 0xbbbbbbbbbbbbbbbb,
        .weights = 0xcccccccccccccccc,
        .round = 3,
        .dtype = dtype,
        .encoders = 2,
        .encoder = {{"video", 8, 0}, {"audio", 3, 0}},
    };
}

/* Value d of a row: of both signs, exact in f16. */
static float example(uint32_t encoder, uint64_t row, uint32_t d)
{
    return (float)((int)((row * 7 + d * 3 + encoder * 5) % 4001) - 2000) / 2;
}

/* Every clip has video; the audio of some is absent, of 1100 to 3300 whole blocks of it. */
static bool has(uint32_t encoder, uint64_t row)
{
    return encoder == 0 || (row % 5 != 2 && (row < 1100 || row > 3300));
}

static char *shard_dir(uint32_t rank)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/rank-%u", round_dir, rank);
    return path;
}

/* Seals the shard of that name with the rows that its info says. */
static uint64_t write_shard(uint32_t name, const struct feature_info *info)
{
    struct feature_store *s;
    struct err e;
    uint64_t hash;
    float values[8];
    if (feature_store_create(shard_dir(name), info, &s, &e) < 0)
        fail_msg("%s", e.msg);
    for (uint64_t row = info->first; row < info->first + info->rows; row++)
        for (uint32_t n = 0; n < info->encoders; n++) {
            for (uint32_t d = 0; d < info->encoder[n].dim; d++)
                values[d] = example(n, row, d);
            if (has(n, row) && feature_store_put(s, n, row, values, &e) < 0)
                fail_msg("%s", e.msg);
        }
    if (feature_store_seal(s, &hash, &e) < 0)
        fail_msg("%s", e.msg);
    feature_store_close(s);
    return hash;
}

/* Seals all shards, of so many rows each; their hashes to `hashes`. Returns the rows of all. */
static uint64_t write_shards(enum feature_dtype dtype, uint32_t ranks, const uint64_t *rows, uint64_t *hashes)
{
    struct feature_info info = example_info(dtype);
    info.ranks = ranks;
    for (uint32_t i = 0; i < ranks; i++)
        info.total += rows[i];
    for (info.rank = 0; info.rank < ranks; info.rank++) {
        info.rows = rows[info.rank];
        hashes[info.rank] = write_shard(info.rank, &info);
        info.first += info.rows;
    }
    return info.total;
}

static struct feature_dump *open_dump(void)
{
    struct feature_dump *d;
    struct err e;
    if (feature_dump_open(round_dir, &d, &e) < 0)
        fail_msg("%s", e.msg);
    return d;
}

/* Reads rows [first, first + n) and compares each value with what was put. */
static void check_rows(struct feature_dump *d, uint32_t encoder, uint64_t first, uint64_t n)
{
    uint32_t dim = feature_dump_info(d)->encoder[encoder].dim;
    float *out = malloc((n + 1) * dim * sizeof *out);
    struct err e;
    assert_non_null(out);
    if (feature_dump_read(d, encoder, first, n, out, &e) < 0)
        fail_msg("%s", e.msg);
    for (uint64_t i = 0; i < n * dim; i++) {
        uint64_t row = first + i / dim;
        float want = has(encoder, row) ? example(encoder, row, (uint32_t)(i % dim)) : 0;
        if (out[i] != want)
            fail_msg("encoder %u row %llu: %g, not %g", encoder, (unsigned long long)row, (double)out[i],
                     (double)want);
    }
    free(out);
}

static void check_info(const struct feature_dump *d, uint32_t ranks, uint64_t total, uint64_t hash)
{
    const struct feature_info *i = feature_dump_info(d);
    assert_true(i->first == 0 && i->rows == total && i->total == total && i->rank == 0 && i->ranks == ranks);
    assert_true(i->run == 0xbbbbbbbbbbbbbbbb && i->weights == 0xcccccccccccccccc && i->round == 3);
    assert_true(i->hash == hash);
    for (uint32_t n = 0; n < 2; n++) {
        uint64_t valid = 0;
        for (uint64_t row = 0; row < total; row++) {
            assert_int_equal(feature_dump_has(d, n, row), has(n, row));
            valid += has(n, row);
        }
        assert_true(i->encoder[n].valid == valid);
        assert_false(feature_dump_has(d, n, total) || feature_dump_has(d, n, UINT64_MAX));
    }
    assert_false(feature_dump_has(d, 2, 0));
}

/* One to four shards, even and uneven, cut within and at the borders of blocks, some of them empty: every
 * read, whole, in pieces and across every border, gives the rows of one flat array. */
static void test_reads_as_one(void **state)
{
    (void)state;
    static const struct {
        uint32_t ranks;
        uint64_t rows[4];
    } cases[] = {
        {1, {5000}},       {2, {2500, 2500}},    {2, {1000, 2048}},
        {2, {1024, 1977}}, {2, {4999, 1}},       {3, {700, 2400, 900}},
        {3, {1, 3998, 1}}, {3, {1025, 1023, 5}}, {4, {0, 1500, 0, 1501}},
        {2, {3000, 0}},    {2, {0, 0}},          {1, {0}},
    };
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        uint32_t ranks = cases[i / 2].ranks;
        const uint64_t *rows = cases[i / 2].rows;
        uint64_t hashes[4];
        uint64_t total = write_shards(i % 2 ? FEATURE_F16 : FEATURE_F32, ranks, rows, hashes);
        struct feature_dump *d = open_dump();
        struct err e;
        check_info(d, ranks, total, feature_dump_hash(hashes, ranks));
        for (uint32_t n = 0; n < 2; n++) {
            check_rows(d, n, 0, total);
            for (uint64_t first = 0; first < total; first += 777)
                check_rows(d, n, first, total - first < 777 ? total - first : 777);
            for (uint64_t r = 0, border = 0; r + 1 < ranks; r++) {
                border += rows[r];
                uint64_t at = border ? border - 1 : 0;
                check_rows(d, n, at, total - at < 2 ? total - at : 2);
            }
            check_rows(d, n, total, 0);
        }
        assert_int_equal(feature_dump_verify(d, &e), 0);
        feature_dump_close(d);
        assert_int_equal(fs_remove_tree(round_dir, NULL), 0);
        assert_int_equal(mkdir(round_dir, 0700), 0);
    }
}

/* Rows and encoders that there are not are not read. */
static void test_read_refuses(void **state)
{
    (void)state;
    uint64_t hashes[2];
    float out[16];
    struct err e;
    write_shards(FEATURE_F32, 2, (const uint64_t[]){10, 20}, hashes);
    struct feature_dump *d = open_dump();
    assert_int_equal(feature_dump_read(d, 0, 29, 2, out, &e), -EINVAL);
    assert_int_equal(feature_dump_read(d, 0, 31, 0, out, &e), -EINVAL);
    assert_int_equal(feature_dump_read(d, 0, UINT64_MAX, 2, out, &e), -EINVAL);
    assert_int_equal(feature_dump_read(d, 2, 0, 1, out, &e), -EINVAL);
    feature_dump_close(d);
}

/* The hash of one shard is its own, that of several XXH3 over them in order, as little-endian bytes. */
static void test_hash(void **state)
{
    (void)state;
    const uint64_t hashes[] = {0x0123456789abcdef, 0xfedcba9876543210};
    const uint8_t bytes[] = {0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,
                             0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe};
    assert_true(feature_dump_hash(hashes, 1) == hashes[0]);
    assert_true(feature_dump_hash(hashes, 2) == XXH3_64bits(bytes, sizeof bytes));
}

static void refused(int code, const char *words)
{
    struct feature_dump *d;
    struct err e = {0};
    assert_int_equal(feature_dump_open(round_dir, &d, &e), code);
    if (!strstr(e.msg, words))
        fail_msg("'%s' is not in '%s'", words, e.msg);
}

/* No dump before every shard is sealed; the missing one is named, also where another one is of other weights.
 */
static void test_missing(void **state)
{
    (void)state;
    struct feature_info info = example_info(FEATURE_F32);
    struct feature_store *s;
    struct err e;
    info.ranks = 3;
    info.rows = 10;
    info.total = 30;
    refused(-ENOENT, "round-0003/rank-0 is not sealed yet");
    info.rank = 2;
    info.first = 20;
    info.weights++;
    write_shard(2, &info);
    refused(-ENOENT, "round-0003/rank-0 is not sealed yet");
    info.weights--;
    info.rank = 0;
    info.first = 0;
    write_shard(0, &info);
    refused(-ENOENT, "round-0003/rank-1 is not sealed yet");
    info.rank = 1;
    info.first = 10;
    assert_int_equal(feature_store_create(shard_dir(1), &info, &s, &e), 0);
    refused(-ENOENT, "round-0003/rank-1 is not sealed yet");
    feature_store_close(s);
    write_shard(1, &info);
    refused(XDC_EMISMATCH, "rank-2 was sealed with weights cccccccccccccccd, rank 0 with cccccccccccccccc");
    assert_int_equal(fs_remove_tree(shard_dir(2), NULL), 0);
    refused(-ENOENT, "round-0003/rank-2 is not sealed yet");
    info.rank = 2;
    info.first = 20;
    write_shard(2, &info);
    feature_dump_close(open_dump());
}

/* One field of the second of two shards, of 1000 and 1500 rows, is not as it should be. */
static void test_mismatched(void **state)
{
    (void)state;
    enum { RUN, MANIFEST, ROUND, WEIGHTS, RANKS, RANK, DTYPE, ENCODERS, NAME, DIM, TOTAL, OVERLAP, GAP, END };
    static const struct {
        int code;
        const char *words;
    } cases[] = {
        [RUN] = {XDC_EMISMATCH, "rank-1 was sealed with run bbbbbbbbbbbbbbbc, rank 0 with bbbbbbbbbbbbbbbb"},
        [MANIFEST] = {XDC_EMISMATCH, "rank-1 was sealed with manifest aaaaaaaaaaaaaaab"},
        [ROUND] = {XDC_EMISMATCH, "rank-1 was sealed with round 4, rank 0 with 3"},
        [WEIGHTS] = {XDC_EMISMATCH, "rank-1 was sealed with weights"},
        [RANKS] = {XDC_EMISMATCH, "rank-1 was sealed with ranks 3, rank 0 with 2"},
        [RANK] = {XDC_EMISMATCH, "rank-1 was sealed with rank 0, in the place of rank 1"},
        [DTYPE] = {XDC_EMISMATCH, "rank-1 was sealed with dtype 2, rank 0 with 1"},
        [ENCODERS] = {XDC_EMISMATCH, "rank-1 was sealed with encoders 1, rank 0 with 2"},
        [NAME] = {XDC_EMISMATCH,
                  "rank-1 was sealed with encoders sound of 3 dimensions, rank 0 with audio of 3"},
        [DIM] = {XDC_EMISMATCH,
                 "rank-1 was sealed with encoders audio of 2 dimensions, rank 0 with audio of 3"},
        [TOTAL] = {XDC_EMISMATCH, "rank-1 was sealed with total 2501, rank 0 with 2500"},
        [OVERLAP] = {XDC_EFORMAT, "rank-1 begins with row 999, the shards before it end with 1000"},
        [GAP] = {XDC_EFORMAT, "rank-1 begins with row 1001, the shards before it end with 1000"},
        [END] = {XDC_EFORMAT, "round-0003: the shards have 2499 rows of 2500"},
    };
    struct feature_info info = example_info(FEATURE_F32);
    info.ranks = 2;
    info.rows = 1000;
    info.total = 2500;
    write_shard(0, &info);
    info.rank = 1;
    info.first = 1000;
    info.rows = 1500;
    for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++) {
        struct feature_info bad = info;
        bad.run += i == RUN;
        bad.manifest += i == MANIFEST;
        bad.round += i == ROUND;
        bad.weights += i == WEIGHTS;
        bad.ranks += i == RANKS;
        bad.rank -= i == RANK;
        bad.dtype = i == DTYPE ? FEATURE_F16 : FEATURE_F32;
        bad.encoders -= i == ENCODERS;
        if (i == NAME)
            strcpy(bad.encoder[1].name, "sound");
        bad.encoder[1].dim -= i == DIM;
        bad.total += i == TOTAL;
        bad.first -= i == OVERLAP;
        bad.first += i == GAP;
        bad.rows -= i == GAP || i == END;
        write_shard(1, &bad);
        refused(cases[i].code, cases[i].words);
        assert_int_equal(fs_remove_tree(shard_dir(1), NULL), 0);
    }
    write_shard(1, &info);
    feature_dump_close(open_dump());
    assert_int_equal(fs_remove_tree(shard_dir(0), NULL), 0);
    write_shard(0, &info);
    refused(XDC_EMISMATCH, "rank-0 was sealed with rank 1, in the place of rank 0");
}

/* A shard that is cut does not open, a byte of features that was altered is found by verify; both name it. */
static void test_altered(void **state)
{
    (void)state;
    uint64_t hashes[2];
    struct err e;
    char path[160], *data;
    size_t size;
    float values[8];
    write_shards(FEATURE_F32, 2, (const uint64_t[]){1000, 1500}, hashes);
    snprintf(path, sizeof path, "%s/data.mdb", shard_dir(1));
    assert_int_equal(fs_read(path, 1 << 24, &data, &size, &e), 0);
    for (uint32_t d = 0; d < 8; d++) /* a row in the middle of a block, far from its structure */
        values[d] = example(0, 1500, d);
    char *at = memmem(data, size, values, sizeof values);
    assert_non_null(at);
    char other = (char)(*at ^ 1);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &other, 1, at - data), 1);
    struct feature_dump *d = open_dump();
    assert_int_equal(feature_dump_verify(d, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "rank-1: the features are not those that were sealed"));
    feature_dump_close(d);
    assert_int_equal(pwrite(fd, at, 1, at - data), 1);
    d = open_dump();
    assert_int_equal(feature_dump_verify(d, &e), 0);
    feature_dump_close(d);
    assert_int_equal(ftruncate(fd, (off_t)(size - 4096)), 0);
    refused(XDC_EFORMAT, "rank-1");
    close(fd);
    free(data);
}

static uint64_t mark(void)
{
    uint64_t m;
    assert_int_equal(feature_dump_mark(round_dir, &m), 0);
    return m;
}

/* The mark is another one after each seal, replacement and removal, and the same as long as nothing happens.
 */
static void test_mark(void **state)
{
    (void)state;
    struct feature_info info = example_info(FEATURE_F32);
    uint64_t m, one, two, again;
    char aside[128];
    snprintf(aside, sizeof aside, "%s/aside", root);
    info.ranks = 2;
    info.rows = 10;
    info.total = 20;
    assert_int_equal(feature_dump_mark(round_dir, &m), -ENOENT);
    write_shard(0, &info);
    one = mark();
    info.rank = 1;
    info.first = 10;
    write_shard(1, &info);
    two = mark();
    assert_true(one != two);
    feature_dump_close(open_dump());
    assert_true(mark() == two);
    assert_int_equal(rename(shard_dir(1), aside), 0); /* and not removed: its number is not given again */
    assert_true(mark() == one);
    write_shard(1, &info);
    again = mark();
    assert_true(again != one && again != two);
    assert_int_equal(fs_remove_tree(shard_dir(0), NULL), 0);
    assert_int_equal(feature_dump_mark(round_dir, &m), -ENOENT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reads_as_one), TEST(test_read_refuses), TEST(test_hash), TEST(test_missing),
        TEST(test_mismatched),   TEST(test_altered),      TEST(test_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
