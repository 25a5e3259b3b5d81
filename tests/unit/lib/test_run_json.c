/* run_json: a run's record is read, and one that is not there or not sound is refused by name. */
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
#include "lib/run_json.h"

static char dir[64], path[96];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-test-run-json-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/run.json", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static void put(const char *text)
{
    struct err e;
    assert_int_equal(fs_write_atomic(path, text, strlen(text), &e), 0);
}

/* Values of the configuration are found by key; what is no string, or not there, is none. */
static void a_sound_record_is_read(void **state)
{
    (void)state;
    struct err e;
    json_t *record;
    put("{\"run\": \"00ff\", \"config\": {\"method\": \"xdc\", \"cluster.k\": 7}}");
    assert_int_equal(run_json_read(dir, &record, &e), 0);
    assert_string_equal(json_string_value(json_object_get(record, "run")), "00ff");
    assert_string_equal(run_json_config(record, "method"), "xdc");
    assert_null(run_json_config(record, "cluster.k"));
    assert_null(run_json_config(record, "run.seed"));
    json_decref(record);
}

/* Each says which file, what is wrong with it, and what to do. */
static void unsound_records_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {{"", "/run.json:1: is not JSON"},
                {"{\n\"config\": {", "/run.json:2: is not JSON"},
                {"[]", "/run.json: holds no configuration"},
                {"{\"format\": 1}", "/run.json: holds no configuration"},
                {"{\"config\": \"xdc\"}", "/run.json: holds no configuration"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e;
        json_t *record = (json_t *)(uintptr_t)1;
        put(rows[i].text);
        assert_int_equal(run_json_read(dir, &record, &e), XDC_EFORMAT);
        assert_null(record);
        if (strncmp(e.msg, dir, strlen(dir)) != 0 || !strstr(e.msg, rows[i].says) ||
            !strstr(e.msg, "; put a sound copy of the file back, or use another run directory"))
            fail_msg("row %zu: %s", i, e.msg);
    }
}

/* A folder without a record, or none at all, is no run directory; a record that cannot be read is not none.
 */
static void what_is_not_there_is_told_apart(void **state)
{
    (void)state;
    char nowhere[96];
    struct err e;
    json_t *record;
    snprintf(nowhere, sizeof nowhere, "%s/nowhere", dir);
    const char *const dirs[] = {dir, nowhere};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(run_json_read(dirs[i], &record, &e), -ENOENT);
        assert_null(record);
        if (strncmp(e.msg, dirs[i], strlen(dirs[i])) != 0 || !strstr(e.msg, "is no run directory") ||
            !strstr(e.msg, "give the run.dir of a run"))
            fail_msg("%s", e.msg);
    }
    assert_int_equal(fs_mkdirs(path, &e), 0);
    int rc = run_json_read(dir, &record, &e);
    assert_true(rc < 0 && rc != -ENOENT);
    assert_non_null(strstr(e.msg, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_sound_record_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(unsound_records_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_told_apart, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
