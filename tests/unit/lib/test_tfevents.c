/* tfevents: what TensorBoard reads: whole records with the right sums, the version first, scalars as given.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/crc32c.h"
#include "lib/fsutil.h"
#include "lib/tfevents.h"
#include "lib/varint.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-test-tfevents-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

/* One Event as its fields. */
struct event {
    double time_s;
    uint64_t step, start;
    char version[32], tag[TFEVENTS_TAG_MAX];
    float value;
};

/* Reads a key and what belongs to it: a number, or bytes that lie in [*data, *data + *value). */
static const uint8_t *take(const uint8_t *p, const uint8_t *end, unsigned *field, uint64_t *value,
                           const uint8_t **data)
{
    uint64_t key = 0;
    assert_non_null(p = varint_get(p, end, UINT64_MAX, &key));
    size_t fixed = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : 0;
    *field = (unsigned)(key >> 3);
    *data = p;
    *value = 0;
    if (fixed) {
        assert_true((size_t)(end - p) >= fixed);
        memcpy(value, p, fixed);
        *value = le64toh(*value);
        return p + fixed;
    }
    assert_true((key & 7) == 0 || (key & 7) == 2);
    assert_non_null(p = varint_get(p, end, UINT64_MAX, value));
    if ((key & 7) == 0)
        return p;
    *data = p;
    assert_true(*value <= (uint64_t)(end - p));
    return p + *value;
}

static void copy_text(char *out, size_t room, const uint8_t *data, uint64_t size)
{
    assert_true(size < room);
    memcpy(out, data, size);
    out[size] = '\0';
}

static void parse_value(const uint8_t *p, const uint8_t *end, struct event *out)
{
    while (p < end) {
        unsigned field;
        uint64_t v;
        const uint8_t *data;
        p = take(p, end, &field, &v, &data);
        if (field == 1) {
            copy_text(out->tag, sizeof out->tag, data, v);
        } else {
            uint32_t bits = (uint32_t)v;
            assert_int_equal(field, 2);
            memcpy(&out->value, &bits, sizeof bits);
        }
    }
}

static struct event parse_event(const uint8_t *p, const uint8_t *end)
{
    struct event out = {0};
    while (p < end) {
        unsigned field, inner;
        uint64_t v, n;
        const uint8_t *data, *more;
        p = take(p, end, &field, &v, &data);
        if (field == 1) {
            memcpy(&out.time_s, &v, sizeof v);
        } else if (field == 2) {
            out.step = v;
        } else if (field == 3) {
            copy_text(out.version, sizeof out.version, data, v);
        } else {
            assert_true(field == 5 || field == 7);
            assert_ptr_equal(take(data, p, &inner, &n, &more), p);
            assert_int_equal(inner, 1);
            if (field == 7)
                out.start = n;
            else
                parse_value(more, p, &out);
        }
    }
    return out;
}

static uint32_t masked(const void *data, size_t size)
{
    uint32_t c = crc32c(data, size);
    return ((c >> 15) | (c << 17)) + 0xa282ead8u;
}

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The events of the directory's only file. */
static size_t read_events(struct event *out, size_t room)
{
    char path[PATH_MAX] = "", *text;
    size_t size, n = 0;
    struct err e = {0};
    DIR *d = opendir(dir);
    for (struct dirent *f; (f = readdir(d));) {
        if (f->d_name[0] == '.')
            continue;
        assert_string_equal(path, "");
        assert_int_equal(strncmp(f->d_name, "events.out.tfevents.", 20), 0);
        assert_int_equal(fs_path(path, &e, "%s/%s", dir, f->d_name), 0);
    }
    closedir(d);
    assert_int_equal(fs_read(path, 1 << 20, &text, &size, &e), 0);
    for (const uint8_t *p = (uint8_t *)text, *end = p + size; p < end; n++) {
        uint64_t length;
        assert_true(end - p >= 16 && n < room);
        memcpy(&length, p, 8);
        length = le64toh(length);
        assert_true(length <= (uint64_t)(end - p) - 16);
        assert_int_equal(read_u32(p + 8), masked(p, 8));
        assert_int_equal(read_u32(p + 12 + length), masked(p + 12, length));
        out[n] = parse_event(p + 12, p + 12 + length);
        p += 16 + length;
    }
    free(text);
    return n;
}

/* The check value of the CRC's name, and the examples of RFC 3720 B.4. */
static void crc_known_answers(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    for (unsigned i = 0; i < 32; i++) {
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(crc32c("123456789", 9), 0xE3069283);
    assert_int_equal(crc32c("", 0), 0);
    assert_int_equal(crc32c(zeros, 32), 0x8A9136AA);
    assert_int_equal(crc32c(ones, 32), 0x62A8AB43);
    assert_int_equal(crc32c(up, 32), 0x46DD794E);
    assert_int_equal(crc32c(down, 32), 0x113FDB5C);
}

/* A new file begins with the version, as every event file, and with the step from which on earlier ones are
 * void. */
static void a_file_begins_with_version_and_start(void **state)
{
    (void)state;
    struct tfevents *t;
    struct event events[4];
    struct err e = {0};
    assert_int_equal(tfevents_open(dir, 77, &t, &e), 0);
    tfevents_close(t);
    assert_int_equal(read_events(events, 4), 2);
    assert_string_equal(events[0].version, "brain.Event:2");
    assert_int_equal(events[0].step, 0);
    assert_int_equal(events[1].start, 1);
    assert_int_equal(events[1].step, 77);
}

/* Scalars come back as they went in, whatever number, step and length of tag. */
static void scalars_come_back(void **state)
{
    (void)state;
    char longest[TFEVENTS_TAG_MAX];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const struct {
        double time_s;
        uint64_t step;
        const char *tag;
        float value;
    } rows[] = {{1700000000.25, 0, "loss/video", 5.5f},      {1700000001, 1, "a", -0.0f},
                {1700000002, 127, "loss/audio", 1e-30f},     {1700000003, 128, "", 3e38f},
                {1700000004, INT64_MAX, longest, 0.333333f}, {1700000005, 300, "\xc3\xa4", -7}};
    enum { ROWS = sizeof rows / sizeof rows[0] };
    struct tfevents *t;
    struct event events[ROWS + 3];
    struct err e = {0};
    assert_int_equal(tfevents_open(dir, 0, &t, &e), 0);
    for (size_t i = 0; i < ROWS; i++)
        assert_int_equal(tfevents_scalar(t, rows[i].time_s, rows[i].step, rows[i].tag, rows[i].value, &e), 0);
    assert_int_equal(read_events(events, ROWS + 3), ROWS + 2); /* readable while it is written */
    tfevents_close(t);
    for (size_t i = 0; i < ROWS; i++) {
        assert_true(events[i + 2].time_s == rows[i].time_s);
        assert_int_equal(events[i + 2].step, rows[i].step);
        assert_string_equal(events[i + 2].tag, rows[i].tag);
        assert_memory_equal(&events[i + 2].value, &rows[i].value, sizeof(float));
    }
}

/* A tag that does not fit is refused, and nothing is written. */
static void long_tag_is_refused(void **state)
{
    (void)state;
    char tag[TFEVENTS_TAG_MAX + 1];
    memset(tag, 'x', TFEVENTS_TAG_MAX);
    tag[TFEVENTS_TAG_MAX] = '\0';
    struct tfevents *t;
    struct event events[4];
    struct err e = {0};
    assert_int_equal(tfevents_open(dir, 0, &t, &e), 0);
    assert_int_equal(tfevents_scalar(t, 0, 0, tag, 1, &e), -ENAMETOOLONG);
    tfevents_close(t);
    assert_int_equal(read_events(events, 4), 2);
}

/* A write that finds no room leaves no part of a record; with room again the file goes on. */
static void failed_write_is_cut_off(void **state)
{
    (void)state;
    struct rlimit old, tight;
    struct tfevents *t;
    struct event events[8];
    struct err e = {0};
    assert_int_equal(tfevents_open(dir, 0, &t, &e), 0);
    assert_int_equal(tfevents_scalar(t, 1, 1, "a", 1, &e), 0);
    getrlimit(RLIMIT_FSIZE, &old);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    tight = (struct rlimit){150, old.rlim_max}; /* in the middle of the next record */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    assert_int_equal(tfevents_scalar(t, 2, 2, "does not fit", 2, &e), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_non_null(strstr(e.msg, "events.out.tfevents."));
    assert_int_equal(read_events(events, 8), 3);
    assert_int_equal(tfevents_scalar(t, 3, 3, "b", 3, &e), 0);
    tfevents_close(t);
    assert_int_equal(read_events(events, 8), 4);
    assert_string_equal(events[3].tag, "b");
}

/* A directory that is not there is named. */
static void missing_directory_is_named(void **state)
{
    (void)state;
    struct tfevents *t;
    struct err e = {0};
    assert_int_equal(tfevents_open("/tmp/xdc-no-such-directory", 0, &t, &e), -ENOENT);
    assert_non_null(strstr(e.msg, "/tmp/xdc-no-such-directory/events.out.tfevents."));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_known_answers),
        cmocka_unit_test_setup_teardown(a_file_begins_with_version_and_start, setup, teardown),
        cmocka_unit_test_setup_teardown(scalars_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(long_tag_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_write_is_cut_off, setup, teardown),
        cmocka_unit_test(missing_directory_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
