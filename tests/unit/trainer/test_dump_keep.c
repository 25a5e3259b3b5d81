/* dump_keep: of a run's dumps goes what is old, clustered and named by no checkpoint, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "services/trainer/dump_keep.h"

static char root[64];

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/xdc-keep-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(root, NULL);
}

static void make(const char *dir, const char *file, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", root, dir);
    assert_int_equal(fs_mkdirs(path, NULL), 0);
    snprintf(path, sizeof path, "%s/%s/%s", root, dir, file);
    assert_int_equal(fs_write_atomic(path, text, strlen(text), NULL), 0);
}

static void make_round(unsigned round, int clustered)
{
    char dir[64], table[64];
    snprintf(dir, sizeof dir, "features/round-%04u/rank-0", round);
    snprintf(table, sizeof table, "round-%04u.xdcl", round);
    make(dir, "data.mdb", "features");
    if (clustered)
        make("labels", table, "labels");
}

static void make_checkpoint(unsigned step, const char *state)
{
    char dir[64];
    snprintf(dir, sizeof dir, "checkpoints/step-%012u", step);
    make(dir, "state.json", state);
}

/* The rounds that are there, as digits. */
static void check(unsigned newest, const char *want)
{
    char got[16] = "", path[128];
    struct err e;
    if (dump_keep(root, newest, &e) < 0)
        fail_msg("%s", e.msg);
    for (unsigned round = 0; round < 10; round++) {
        snprintf(path, sizeof path, "%s/features/round-%04u/rank-0/data.mdb", root, round);
        if (access(path, F_OK) == 0)
            snprintf(got + strlen(got), 2, "%u", round);
    }
    assert_string_equal(got, want);
    snprintf(path, sizeof path, "%s/features/removed-round-0000", root);
    assert_int_equal(access(path, F_OK), -1);
}

/* Newest ones, unclustered ones and those of a checkpoint stay; tables stay all. */
static void test_rule(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(dump_keep(root, 2, &e), 0); /* a run that has nothing yet */
    for (unsigned round = 0; round < 8; round++)
        make_round(round, round != 2 && round != 7);
    make_checkpoint(10, "{\"round\": 4, \"phase\": \"train\"}");
    make_checkpoint(20, "{\"round\": 8}");
    check(0, "01234567");
    check(9, "01234567");
    check(3, "24567");
    check(1, "247");
    char path[128];
    for (unsigned round = 0; round < 7; round++) {
        snprintf(path, sizeof path, "%s/labels/round-%04u.xdcl", root, round);
        assert_int_equal(access(path, F_OK), round == 2 ? -1 : 0);
    }
}

/* A checkpoint that cannot be read may name any round: nothing goes. */
static void test_unreadable(void **state)
{
    (void)state;
    static const char *const states[] = {"", "{\"phase\": \"train\"}", "[4]", "{\"round\": \"4\"}"};
    for (unsigned round = 0; round < 4; round++)
        make_round(round, 1);
    make_checkpoint(10, "{\"round\": 3}");
    for (size_t i = 0; i < 4; i++) {
        make_checkpoint(20, states[i]);
        check(1, "0123");
    }
    make_checkpoint(20, "{\"round\": 4}");
    check(1, "3");
}

/* What a kill left of a dump that was being removed is removed; folders of other names are not touched. */
static void test_left(void **state)
{
    (void)state;
    char path[128];
    make_round(5, 1);
    make("features/removed-round-0000/rank-0", "data.mdb", "half");
    make("features/round-0001x", "mine", "");
    check(1, "5");
    snprintf(path, sizeof path, "%s/features/round-0001x/mine", root);
    assert_int_equal(access(path, F_OK), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_rule), TEST(test_unreadable), TEST(test_left)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
