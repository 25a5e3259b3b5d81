/* media_file: what a uri opens: files below a root and nowhere else, members of archives in their place, and
 * which of both where it may be either. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/media_file.h"

static char dir[64], path[PATH_MAX];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-media-file-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static const char *at(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(at(name), "w");
    assert_true(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

/* Appends a member to an archive in memory; returns the archive's bytes. */
static size_t add_member(uint8_t *tar, size_t end, const char *name, const char *text)
{
    uint8_t *h = tar + end;
    unsigned sum = 0;
    memset(h, 0, 1024);
    strcpy((char *)h, name);
    snprintf((char *)h + 124, 12, "%011o", (unsigned)strlen(text));
    memcpy(h + 257, "ustar\00000", 8);
    h[156] = '0';
    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
    memcpy(h + 512, text, strlen(text));
    return end + 1024;
}

static int open_it(const char *root, const char *uri, struct media_file *f)
{
    struct err e = {0};
    int rc = media_file_open(root, uri, f, &e);
    assert_int_equal(e.code, rc);
    assert_true(rc == 0 || strstr(e.msg, uri));
    return rc;
}

static int status_of(const char *root, const char *uri)
{
    struct media_file f;
    int rc = open_it(root, uri, &f);
    if (rc == 0)
        close(f.fd);
    return rc;
}

/* The text of a member or a file. */
static void expect(const char *root, const char *uri, const char *text)
{
    struct media_file f;
    char got[64] = "";
    uint64_t size;
    int64_t mtime;
    assert_int_equal(open_it(root, uri, &f), 0);
    assert_int_equal(f.size, strlen(text));
    assert_int_equal(pread(f.fd, got, f.size, (off_t)f.window.offset), f.size);
    assert_string_equal(got, text);
    assert_int_equal(media_file_stat(root, uri, &size, &mtime), 0);
    assert_true(size == f.size && mtime == f.mtime_ns);
    struct media_file again = f;
    assert_int_equal(media_file_again(&again, uri, NULL), 0);
    assert_true(again.size == f.size && again.mtime_ns == f.mtime_ns);
    close(f.fd);
}

/* Files open below a root and nowhere else; only regular ones. */
static void files(void **state)
{
    (void)state;
    write_file("five", "12345", 5);
    expect(dir, "five", "12345");
    expect("/nowhere", at("five"), "12345");
    assert_int_equal(status_of(dir, "none"), -ENOENT);
    assert_int_equal(status_of("/nowhere", "none"), -ENOENT);
    assert_true(status_of(dir, "../etc/passwd") < 0);
    assert_int_equal(symlink("/etc/passwd", at("out")), 0);
    assert_true(status_of(dir, "out") < 0);
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    assert_int_equal(status_of(dir, "fifo"), -EINVAL);
    assert_int_equal(status_of(dir, "."), -EINVAL);
}

/* Members by archive, place and name; each of the three has to fit. */
static void members(void **state)
{
    (void)state;
    uint8_t tar[8192] = {0};
    size_t end = add_member(tar, add_member(tar, 0, "a b.wav", "first"), "d/x.mp4", "second");
    write_file("s.tar", tar, end + 1024);
    write_file("S2.TAR", tar, end);
    expect(dir, "s.tar#000000000000/a b.wav", "first");
    expect(dir, "s.tar#000000001024/d/x.mp4", "second");
    expect(dir, "S2.TAR#000000001024/d/x.mp4", "second");
    char absolute[PATH_MAX + 64];
    snprintf(absolute, sizeof absolute, "%s#000000001024/d/x.mp4", at("s.tar"));
    expect(dir, absolute, "second");
    expect(NULL, absolute, "second");
    static const char *const moved[] = {"s.tar#000000000000/d/x.mp4", "s.tar#000000000512/d/x.mp4",
                                        "s.tar#000000002048/d/x.mp4", "s.tar#000000099999/d/x.mp4",
                                        "s.tar#999999999999/d/x.mp4", "s.tar#000000001024/x.mp4"};
    for (size_t i = 0; i < sizeof moved / sizeof moved[0]; i++)
        assert_int_equal(status_of(dir, moved[i]), XDC_EMISMATCH);
    static const char *const none[] = {"t.tar#000000001024/d/x.mp4",  "s.tar#1024/d/x.mp4",
                                       "s.tar#0000000001024/d/x.mp4", "s.tar#000000001024/",
                                       "s.tar#000000001024",          "s.tar#00000000102x/d/x.mp4"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_true(status_of(dir, none[i]) == -ENOENT || status_of(dir, none[i]) == -ENOTDIR);
    assert_string_equal(media_file_name_in("s.tar#000000001024/d/x.mp4"), "d/x.mp4");
    assert_null(media_file_name_in("s.tar#1024/d/x.mp4"));
    write_file("cut.tar", tar, 1540);
    assert_int_equal(status_of(dir, "cut.tar#000000001024/d/x.mp4"), XDC_EMISMATCH);
}

/* An archive that is cut while it is open is as long as what is left of it. */
static void cut_while_open(void **state)
{
    (void)state;
    uint8_t tar[2048] = {0};
    struct media_file f;
    write_file("c.tar", tar, add_member(tar, 0, "a.wav", "first"));
    assert_int_equal(open_it(dir, "c.tar#000000000000/a.wav", &f), 0);
    assert_int_equal(truncate(at("c.tar"), 514), 0);
    assert_int_equal(media_file_again(&f, "c.tar", NULL), 0);
    assert_int_equal(f.size, 2);
    assert_int_equal(truncate(at("c.tar"), 100), 0);
    assert_int_equal(media_file_again(&f, "c.tar", NULL), 0);
    assert_int_equal(f.size, 0);
    close(f.fd);
}

/* A file of just that name comes first; of several archives in a uri the leftmost that is a file. */
static void either(void **state)
{
    (void)state;
    uint8_t inner[4096] = {0}, outer[8192] = {0};
    write_file("o.tar", outer, add_member(outer, 0, "i.tar#000000000000/m.mp4", "of o"));
    expect(dir, "o.tar#000000000000/i.tar#000000000000/m.mp4", "of o");
    assert_int_equal(mkdir(at("p.tar#000000000000"), 0700), 0);
    write_file("p.tar#000000000000/i.tar", inner, add_member(inner, 0, "m.mp4", "of i"));
    expect(dir, "p.tar#000000000000/i.tar#000000000000/m.mp4", "of i");
    assert_int_equal(mkdir(at("o.tar#000000000000"), 0700), 0);
    assert_int_equal(mkdir(at("o.tar#000000000000/i.tar#000000000000"), 0700), 0);
    write_file("o.tar#000000000000/i.tar#000000000000/m.mp4", "a file", 6);
    expect(dir, "o.tar#000000000000/i.tar#000000000000/m.mp4", "a file");
    assert_int_equal(symlink("/etc", at("etc.tar#000000000000")), 0);
    assert_true(status_of(dir, "etc.tar#000000000000/passwd") < 0);
}

/* Uris that the index makes open again; one that is too long is told. */
static void make_uri(void **state)
{
    (void)state;
    char uri[32];
    assert_int_equal(media_file_member_uri(uri, sizeof uri, "a.tar", 1536, "b/c.mp4"), 0);
    assert_string_equal(uri, "a.tar#000000001536/b/c.mp4");
    assert_int_equal(media_file_member_uri(uri, sizeof uri, "a.tar", 1234567890123456, "b.mp4"), 0);
    assert_string_equal(media_file_name_in(uri), "b.mp4");
    assert_int_equal(media_file_member_uri(uri, sizeof uri, "a.tar", 1536, "more than fits in.mp4"),
                     -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(files), cmocka_unit_test(members),
                                       cmocka_unit_test(cut_while_open), cmocka_unit_test(either),
                                       cmocka_unit_test(make_uri)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
