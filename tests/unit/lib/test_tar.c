/* tar: members of headers made by hand: where they lie, what they are called, and what is refused. Archives
 * that other programs have written are in tests/cli/test_index_shards.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lib/tar.h"

#define MOST 65536

static uint8_t tar[MOST];
static size_t end;

static int setup(void **state)
{
    (void)state;
    memset(tar, 0, sizeof tar);
    end = 0;
    return 0;
}

static void octal(uint8_t *p, int digits, unsigned v)
{
    while (digits) {
        p[--digits] = (uint8_t)('0' + (v & 7));
        v >>= 3;
    }
}

/* Sums the last header anew; of_signed: as old writers do. */
static void sign(uint8_t *h, int of_signed)
{
    int sum = 8 * ' ';
    for (int i = 0; i < 512; i++)
        if (i < 148 || i >= 156)
            sum += of_signed ? (int8_t)h[i] : h[i];
    memset(h + 148, 0, 8);
    octal(h + 148, 6, (unsigned)sum);
}

/* Appends a header; its bytes stay the caller's to change, up to sign. */
static uint8_t *header(const char *name, char type, size_t size)
{
    uint8_t *h = tar + end;
    memcpy(h, name, strnlen(name, 100));
    octal(h + 124, 11, (unsigned)size);
    memcpy(h + 257, "ustar\00000", 8);
    h[156] = (uint8_t)type;
    sign(h, 0);
    end += 512;
    return h;
}

static void data(const char *text)
{
    memcpy(tar + end, text, strlen(text));
    end += (strlen(text) + 511) / 512 * 512;
}

static void pax(const char *text)
{
    header("pax", 'x', strlen(text));
    data(text);
}

/* What begins at byte `at` of the archive of `bytes` bytes. */
static int read_at(uint64_t at, uint64_t bytes, struct tar_member *m, struct err *e)
{
    int fd = memfd_create("tar", 0);
    assert_true(fd >= 0 && write(fd, tar, bytes) == (ssize_t)bytes);
    memset(e, 0, sizeof *e);
    int rc = tar_member(fd, bytes, at, "x.tar", m, e);
    close(fd);
    return rc;
}

static void expect(uint64_t at, const char *name, enum tar_kind kind, uint64_t offset, uint64_t size)
{
    struct tar_member m;
    struct err e;
    if (read_at(at, end, &m, &e) != 1)
        fail_msg("%s", e.msg);
    assert_string_equal(m.name, name);
    assert_int_equal(m.kind, kind);
    assert_true(m.at == at && m.data == offset && m.size == size &&
                m.next == offset + (size + 511) / 512 * 512);
}

static void refused(uint64_t bytes, const char *word)
{
    struct tar_member m;
    struct err e;
    assert_int_equal(read_at(0, bytes, &m, &e), XDC_EFORMAT);
    if (!strstr(e.msg, word) || strncmp(e.msg, "x.tar", 5) != 0)
        fail_msg("not \"%s\" but: %s", word, e.msg);
}

/* Names: of 100 bytes without an end, behind a prefix, of GNU's header whose prefix is none, cleaned. */
static void names(void **state)
{
    (void)state;
    char hundred[101];
    memset(hundred, 'n', 100);
    hundred[100] = '\0';
    header(hundred, '0', 3);
    data("abc");
    expect(0, hundred, TAR_FILE, 512, 3);
    uint64_t at = end;
    uint8_t *h = header("b.mp4", '0', 0);
    memcpy(h + 345, "some/folder", 11);
    sign(h, 0);
    expect(at, "some/folder/b.mp4", TAR_FILE, at + 512, 0);
    at = end;
    h = header("c.mp4", '\0', 0);
    memcpy(h + 257, "ustar  ", 8);
    memcpy(h + 345, "12345670", 8);
    sign(h, 0);
    expect(at, "c.mp4", TAR_FILE, at + 512, 0);
    at = end;
    header("././/./d/../e.mp4", '7', 0);
    expect(at, "d/../e.mp4", TAR_FILE, at + 512, 0);
    at = end;
    h = header("caf\xe9.mp4", '0', 0);
    sign(h, 1);
    expect(at, "caf\xe9.mp4", TAR_FILE, at + 512, 0);
}

/* What is no file, and has no bytes however large it claims to be. */
static void kinds(void **state)
{
    (void)state;
    static const struct {
        char type;
        const char *name;
        enum tar_kind kind;
    } cases[] = {{'1', "a", TAR_OTHER},   {'2', "a", TAR_OTHER},    {'3', "a", TAR_OTHER},
                 {'4', "a", TAR_OTHER},   {'5', "a", TAR_FOLDER},   {'6', "a", TAR_OTHER},
                 {'0', "a/", TAR_FOLDER}, {'\0', "a/", TAR_FOLDER}, {'V', "a", TAR_OTHER},
                 {'0', "", TAR_OTHER},    {'0', "./", TAR_OTHER}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setup(NULL);
        bool bytes = cases[i].type < '1' || cases[i].type > '6';
        header(cases[i].name, cases[i].type, bytes ? 0 : 99999999);
        expect(0, strcmp(cases[i].name, "./") ? cases[i].name : "", cases[i].kind, 512, 0);
    }
}

/* A name and a size of pax or GNU are those of the member behind them. */
static void extensions(void **state)
{
    (void)state;
    pax("20 comment=whatever\n16 path=p/x.mp4\n9 size=3\n");
    header("short", '0', 0);
    data("abc");
    expect(0, "p/x.mp4", TAR_FILE, 3 * 512, 3);
    uint64_t at = end;
    header("././@LongLink", 'L', 14);
    data("./long/n.mp4");
    header("long/n", '0', 1);
    data("a");
    expect(at, "long/n.mp4", TAR_FILE, at + 3 * 512, 1);
    at = end;
    pax("22 GNU.sparse.major=1\n");
    header("s.mp4", '0', 1);
    data("a");
    expect(at, "s.mp4", TAR_OTHER, at + 3 * 512, 1);
    at = end;
    header("global", 'g', 12);
    data("12 path=all\n");
    header("g.mp4", '0', 0);
    expect(at, "g.mp4", TAR_FILE, at + 3 * 512, 0);
}

/* A name that does not fit is passed over with its member. */
static void long_name(void **state)
{
    (void)state;
    static char text[5000];
    memset(text, 'n', 4500);
    header("././@LongLink", 'L', 4500);
    data(text);
    uint64_t at = end;
    header("n", '0', 2);
    data("ab");
    struct tar_member m;
    struct err e;
    assert_int_equal(read_at(0, end, &m, &e), 1);
    assert_int_equal(m.kind, TAR_OTHER);
    assert_int_equal(strlen(m.name), TAR_NAME_MAX - 1);
    assert_true(m.data == at + 512 && m.next == end);
}

static void base_256(uint8_t *h, uint64_t v, uint8_t first)
{
    memset(h + 124, first == 0xff ? 0xff : 0, 12);
    h[124] = first;
    for (int i = 0; i < 8; i++)
        h[128 + i] = (uint8_t)(v >> (56 - 8 * i));
    sign(h, 0);
}

/* Sizes in base 256; those that are negative, too large, no numbers, or reach beyond the archive. */
static void sizes(void **state)
{
    (void)state;
    uint8_t *h = header("a", '0', 0);
    base_256(h, 5, 0x80);
    data("abcde");
    expect(0, "a", TAR_FILE, 512, 5);
    memcpy(h + 124, "      5 \0\0\0", 12);
    sign(h, 0);
    expect(0, "a", TAR_FILE, 512, 5);
    base_256(h, UINT64_MAX, 0xff);
    refused(end, "a size that is no number");
    base_256(h, UINT64_MAX, 0x80);
    refused(end, "a size that is no number");
    base_256(h, INT64_MAX, 0x80);
    refused(end, "ends within a member");
    base_256(h, 513, 0x80);
    refused(end, "ends within a member");
    memcpy(h + 124, "00000000019", 12);
    sign(h, 0);
    refused(end, "a size that is no number");
}

/* Where an archive ends, and where it is cut. */
static void ends(void **state)
{
    (void)state;
    struct tar_member m;
    struct err e;
    assert_int_equal(read_at(0, 0, &m, &e), 0);
    assert_int_equal(read_at(0, 1024, &m, &e), 0);
    refused(511, "ends within a header");
    header("a", '0', 600);
    end += 1024;
    assert_int_equal(read_at(0, 512 + 600, &m, &e), 1);
    assert_int_equal(read_at(m.next, 512 + 600, &m, &e), 0);
    refused(512 + 599, "ends within a member");
    tar[0] ^= 1;
    refused(end, "checksum");
    setup(NULL);
    pax("9 size=3\n");
    refused(end, "ends within a header");
    refused(600, "ends within");
    refused(end + 512, "a header without its member");
    for (int i = 0; i < 20; i++)
        pax("12 path=a.b\n");
    refused(end, "more headers");
}

/* Records of pax that are none. */
static void bad_pax(void **state)
{
    (void)state;
    static const char *const bad[] = {"x",        "5",           "5 a=b\n",
                                      "7 a=b\n",  "99 path=a\n", "0 a=b\n",
                                      "8 abcd\n", "10 size=x\n", "30 size=99999999999999999999999\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setup(NULL);
        pax(bad[i]);
        header("a", '0', 0);
        refused(end, "pax records");
    }
    setup(NULL);
    header("pax", 'x', 2 << 20);
    refused(end, "ends within a header");
    static const uint8_t zip[512] = "\x1f\x8b\x08";
    memcpy(tar, zip, 512);
    refused(512, "compressed with gzip");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(names, setup),      cmocka_unit_test_setup(kinds, setup),
        cmocka_unit_test_setup(extensions, setup), cmocka_unit_test_setup(long_name, setup),
        cmocka_unit_test_setup(sizes, setup),      cmocka_unit_test_setup(ends, setup),
        cmocka_unit_test_setup(bad_pax, setup)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
