/* checkpoint_dir: only whole checkpoints are found and counted, whatever lies beside them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/checkpoint_dir.h"
#include "lib/fsutil.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-test-cpdir-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

static const char *file_of(const char *name, const char *file)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/checkpoints/%s%s%s", dir, name, *file ? "/" : "", file);
    return path;
}

static void put(const char *name, const char *file, const char *text)
{
    struct err e = {0};
    if (fs_write_atomic(file_of(name, file), text, strlen(text), &e) < 0)
        fail_msg("%s", e.msg);
}

/* The state, and a DONE that fits it. */
static void put_state(const char *name, const char *text)
{
    char done[32];
    uint64_t hash;
    struct err e;
    put(name, CHECKPOINT_STATE, text);
    assert_int_equal(checkpoint_dir_hash(file_of(name, CHECKPOINT_STATE), &hash, &e), 0);
    snprintf(done, sizeof done, "%016llx\n", (unsigned long long)hash);
    put(name, CHECKPOINT_DONE, done);
}

/* A whole checkpoint whose weights are its own name. */
static void make(const char *name)
{
    struct err e;
    char state[64];
    uint64_t hash;
    assert_int_equal(fs_mkdirs(file_of(name, ""), &e), 0);
    put(name, CHECKPOINT_WEIGHTS, name);
    assert_int_equal(checkpoint_dir_hash(file_of(name, CHECKPOINT_WEIGHTS), &hash, &e), 0);
    snprintf(state, sizeof state, "{\"weights_xxh3\": \"%016llx\"}", (unsigned long long)hash);
    put_state(name, state);
}

static bool there(const char *name)
{
    struct stat st;
    return stat(file_of(name, ""), &st) == 0;
}

static void count_refused(void *arg, const char *why)
{
    assert_non_null(strstr(why, "/checkpoints/step-"));
    ++*(unsigned *)arg;
}

static int prune(unsigned newest, uint64_t every, struct err *e)
{
    const struct checkpoint_keep keep = {newest, every};
    return checkpoint_dir_prune(dir, &keep, e);
}

/* What is found, by name, and how many newer ones were passed over. */
static void assert_latest(const char *name, unsigned skipped)
{
    char path[PATH_MAX];
    json_t *j = NULL;
    unsigned n = 0;
    struct err e = {0};
    if (checkpoint_dir_latest(dir, path, &j, count_refused, &n, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(path, file_of(name, ""));
    assert_int_equal(n, skipped);
    assert_non_null(json_object_get(j, "weights_xxh3"));
    json_decref(j);
}

/* A file's hash is XXH3 with seed 0 of its bytes, also of an empty file and of one that needs several reads.
 */
static void hash_is_xxh3_of_the_bytes(void **state)
{
    (void)state;
    char path[96];
    uint64_t hash, again;
    struct err e;
    snprintf(path, sizeof path, "%s/file", dir);
    assert_int_equal(checkpoint_dir_hash(path, &hash, &e), -ENOENT);
    assert_int_equal(fs_write_atomic(path, "", 0, &e), 0);
    assert_int_equal(checkpoint_dir_hash(path, &hash, &e), 0);
    assert_int_equal(hash, 0x2d06800538d394c2u); /* the published value of XXH3_64bits("") */
    size_t size = 3 * 1024 * 1024 + 17;
    char *data = calloc(1, size);
    assert_non_null(data);
    assert_int_equal(fs_write_atomic(path, data, size, &e), 0);
    assert_int_equal(checkpoint_dir_hash(path, &hash, &e), 0);
    data[size - 1] = 1;
    assert_int_equal(fs_write_atomic(path, data, size, &e), 0);
    assert_int_equal(checkpoint_dir_hash(path, &again, &e), 0);
    assert_int_not_equal(hash, again);
    free(data);
}

/* The newest by step, not by the time of writing; other entries beside them do not count. */
static void the_newest_step_is_found(void **state)
{
    (void)state;
    struct err e;
    make("step-000000000200");
    make("step-000000001000");
    make("step-000000000999");
    assert_int_equal(fs_mkdirs(file_of("tmp-000000002000", ""), &e), 0);
    assert_int_equal(fs_mkdirs(file_of("zzz", ""), &e), 0);
    assert_latest("step-000000001000", 0);
}

/* Torn in any way: not found, and counted. */
static void torn_ones_are_passed_over(void **state)
{
    (void)state;
    struct err e;
    make("step-000000000001");
    make("step-000000000002");
    put("step-000000000002", CHECKPOINT_WEIGHTS, "others");
    make("step-000000000003");
    put_state("step-000000000003", "{\"weights_xxh3\": \"zz\"}");
    make("step-000000000004");
    put_state("step-000000000004", "{\"weights_xx");
    make("step-000000000005");
    put_state("step-000000000005", "[1, 2]");
    make("step-000000000006");
    assert_int_equal(unlink(file_of("step-000000000006", CHECKPOINT_DONE)), 0);
    make("step-000000000007");
    assert_int_equal(unlink(file_of("step-000000000007", CHECKPOINT_WEIGHTS)), 0);
    assert_int_equal(fs_mkdirs(file_of("step-000000000008", ""), &e), 0);
    make("step-000000000009");
    put("step-000000000009", CHECKPOINT_DONE, "");
    make("step-000000000010");
    put("step-000000000010", CHECKPOINT_DONE, "0123456789abcdef\n");
    assert_latest("step-000000000001", 9);
}

/* No directory, an empty one, and one with torn ones only: -ENOENT, and the output is no reference. */
static void none_is_enoent(void **state)
{
    (void)state;
    char path[PATH_MAX];
    json_t *j = NULL;
    struct err e = {0};
    assert_int_equal(checkpoint_dir_latest(dir, path, &j, NULL, NULL, &e), -ENOENT);
    assert_int_equal(fs_mkdirs(file_of("step-000000000001", ""), &e), 0);
    assert_int_equal(checkpoint_dir_latest(dir, path, &j, NULL, NULL, &e), -ENOENT);
    assert_non_null(strstr(e.msg, "no whole checkpoint"));
    assert_null(j);
}

/* The newest K whole ones stay; a torn one older than the newest whole one goes, a newer one may be in the
 * making and stays; what is no checkpoint is left alone, but for the leavings of interrupted writes. */
static void prune_keeps_the_newest_whole_ones(void **state)
{
    (void)state;
    struct err e;
    static const char *const whole[] = {"step-000000000001", "step-000000000003", "step-000000000005",
                                        "step-000000000007"};
    for (size_t i = 0; i < 4; i++)
        make(whole[i]);
    assert_int_equal(fs_mkdirs(file_of("step-000000000004", ""), &e), 0);
    assert_int_equal(fs_mkdirs(file_of("step-000000000009", ""), &e), 0);
    assert_int_equal(fs_mkdirs(file_of("tmp-000000000008", "weights"), &e), 0);
    assert_int_equal(fs_mkdirs(file_of("notes", ""), &e), 0);
    if (prune(2, 0, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(there("step-000000000007") && there("step-000000000005"));
    assert_false(there("step-000000000003") || there("step-000000000001") || there("step-000000000004"));
    assert_true(there("step-000000000009") && there("notes"));
    assert_false(there("tmp-000000000008"));
    assert_int_equal(prune(2, 0, &e), 0);
    assert_latest("step-000000000007", 1);
}

/* A complete but altered checkpoint is not a whole one: it does not push one out. */
static void prune_does_not_count_altered_ones(void **state)
{
    (void)state;
    struct err e;
    make("step-000000000001");
    make("step-000000000002");
    make("step-000000000003");
    put("step-000000000003", CHECKPOINT_WEIGHTS, "others");
    make("step-000000000004");
    put("step-000000000004", CHECKPOINT_WEIGHTS, "others");
    assert_int_equal(prune(2, 0, &e), 0);
    assert_true(there("step-000000000001") && there("step-000000000002"));
    assert_latest("step-000000000002", 2);
    make("step-000000000005");
    assert_int_equal(prune(2, 0, &e), 0);
    assert_true(there("step-000000000005") && there("step-000000000002"));
    assert_false(there("step-000000000004") || there("step-000000000003") || there("step-000000000001"));
}

/* Beside the newest, the first of each so many steps stays for good, however often is pruned. */
static void prune_keeps_the_first_of_each_stretch(void **state)
{
    (void)state;
    struct err e;
    char name[32];
    for (unsigned step = 0; step <= 1000; step += 30) {
        snprintf(name, sizeof name, "step-%012u", step);
        make(name);
        assert_int_equal(prune(2, 200, &e), 0);
        assert_true(there(name));
    }
    static const unsigned kept[] = {0, 210, 420, 600, 810, 960, 990};
    for (unsigned step = 0, i = 0; step <= 1000; step += 30) {
        snprintf(name, sizeof name, "step-%012u", step);
        bool keep = i < sizeof kept / sizeof kept[0] && kept[i] == step;
        assert_int_equal(there(name), keep);
        i += keep;
    }
    assert_int_equal(prune(2, 0, &e), 0); /* switched off later */
    assert_false(there("step-000000000810") || there("step-000000000000"));
    assert_true(there("step-000000000960") && there("step-000000000990"));
}

/* One that is torn stands for no stretch: the next one of it does. */
static void prune_keeps_no_torn_first(void **state)
{
    (void)state;
    struct err e;
    make("step-000000000010");
    assert_int_equal(unlink(file_of("step-000000000010", CHECKPOINT_DONE)), 0);
    make("step-000000000020");
    put("step-000000000020", CHECKPOINT_DONE, "0123456789abcdef\n");
    make("step-000000000030");
    make("step-000000000040");
    make("step-000000000110");
    make("step-000000000120");
    assert_int_equal(prune(1, 100, &e), 0);
    assert_false(there("step-000000000010") || there("step-000000000020") || there("step-000000000040"));
    assert_true(there("step-000000000030") && there("step-000000000110") && there("step-000000000120"));
}

/* When not one is whole, nothing is removed. */
static void prune_without_a_whole_one_removes_none(void **state)
{
    (void)state;
    struct err e;
    static const char *const names[] = {"step-000000000001", "step-000000000002", "step-000000000003"};
    for (size_t i = 0; i < 3; i++) {
        make(names[i]);
        put(names[i], CHECKPOINT_WEIGHTS, "others");
    }
    assert_int_equal(prune(1, 2, &e), 0);
    assert_true(there(names[0]) && there(names[1]) && there(names[2]));
}

/* verify says what is wrong with one that is not whole. */
static void verify_names_the_file(void **state)
{
    (void)state;
    struct err e = {0};
    make("step-000000000001");
    const char *path = file_of("step-000000000001", "");
    char one[PATH_MAX];
    snprintf(one, sizeof one, "%s", path);
    assert_int_equal(checkpoint_dir_verify(one, &e), 0);
    put("step-000000000001", CHECKPOINT_WEIGHTS, "step-000000000002");
    assert_int_equal(checkpoint_dir_verify(one, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, CHECKPOINT_WEIGHTS " is altered"));
    assert_int_equal(unlink(file_of("step-000000000001", CHECKPOINT_WEIGHTS)), 0);
    assert_int_equal(checkpoint_dir_verify(one, &e), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hash_is_xxh3_of_the_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_step_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(torn_ones_are_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(none_is_enoent, setup, teardown),
        cmocka_unit_test_setup_teardown(prune_keeps_the_newest_whole_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(prune_does_not_count_altered_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(prune_keeps_the_first_of_each_stretch, setup, teardown),
        cmocka_unit_test_setup_teardown(prune_keeps_no_torn_first, setup, teardown),
        cmocka_unit_test_setup_teardown(prune_without_a_whole_one_removes_none, setup, teardown),
        cmocka_unit_test_setup_teardown(verify_names_the_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
