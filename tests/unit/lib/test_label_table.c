/* label_table: labels of every width come back, equal inputs give equal bytes, and nothing torn, foreign or
 * altered opens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/fsutil.h"
#include "lib/label_table.h"

static char dir[64], path[128];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-labels-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/round-0001.xdcl", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

enum { CLIPS = 1013, SOURCES = 6 };
static const struct label_source sources[SOURCES] = {{"video", 1},     {"audio", 255},  {"joint", 256},
                                                     {"truth", 65535}, {"deep", 65536}, {"all", UINT32_MAX}};

/* Labels 0 and k - 1 are among them, and every seventh clip has none. */
static uint32_t example(uint32_t s, uint64_t clip)
{
    if (clip % 7 == 3)
        return LABEL_NONE;
    return clip % 5 == 0 ? sources[s].k - 1 : (uint32_t)(clip * 2654435761u) % sources[s].k;
}

static struct label_info example_info(uint64_t clips)
{
    struct label_info info = {.run = 0x1111,
                              .manifest = 0x2222222222222222,
                              .features = 0x3333,
                              .clips = clips,
                              .round = 1,
                              .sources = SOURCES};
    memcpy(info.source, sources, sizeof sources);
    return info;
}

static uint64_t write_example(const char *to)
{
    static uint32_t labels[SOURCES][CLIPS];
    const uint32_t *rows[SOURCES];
    struct label_info info = example_info(CLIPS);
    uint64_t hash;
    struct err e;
    for (uint32_t s = 0; s < SOURCES; s++) {
        rows[s] = labels[s];
        for (uint64_t c = 0; c < CLIPS; c++)
            labels[s][c] = example(s, c);
    }
    assert_int_equal(label_table_write(to, &info, rows, "{\"video\": {\"objective\": 1.5}}", &hash, &e), 0);
    return hash;
}

static int try_open(void)
{
    struct label_table *t;
    struct err e = {.msg = ""};
    int rc = label_table_open(path, &t, &e);
    if (rc == 0)
        label_table_close(t);
    else
        assert_non_null(strstr(e.msg, path));
    return rc;
}

/* Labels of 1, 2 and 4 bytes at both sides of their bounds, identities, names and the quality text come back.
 */
static void test_round_trip(void **state)
{
    (void)state;
    struct label_table *t;
    struct err e;
    uint64_t hash = write_example(path);
    assert_int_equal(label_table_open(path, &t, &e), 0);
    const struct label_info *info = label_table_info(t);
    assert_true(info->run == 0x1111 && info->manifest == 0x2222222222222222 && info->features == 0x3333);
    assert_true(info->clips == CLIPS && info->round == 1 && info->sources == SOURCES && info->hash == hash);
    assert_string_equal(label_table_quality(t), "{\"video\": {\"objective\": 1.5}}");
    for (uint32_t s = 0; s < SOURCES; s++) {
        assert_int_equal(label_table_source(t, sources[s].name), s);
        assert_int_equal(info->source[s].k, sources[s].k);
        for (uint64_t c = 0; c < CLIPS; c++)
            assert_int_equal(label_table_get(t, s, c), example(s, c));
        assert_int_equal(label_table_get(t, s, CLIPS), LABEL_NONE);
        assert_int_equal(label_table_get(t, s, UINT64_MAX), LABEL_NONE);
    }
    assert_int_equal(label_table_get(t, SOURCES, 0), LABEL_NONE);
    assert_int_equal(label_table_source(t, "vide"), -1);
    label_table_close(t);
}

/* Equal inputs give equal bytes and hashes, also with rubbish behind a name's end; a change anywhere gives
 * another hash. */
static void test_hash(void **state)
{
    (void)state;
    struct err e;
    uint64_t a, b;
    uint32_t labels[3] = {0, 1, LABEL_NONE};
    const uint32_t *rows[1] = {labels};
    struct label_info info = {.clips = 3, .sources = 1, .source = {{"video", 2}}};
    assert_int_equal(label_table_write(path, &info, rows, "", &a, &e), 0);
    memset(info.source[0].name + 6, 'x', sizeof info.source[0].name - 6);
    info.hash = 99;
    assert_int_equal(label_table_write(path, &info, rows, "", &b, &e), 0);
    assert_true(a == b);
    labels[2] = 1;
    assert_int_equal(label_table_write(path, &info, rows, "", &b, &e), 0);
    assert_true(a != b);
    labels[2] = LABEL_NONE;
    info.round = 2;
    assert_int_equal(label_table_write(path, &info, rows, "", &b, &e), 0);
    assert_true(a != b);
    info.round = 0;
    assert_int_equal(label_table_write(path, &info, rows, "{}", &b, &e), 0);
    assert_true(a != b);
}

/* Labels take 1, 2 or 4 bytes: the file is its arrays, plus less than 1 kB. */
static void test_size(void **state)
{
    (void)state;
    struct stat st;
    write_example(path);
    assert_int_equal(stat(path, &st), 0);
    uint64_t arrays = (1 + 1 + 2 + 2 + 4 + 4) * CLIPS;
    assert_in_range(st.st_size, arrays, arrays + 1024);
}

/* What makes no table is refused before any file appears. */
static void test_write_refuses(void **state)
{
    (void)state;
    static const struct {
        struct label_info info;
        uint32_t label;
    } cases[] = {
        {{.clips = 1, .sources = 0}, 0},
        {{.clips = 1, .sources = LABEL_SOURCES_MAX + 1, .source = {{"a", 2}}}, 0},
        {{.clips = 1, .sources = 1, .source = {{"", 2}}}, 0},
        {{.clips = 1, .sources = 1, .source = {{"a", 0}}}, 0},
        {{.clips = 1, .sources = 1, .source = {{"01234567890123456789012345678901", 2}}}, 0},
        {{.clips = 1, .sources = 2, .source = {{"a", 2}, {"a", 3}}}, 0},
        {{.clips = 1, .sources = 1, .source = {{"a", 2}}}, 2},
        {{.clips = 1, .sources = 1, .source = {{"a", 255}}}, 255},
        {{.clips = 1, .sources = 1, .source = {{"a", 65535}}}, 65535},
        {{.clips = (uint64_t)1 << 60, .sources = 1, .source = {{"a", 2}}}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint32_t *rows[LABEL_SOURCES_MAX + 1] = {&cases[i].label, &cases[i].label};
        uint64_t hash;
        struct err e;
        assert_int_equal(label_table_write(path, &cases[i].info, rows, "", &hash, &e), -EINVAL);
        assert_int_equal(rmdir(dir), 0);
        assert_int_equal(mkdir(dir, 0700), 0);
    }
}

/* A table of no clips is one, too. */
static void test_no_clips(void **state)
{
    (void)state;
    struct label_info info = example_info(0);
    const uint32_t *rows[SOURCES] = {NULL};
    struct label_table *t;
    uint64_t hash;
    struct err e;
    assert_int_equal(label_table_write(path, &info, rows, "", &hash, &e), 0);
    assert_int_equal(label_table_open(path, &t, &e), 0);
    assert_int_equal(label_table_get(t, 0, 0), LABEL_NONE);
    assert_string_equal(label_table_quality(t), "");
    label_table_close(t);
}

/* Every single altered byte and every length but the right one is XDC_EFORMAT. */
static void test_open_refuses_altered(void **state)
{
    (void)state;
    char *data;
    size_t size;
    struct err e;
    assert_int_equal(try_open(), -ENOENT);
    write_example(path);
    assert_int_equal(fs_read(path, 1 << 24, &data, &size, &e), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    for (size_t at = 0; at < size; at++) {
        char other = (char)(data[at] ^ (1 << at % 8));
        assert_int_equal(pwrite(fd, &other, 1, (off_t)at), 1);
        if (try_open() != XDC_EFORMAT)
            fail_msg("byte %zu of %zu altered, and it opens", at, size);
        assert_int_equal(pwrite(fd, &data[at], 1, (off_t)at), 1);
    }
    assert_int_equal(try_open(), 0);
    assert_int_equal(pwrite(fd, "x", 1, (off_t)size), 1);
    assert_int_equal(try_open(), XDC_EFORMAT);
    for (size_t left = size; left-- > 0;) {
        if (left > 200 && left % 97)
            continue;
        assert_int_equal(ftruncate(fd, (off_t)left), 0);
        assert_int_equal(try_open(), XDC_EFORMAT);
    }
    close(fd);
    free(data);
}

/* A forged file whose hash is right is still held to its form: version, sources, offsets, names, labels below
 * k. */
static void test_open_refuses_forged(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t value;
    } cases[] = {
        {8, 2},           /* version */
        {40, 0},          /* clips */
        {40, UINT32_MAX}, /* clips */
        {44, UINT32_MAX}, /* clips, upper half */
        {48, UINT32_MAX}, /* quality bytes */
        {52, UINT32_MAX}, /* quality bytes, upper half */
        {64, 0},          /* sources */
        {64, 33},         /* sources */
        {64, UINT32_MAX}, /* sources */
        {72, 0},          /* first name: empty */
        {104, 0},         /* k of the first source */
        {108, 2},         /* its width */
        {112, 0},         /* its offset */
        {152, 2},         /* k of the second: its labels reach 254 */
    };
    char *data;
    size_t size;
    struct err e;
    write_example(path);
    assert_int_equal(fs_read(path, 1 << 24, &data, &size, &e), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *copy = malloc(size);
        assert_non_null(copy);
        memcpy(copy, data, size);
        memcpy(copy + cases[i].at, &cases[i].value, 4);
        uint64_t hash = XXH3_64bits(copy, size - 8);
        memcpy(copy + size - 8, &hash, 8);
        assert_int_equal(fs_write_atomic(path, copy, size, &e), 0);
        free(copy);
        if (try_open() != XDC_EFORMAT)
            fail_msg("case %zu opens", i);
    }
    free(data);
}

/* A full disk leaves the old table and no leftover. */
static void test_full_disk(void **state)
{
    (void)state;
    uint64_t hash = write_example(path);
    struct rlimit old, small = {.rlim_cur = 4096};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    uint32_t *labels = calloc(100000, sizeof *labels);
    const uint32_t *rows[1] = {labels};
    struct label_info info = {.clips = 100000, .sources = 1, .source = {{"video", 2}}};
    struct err e;
    uint64_t other;
    assert_non_null(labels);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = label_table_write(path, &info, rows, "", &other, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    free(labels);
    assert_int_equal(rc, -EFBIG);
    struct label_table *t;
    assert_int_equal(label_table_open(path, &t, &e), 0);
    assert_true(label_table_info(t)->hash == hash);
    label_table_close(t);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* Every head's source has a name of its own, which says which head. */
static void test_head_sources(void **state)
{
    (void)state;
    struct label_source source;
    for (uint32_t h = 0; h < LABEL_HEADS_MAX; h++) {
        snprintf(source.name, sizeof source.name, "joint-h%u", h);
        assert_string_equal(label_head_source(h), source.name);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),          TEST(test_hash),      TEST(test_size),
        TEST(test_write_refuses),       TEST(test_no_clips),  TEST(test_open_refuses_altered),
        TEST(test_open_refuses_forged), TEST(test_full_disk), TEST(test_head_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
