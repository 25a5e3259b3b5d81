/* events: every event is a line of events.jsonl, and the table's numbers are scalars of TensorBoard too. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "services/trainer/events.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-test-events-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

/* The lines of events.jsonl as an array. */
static json_t *read_lines(void)
{
    char path[96], *text, *save = NULL;
    size_t size;
    struct err e;
    json_t *lines = json_array();
    snprintf(path, sizeof path, "%s/events.jsonl", dir);
    assert_int_equal(fs_read(path, 1 << 20, &text, &size, &e), 0);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *j = json_loads(line, 0, NULL);
        assert_non_null(j);
        json_array_append_new(lines, j);
    }
    free(text);
    return lines;
}

/* How many TensorBoard files there are; the bytes of the last one found are the caller's. */
static unsigned read_scalars(char **out, size_t *out_size)
{
    char path[PATH_MAX];
    unsigned n = 0;
    struct err e;
    assert_int_equal(fs_path(path, &e, "%s/tensorboard", dir), 0);
    DIR *d = opendir(path);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.')
            continue;
        if (n++)
            free(*out);
        assert_int_equal(fs_path(path, &e, "%s/tensorboard/%s", dir, f->d_name), 0);
        assert_int_equal(fs_read(path, 1 << 20, out, out_size, &e), 0);
    }
    if (d)
        closedir(d);
    return n;
}

/* A tag is a field of its length and bytes, behind it the key of the value and the value. */
static bool has_scalar(const char *data, size_t size, const char *tag, float value)
{
    char want[300];
    size_t n = strlen(tag);
    want[0] = '\x0a';
    want[1] = (char)n;
    memcpy(want + 2, tag, n);
    want[2 + n] = '\x15';
    memcpy(want + 3 + n, &value, sizeof value);
    return memmem(data, size, want, 3 + n + sizeof value) != NULL;
}

static json_t *fields(const char *text)
{
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    return j;
}

/* Records in an event file: length, its sum, data, their sum. */
static unsigned count_records(const char *data, size_t size)
{
    unsigned n = 0;
    uint64_t length;
    for (size_t at = 0; at < size; at += 16 + length, n++)
        memcpy(&length, data + at, sizeof length);
    return n;
}

struct scalar {
    const char *tag;
    float value;
};

/* The only file holds these scalars and no others behind version and start; without any there is no file. */
static void check_scalars(const struct scalar *wanted, const char *of)
{
    char *data = NULL;
    size_t size = 0;
    unsigned n = 0;
    unsigned files = read_scalars(&data, &size);
    for (; wanted[n].tag; n++)
        if (!has_scalar(data, size, wanted[n].tag, wanted[n].value))
            fail_msg("%s: no %s", of, wanted[n].tag);
    assert_int_equal(files, n > 0);
    assert_int_equal(count_records(data, size), n ? n + 2 : 0);
    free(data);
}

static void check_line(size_t i, const char *event, const char *text, uint64_t step)
{
    json_t *lines = read_lines(), *line = json_array_get(lines, i), *want = fields(text);
    assert_int_equal(json_array_size(lines), i + 1);
    assert_string_equal(json_string_value(json_object_get(line, "event")), event);
    assert_true(json_number_value(json_object_get(line, "time")) > 1.6e9);
    assert_int_equal(json_integer_value(json_object_get(line, "step")), step);
    json_object_update(want, line);
    assert_true(json_equal(want, line));
    json_decref(want);
    json_decref(lines);
}

/* Each kind of event gives the scalars of the table and no others; the line holds everything and the step. */
static void numbers_become_scalars(void **state)
{
    (void)state;
    static const struct {
        const char *event, *fields;
        struct scalar scalars[6];
    } rows[] = {
        {"epoch",
         "{\"loss\":{\"video\":1.5,\"audio\":2},\"lr\":0.25,\"round\":9,\"quarantined\":4}",
         {{"loss/video", 1.5f}, {"loss/audio", 2}, {"lr", 0.25f}, {"clips/quarantined", 4}}},
        {"epoch",
         "{\"accuracy\":{\"audio\":0.5},\"clips_per_s\":8.5,\"seconds\":3}",
         {{"accuracy/audio", 0.5f}, {"clips_per_s/epoch", 8.5f}, {"seconds/epoch", 3}}},
        {"epoch",
         "{\"loss\":{\"video\":null,\"audio\":2},\"holdout\":{\"loss\":{\"video\":null,\"audio\":3},"
         "\"accuracy\":"
         "{\"video\":null,\"audio\":0.5}}}",
         {{"loss/audio", 2}, {"holdout_loss/audio", 3}, {"holdout_accuracy/audio", 0.5f}}},
        {"probe",
         "{\"round\":2,\"clips\":100,\"accuracy\":{\"video\":0.25,\"audio\":0.75},\"seconds\":3}",
         {{"probe/video", 0.25f}, {"probe/audio", 0.75f}}},
        {"early_stop", "{\"encoder\":\"video\",\"best\":1.5}", {{0}}},
        {"labels",
         "{\"seconds\":7,\"quality\":{\"round\":1,\"sources\":{\"video\":{\"ami_truth\":0.75,\"sizes\":{"
         "\"min\":3}},\"audio\":{\"churn\":0.5}}}}",
         {{"quality/video/ami_truth", 0.75f}, {"quality/video/sizes/min", 3}, {"quality/audio/churn", 0.5f}}},
        {"labels", "{\"quality\":null}", {{0}}},
        {"phase",
         "{\"name\":\"extract\",\"ended\":true,\"seconds\":2.5,\"clips\":5,\"clips_per_s\":2}",
         {{"seconds/extract", 2.5f}, {"clips_per_s/extract", 2}}},
        {"checkpoint",
         "{\"write_s\":0.125,\"stall_s\":0.25}",
         {{"seconds/checkpoint", 0.125f}, {"seconds/checkpoint_stall", 0.25f}}},
        {"stats", "{\"mean\":1}", {{0}}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[96];
        struct events ev;
        struct err e = {0};
        uint64_t step = 40 + i;
        assert_int_equal(events_open(&ev, dir, true, &step, false, &e), 0);
        step++;
        assert_int_equal(events_write(&ev, rows[i].event, fields(rows[i].fields), &e), 0);
        events_close(&ev);
        check_line(i, rows[i].event, rows[i].fields, step);
        check_scalars(rows[i].scalars, rows[i].fields);
        snprintf(path, sizeof path, "%s/tensorboard", dir);
        assert_int_equal(fs_remove_tree(path, &e), 0);
    }
}

/* Where TensorBoard is not wanted there is no directory for it. */
static void without_tensorboard_lines_alone(void **state)
{
    (void)state;
    char path[96], *data = NULL;
    size_t size;
    struct events ev;
    struct err e = {0};
    uint64_t step = 3;
    assert_int_equal(events_open(&ev, dir, false, &step, false, &e), 0);
    assert_int_equal(events_write(&ev, "checkpoint", fields("{\"write_s\":1}"), &e), 0);
    events_close(&ev);
    assert_int_equal(read_scalars(&data, &size), 0);
    snprintf(path, sizeof path, "%s/tensorboard", dir);
    assert_int_equal(access(path, F_OK), -1);
    json_t *lines = read_lines();
    assert_int_equal(json_array_size(lines), 1);
    json_decref(lines);
}

/* A process that goes on from step 7 appends its lines and begins a file that makes step 8 and later void. */
static void resumed_run_begins_a_new_file(void **state)
{
    (void)state;
    static const struct {
        bool resumed;
        const char start[4]; /* the step's field, and the key of the session's start */
    } rows[] = {{false, "\x10\x00\x3a"}, {true, "\x10\x08\x3a"}};
    uint64_t step = 7;
    for (unsigned i = 0; i < 2; i++) {
        char *data = NULL;
        size_t size = 0;
        struct events ev;
        struct err e = {0};
        assert_int_equal(events_open(&ev, dir, true, &step, rows[i].resumed, &e), 0);
        assert_int_equal(events_write(&ev, "checkpoint", fields("{\"write_s\":1}"), &e), 0);
        events_close(&ev);
        assert_int_equal(read_scalars(&data, &size), 1);
        assert_non_null(memmem(data, size, rows[i].start, 3));
        free(data);
        char path[96];
        snprintf(path, sizeof path, "%s/tensorboard", dir);
        assert_int_equal(fs_remove_tree(path, &e), 0);
    }
    json_t *lines = read_lines();
    assert_int_equal(json_array_size(lines), 2);
    json_decref(lines);
}

/* A figure that is no number stops the run with a sentence that says so, and leaves no line. */
static void not_a_number_is_named(void **state)
{
    (void)state;
    struct events ev;
    struct err e = {0};
    uint64_t step = 0;
    assert_int_equal(events_open(&ev, dir, true, &step, false, &e), 0);
    assert_int_equal(events_write(&ev, "epoch", json_pack("{s:f}", "loss", (double)__builtin_nanf("")), &e),
                     -EDOM);
    assert_non_null(strstr(e.msg, "epoch"));
    events_close(&ev);
    json_t *lines = read_lines();
    assert_int_equal(json_array_size(lines), 0);
    json_decref(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers_become_scalars, setup, teardown),
        cmocka_unit_test_setup_teardown(without_tensorboard_lines_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(resumed_run_begins_a_new_file, setup, teardown),
        cmocka_unit_test_setup_teardown(not_a_number_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
