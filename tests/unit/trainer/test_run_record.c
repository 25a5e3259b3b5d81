/* run_record: a run is held against what it was: its identity may not change, everything else may. */
#include <errno.h>
#include <jansson.h>
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
#include "services/trainer/run_record.h"

#define RUN 0x1122334455667788u
#define MANIFEST 0xaabbccddeeff0011u

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-test-record-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

static void on_fault(void *arg, const char *where, const char *what)
{
    (void)arg;
    fail_msg("%s: %s", where, what);
}

/* A configuration of the run in `dir`; `set` changes one key, NULL none. */
static struct conf make(const char *set)
{
    char run_dir[96], manifest[96];
    snprintf(run_dir, sizeof run_dir, "run.dir=%s", dir);
    snprintf(manifest, sizeof manifest, "data.manifest=%s/manifest.lmdb", dir);
    const char *sets[] = {run_dir, manifest, "cluster.k=12", "train.rounds=2", set};
    struct conf c;
    struct err e = {0};
    if (conf_load(NULL, sets, set ? 5 : 4, on_fault, NULL, &c, &e) < 0)
        fail_msg("%s", e.msg);
    return c;
}

static int check(const char *set, uint64_t manifest, struct err *e)
{
    struct conf c = make(set);
    *e = (struct err){0};
    return run_record_check(&c, RUN, manifest, e);
}

static char *read_record(void)
{
    char path[96];
    char *text = NULL;
    size_t size;
    struct err e;
    snprintf(path, sizeof path, "%s/run.json", dir);
    assert_int_equal(fs_read(path, 1 << 20, &text, &size, &e), 0);
    return text;
}

static void write_record(const char *text)
{
    char path[96];
    struct err e;
    snprintf(path, sizeof path, "%s/run.json", dir);
    assert_int_equal(fs_write_atomic(path, text, strlen(text), &e), 0);
}

/* The first start writes every key of the schema, both identities and the versions. */
static void the_first_start_writes_it(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(check(NULL, MANIFEST, &e), 0);
    char *text = read_record();
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    const json_t *config = json_object_get(j, "config");
    assert_int_equal(json_object_size(config), conf_schema_len);
    assert_string_equal(json_string_value(json_object_get(config, "cluster.k")), "12");
    assert_string_equal(json_string_value(json_object_get(config, "method")), "xdc");
    assert_string_equal(json_string_value(json_object_get(j, "run")), "1122334455667788");
    assert_string_equal(json_string_value(json_object_get(j, "manifest")), "aabbccddeeff0011");
    assert_string_equal(json_string_value(json_object_get(json_object_get(j, "versions"), "xdc")),
                        XDC_VERSION);
    json_decref(j);
    free(text);
}

/* Keys outside the identity may change; the record stays the one of the start, byte for byte. */
static void what_may_change_is_accepted(void **state)
{
    (void)state;
    static const char *const sets[] = {NULL, "train.rounds=9", "train.keep_checkpoints=7", "run.decoders=3",
                                       "decoder.workers=5"};
    struct err e;
    assert_int_equal(check(NULL, MANIFEST, &e), 0);
    char *before = read_record();
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        if (check(sets[i], MANIFEST, &e) < 0)
            fail_msg("%s: %s", sets[i], e.msg);
        char *after = read_record();
        assert_string_equal(after, before);
        free(after);
    }
    free(before);
}

/* A key of the identity that differs is refused with its name, what it was and what it is now. */
static void what_may_not_change_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *set, *says;
    } rows[] = {{"cluster.k=13", " cluster.k 12, now 13;"},
                {"method=sdc", " method xdc, now sdc;"},
                {"run.seed=4", " run.seed 0, now 4;"},
                {"train.lr=0.5", " train.lr 0.01, now 0.5;"},
                {"net.video_width=32", " net.video_width 64, now 32;"}};
    struct err e;
    assert_int_equal(check(NULL, MANIFEST, &e), 0);
    char *before = read_record();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(check(rows[i].set, MANIFEST, &e), XDC_ECONF);
        if (!strstr(e.msg, rows[i].says))
            fail_msg("%s", e.msg);
        assert_non_null(strstr(e.msg, "run.json"));
    }
    assert_int_equal(check(NULL, MANIFEST + 1, &e), XDC_ECONF);
    assert_non_null(strstr(e.msg, "manifest identity aabbccddeeff0011, now aabbccddeeff0012;"));
    char *after = read_record();
    assert_string_equal(after, before);
    free(before);
    free(after);
}

/* Several differences are all named at once. */
static void all_differences_are_named(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(check(NULL, MANIFEST, &e), 0);
    struct conf c = make("cluster.k=99");
    c.run.seed = 77;
    c.train.batch = 5;
    assert_int_equal(run_record_check(&c, RUN, 1, &e), XDC_ECONF);
    static const char *const says[] = {"manifest identity", "cluster.k 12, now 99", "run.seed 0, now 77",
                                       "train.batch 32, now 5"};
    for (size_t i = 0; i < sizeof says / sizeof says[0]; i++)
        if (!strstr(e.msg, says[i]))
            fail_msg("no \"%s\" in: %s", says[i], e.msg);
}

/* A record that is no JSON, or has no manifest, is refused rather than replaced. */
static void a_torn_record_is_refused(void **state)
{
    (void)state;
    struct err e;
    write_record("{\"format\": 1, \"run\"");
    assert_int_equal(check(NULL, MANIFEST, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "run.json:1"));
    write_record("{\"config\": {}}");
    assert_int_equal(check(NULL, MANIFEST, &e), XDC_ECONF);
    assert_non_null(strstr(e.msg, "manifest identity none"));
    char *text = read_record();
    assert_string_equal(text, "{\"config\": {}}");
    free(text);
}

/* A run directory that is not there is an error, not a run. */
static void a_missing_directory_fails(void **state)
{
    (void)state;
    struct err e;
    struct conf c = make(NULL);
    strcat(c.run.dir, "/not-there");
    assert_int_equal(run_record_check(&c, RUN, MANIFEST, &e), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_start_writes_it, setup, teardown),
        cmocka_unit_test_setup_teardown(what_may_change_is_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(what_may_not_change_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(all_differences_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_torn_record_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_directory_fails, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
