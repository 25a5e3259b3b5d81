/* unstable: what is added is found, now and after a restart; a file that names no batch is refused, and one
 * that cannot be written changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "services/trainer/unstable.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-test-unstable-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

static void open_list(struct unstable_list *u, size_t n)
{
    struct err e;
    if (unstable_open(u, dir, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(u->n, n);
}

static const struct unstable_place places[] = {
    {0, 0, 0}, {0, 0, 7}, {0, 7, 0}, {7, 0, 0}, {4000000000u, 12, (uint64_t)1 << 40}};
enum { PLACES = sizeof places / sizeof places[0] };

static void add(struct unstable_list *u, size_t i)
{
    struct err e;
    json_t *fields = json_pack("{s:s, s:[i,i], s:[s]}", "why", "a loss\nwith \"quotes\"", "clips", 3, (int)i,
                               "uris", "b\xc3\xa4r.mp4");
    if (unstable_add(u, &places[i], fields, true, &e) < 0)
        fail_msg("%s", e.msg);
    json_decref(fields);
}

/* Every place that was added is there, and no other one, also when the list is opened after each. */
static void places_are_found_again(void **state)
{
    (void)state;
    struct unstable_list u;
    open_list(&u, 0);
    for (size_t n = 0; n < PLACES; n++) {
        for (size_t i = 0; i < PLACES; i++)
            assert_int_equal(unstable_has(&u, &places[i]), i < n);
        add(&u, n);
        assert_true(unstable_has(&u, &places[n]));
        unstable_close(&u);
        open_list(&u, n + 1);
    }
    unstable_close(&u);
}

/* One JSON object a line, the place and what was given beside it. */
static void lines_are_objects(void **state)
{
    (void)state;
    struct unstable_list u;
    char path[96];
    open_list(&u, 0);
    add(&u, 1);
    add(&u, 4);
    unstable_close(&u);
    snprintf(path, sizeof path, "%s/unstable.jsonl", dir);
    FILE *f = fopen(path, "r");
    char line[512];
    for (size_t i = 1; i <= 4; i += 3) {
        json_int_t round, epoch, batch, clip;
        const char *why;
        assert_non_null(fgets(line, sizeof line, f));
        json_t *j = json_loads(line, 0, NULL);
        assert_int_equal(json_unpack(j, "{s:I, s:I, s:I, s:s, s:[i,I]}", "round", &round, "epoch", &epoch,
                                     "batch", &batch, "why", &why, "clips", &(int){0}, &clip),
                         0);
        assert_int_equal(round, places[i].round);
        assert_int_equal(epoch, places[i].epoch);
        assert_int_equal(batch, places[i].batch);
        assert_int_equal(clip, i);
        assert_string_equal(why, "a loss\nwith \"quotes\"");
        json_decref(j);
    }
    assert_null(fgets(line, sizeof line, f));
    fclose(f);
}

/* What is not a list of batches is refused, with the line's number. */
static void other_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {{"{\"round\":0,\"epoch\":0,\"batch\":0}\n{\"round\":0,\"epo\n", "line 2 names no batch"},
                {"\n", "line 1 names no batch"},
                {"[]\n", "line 1 names no batch"},
                {"{\"round\":-1,\"epoch\":0,\"batch\":0}\n", "line 1 names no batch"},
                {"{\"round\":4294967296,\"epoch\":0,\"batch\":0}\n", "line 1 names no batch"},
                {"{\"round\":0,\"epoch\":\"1\",\"batch\":0}\n", "line 1 names no batch"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct unstable_list u;
        struct err e;
        char path[96];
        snprintf(path, sizeof path, "%s/unstable.jsonl", dir);
        assert_int_equal(fs_write_atomic(path, rows[i].text, strlen(rows[i].text), &e), 0);
        assert_int_equal(unstable_open(&u, dir, &e), XDC_EFORMAT);
        if (!strstr(e.msg, rows[i].says))
            fail_msg("row %zu: %s", i, e.msg);
        unstable_close(&u);
    }
}

/* A place that could not be written is not passed over: neither now nor after a restart. */
static void a_failed_write_changes_nothing(void **state)
{
    (void)state;
    struct unstable_list u;
    struct err e;
    open_list(&u, 0);
    add(&u, 0);
    snprintf(u.path, sizeof u.path, "%s/none/unstable.jsonl", dir);
    json_t *fields = json_object();
    assert_true(unstable_add(&u, &places[1], fields, true, &e) < 0);
    json_decref(fields);
    assert_int_equal(u.n, 1);
    assert_false(unstable_has(&u, &places[1]));
    snprintf(u.path, sizeof u.path, "%s/unstable.jsonl", dir);
    add(&u, 2);
    unstable_close(&u);
    open_list(&u, 2);
    assert_false(unstable_has(&u, &places[1]));
    assert_true(unstable_has(&u, &places[2]));
    unstable_close(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(places_are_found_again, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_are_objects, setup, teardown),
        cmocka_unit_test_setup_teardown(other_files_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_write_changes_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
