/* run_set: data.split chooses the videos of a run by the manifest's splits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/fsutil.h"
#include "services/trainer/run_set.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-run-set-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

/* A manifest of videos with these splits: "-tve" for none, train, val, test. */
static struct manifest *manifest_of(const char *splits)
{
    static const char letters[] = "-tve";
    char path[128];
    struct manifest *m;
    struct err e;
    snprintf(path, sizeof path, "%s/m.lmdb", dir);
    remove(path);
    assert_int_equal(manifest_create(path, dir, &m, &e), 0);
    for (size_t i = 0; splits[i]; i++) {
        struct manifest_video v = {
            .size_bytes = 1, .duration_s = 1, .video_stream = 0, .audio_stream = 1, .truth = -1};
        snprintf(v.uri, sizeof v.uri, "%zu.mp4", i);
        v.split = (enum manifest_split)(strchr(letters, splits[i]) - letters);
        assert_int_equal(manifest_append(m, &v, &e), 0);
    }
    assert_int_equal(manifest_commit(m, &e), 0);
    return m;
}

/* Each choice against manifests with all splits, without any, and without the one that is asked for; `has`
 * marks the videos of the set, NULL: refused with `sentence`. */
static void the_split_chooses(void **state)
{
    (void)state;
    static const struct {
        const char *splits;
        enum conf_split split;
        const char *has, *sentence;
    } rows[] = {
        {"tve-tt", SPLIT_AUTO, "x...xx", NULL},
        {"tve-tt", SPLIT_TRAIN, "x...xx", NULL},
        {"tve-tt", SPLIT_VAL, ".x....", NULL},
        {"tve-tt", SPLIT_TEST, "..x...", NULL},
        {"tve-tt", SPLIT_ALL, "xxxxxx", NULL},
        {"----", SPLIT_AUTO, "xxxx", NULL},
        {"----", SPLIT_ALL, "xxxx", NULL},
        {"----", SPLIT_TRAIN, NULL, "no video with split train"},
        {"--v-", SPLIT_AUTO, NULL, "no video with split train"},
        {"--v-", SPLIT_TEST, NULL, "no video with split test"},
        {"--v-", SPLIT_VAL, "..x.", NULL},
        {"", SPLIT_AUTO, NULL, "no video"},
        {"", SPLIT_ALL, NULL, "no video"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct manifest *m = manifest_of(rows[i].splits);
        struct clip_set set;
        struct err e;
        size_t n = strlen(rows[i].splits), members = 0;
        assert_int_equal(clip_set_init(&set, n, 2, &e), 0);
        int rc = run_set_fill(&set, m, rows[i].split, &e);
        assert_int_equal(rc, rows[i].has ? 0 : XDC_ECONF);
        if (!rows[i].has)
            assert_string_equal(e.msg, rows[i].sentence);
        for (size_t v = 0; rows[i].has && v < n; v++) {
            assert_int_equal(clip_set_has(&set, v), rows[i].has[v] == 'x');
            members += rows[i].has[v] == 'x';
        }
        if (rows[i].has)
            assert_int_equal(clip_set_size(&set), 2 * members);
        clip_set_close(&set);
        manifest_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_split_chooses)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
