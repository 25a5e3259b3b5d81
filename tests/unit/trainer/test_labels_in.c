/* labels_in: a table file is taken when it is the run's own, and refused with what differs and both values
 * when it is not. */
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
#include "services/trainer/labels_in.h"
#include "services/trainer/trainer.h"

enum { CLIPS = 12, ROUND = 3, K = 4 };

static const struct label_info right = {.run = 0x11,
                                        .manifest = 0x22,
                                        .features = 0x33,
                                        .clips = CLIPS,
                                        .round = ROUND,
                                        .sources = 2,
                                        .source = {{"video", K}, {"audio", K}}};

struct place {
    struct trainer t;
    char path[96]; /* of the table */
};

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    struct err e;
    char labels[80];
    strcpy(p->t.conf.run.dir, "/tmp/xdc-test-labels-in-XXXXXX");
    assert_non_null(mkdtemp(p->t.conf.run.dir));
    snprintf(labels, sizeof labels, "%.40s/labels", p->t.conf.run.dir);
    assert_int_equal(fs_mkdirs(labels, &e), 0);
    snprintf(p->path, sizeof p->path, "%s/round-%04d.xdcl", labels, ROUND);
    p->t.run = right.run;
    p->t.manifest_id = right.manifest;
    p->t.conf.cluster.k = K;
    p->t.set = (struct clip_set){.videos = CLIPS / 2, .clips_per_video = 2};
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    int rc = fs_remove_tree(p->t.conf.run.dir, NULL);
    free(p);
    return rc;
}

static uint64_t write_table(const struct place *p, const struct label_info *info)
{
    static const uint32_t labels[CLIPS + 1] = {0, 1, 2, 3, 0, 1, 2, 3, 0, LABEL_NONE, 2, 3, 1};
    const uint32_t *const all[] = {labels, labels};
    struct err e = {0};
    uint64_t hash;
    if (label_table_write(p->path, info, all, "{}", &hash, &e) < 0)
        fail_msg("%s", e.msg);
    return hash;
}

/* The run's own table is opened, with its hash and without one to compare with. */
static void the_right_one_is_taken(void **state)
{
    const struct place *p = *state;
    uint64_t hash = write_table(p, &right);
    for (unsigned i = 0; i < 2; i++) {
        struct label_table *t = NULL;
        struct err e = {0};
        if (labels_in_table(&p->t, ROUND, right.features, i ? hash : 0, &t, &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(label_table_get(t, 1, 3), 3);
        assert_int_equal(label_table_get(t, 0, 9), LABEL_NONE);
        label_table_close(t);
    }
}

/* One field at a time is another: refused, by that field's name with what is there and what was expected. */
static void what_differs_is_named(void **state)
{
    const struct place *p = *state;
    struct {
        struct label_info info;
        uint64_t hash;
        const char *said;
    } rows[] = {
        {right, 0, "is of another manifest: 0000000000000023, expected 0000000000000022"},
        {right, 0, "is of another run: 0000000000000012, expected 0000000000000011"},
        {right, 0, "is of another round: 4, expected 3"},
        {right, 0, "is of another feature dump: 0000000000000034, expected 0000000000000033"},
        {right, 0, "is of another number of clips: 13, expected 12"},
        {right, 0, "is of another number of clips: 11, expected 12"},
        {right, 0, "is of another k: source audio has 5 classes, cluster.k is 4"},
        {right, 0, "is of another k: source video has 70000 classes, cluster.k is 4"},
        {right, 0x44, "is of another hash than the clusterer's table: "},
    };
    rows[0].info.manifest++;
    rows[1].info.run++;
    rows[2].info.round++;
    rows[3].info.features++;
    rows[4].info.clips++;
    rows[5].info.clips--;
    rows[6].info.source[1].k++;
    rows[7].info.source[0].k = 70000;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct label_table *t = NULL;
        struct err e = {0};
        write_table(p, &rows[i].info);
        assert_int_equal(labels_in_table(&p->t, ROUND, right.features, rows[i].hash, &t, &e), XDC_EMISMATCH);
        assert_null(t);
        if (!strstr(e.msg, rows[i].said) || !strstr(e.msg, p->path))
            fail_msg("'%s' is not in '%s'", rows[i].said, e.msg);
    }
    struct err e = {0};
    struct label_table *t = NULL;
    assert_int_equal(labels_in_table(&p->t, ROUND, right.features, 0x44, &t, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "expected 0000000000000044"));
}

/* No file is none yet; one in which a byte is another is no table. */
static void absent_and_altered_ones(void **state)
{
    const struct place *p = *state;
    struct label_table *t = NULL;
    struct err e = {0};
    assert_int_equal(labels_in_table(&p->t, ROUND, right.features, 0, &t, &e), -ENOENT);
    write_table(p, &right);
    FILE *f = fopen(p->path, "r+");
    assert_int_equal(fseek(f, -20, SEEK_END), 0);
    int byte = fgetc(f);
    assert_int_equal(fseek(f, -20, SEEK_END), 0);
    assert_int_equal(fputc(byte ^ 1, f), byte ^ 1);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(labels_in_table(&p->t, ROUND, right.features, 0, &t, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "altered"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_right_one_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(what_differs_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(absent_and_altered_ones, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
