/* quarantine: a clip is in it once with its first reason, sorted whatever the order, and goes through JSON
 * unharmed. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/clip.h"
#include "lib/fsutil.h"
#include "lib/media/codes.h"
#include "services/trainer/quarantine.h"

enum { CLIPS = 1000 };

/* Adds 0, 3, 6, ... in a shuffled order, each with a reason of its own. */
static void fill(struct quarantine *q, uint64_t key)
{
    struct clip_order order;
    clip_order_init(&order, key, CLIPS);
    for (uint64_t i = 0; i < CLIPS; i++) {
        uint64_t clip = clip_order_at(&order, i);
        assert_int_equal(quarantine_add(q, clip * 3, 1 + (uint32_t)clip % 7), 1);
    }
}

/* Added in any order, found by clip, absent between, sorted inside. */
static void added_clips_are_found(void **state)
{
    (void)state;
    struct quarantine q;
    quarantine_init(&q);
    assert_int_equal(quarantine_reason(&q, 0), 0);
    fill(&q, 17);
    assert_int_equal(quarantine_count(&q), CLIPS);
    for (uint64_t clip = 0; clip < 3 * CLIPS + 5; clip++)
        assert_int_equal(quarantine_reason(&q, clip),
                         clip % 3 == 0 && clip < 3 * CLIPS ? 1 + clip / 3 % 7 : 0);
    for (size_t i = 1; i < q.n; i++)
        assert_true(q.entries[i - 1].clip < q.entries[i].clip);
    quarantine_close(&q);
}

/* The second reason of a clip is not taken: the first one counts and the clip is counted once. */
static void the_first_reason_stays(void **state)
{
    (void)state;
    struct quarantine q;
    quarantine_init(&q);
    assert_int_equal(quarantine_add(&q, 9, 4), 1);
    assert_int_equal(quarantine_add(&q, 9, 5), 0);
    assert_int_equal(quarantine_reason(&q, 9), 4);
    assert_int_equal(quarantine_count(&q), 1);
    quarantine_close(&q);
}

/* Two fillings in different orders give the same JSON text, and it restores the same contents over older
 * ones. */
static void json_brings_it_back(void **state)
{
    (void)state;
    struct quarantine a, b;
    struct err e;
    quarantine_init(&a);
    quarantine_init(&b);
    fill(&a, 1);
    fill(&b, 2);
    json_t *ja = quarantine_to_json(&a), *jb = quarantine_to_json(&b);
    assert_int_equal(json_array_size(ja), CLIPS);
    assert_true(json_equal(ja, jb));
    struct quarantine c;
    quarantine_init(&c);
    assert_int_equal(quarantine_add(&c, 1, 2), 1);
    assert_int_equal(quarantine_from_json(&c, ja, &e), 0);
    assert_int_equal(c.n, a.n);
    for (size_t i = 0; i < c.n; i++)
        assert_true(c.entries[i].clip == a.entries[i].clip && c.entries[i].reason == a.entries[i].reason);
    json_decref(ja);
    json_decref(jb);
    quarantine_close(&a);
    quarantine_close(&b);
    quarantine_close(&c);
}

/* What is not a list of pairs of numbers is refused, and the entry is named. */
static void wrong_json_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"{}", "not a list"}, {"[[1, 2], 3]", "entry 1"}, {"[[1]]", "entry 0"}, {"[[\"a\", 2]]", "entry 0"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct quarantine q;
        struct err e = {0};
        quarantine_init(&q);
        json_t *j = json_loads(rows[i].text, 0, NULL);
        assert_int_equal(quarantine_from_json(&q, j, &e), XDC_EFORMAT);
        assert_non_null(strstr(e.msg, rows[i].says));
        assert_int_equal(quarantine_from_json(&q, NULL, &e), XDC_EFORMAT);
        json_decref(j);
        quarantine_close(&q);
    }
}

static void *add_all(void *arg)
{
    for (uint64_t clip = 0; clip < CLIPS; clip++)
        if (quarantine_add(arg, clip, 3) != 1)
            return arg;
    return NULL;
}

/* One thread adds while another asks: a clip that is seen once stays seen. */
static void readers_run_beside_the_writer(void **state)
{
    (void)state;
    struct quarantine q;
    pthread_t writer;
    void *failed;
    quarantine_init(&q);
    assert_int_equal(pthread_create(&writer, NULL, add_all, &q), 0);
    for (size_t n = 0; n < CLIPS;) {
        size_t now = quarantine_count(&q);
        assert_true(now >= n);
        n = now;
        if (n > 0)
            assert_int_equal(quarantine_reason(&q, n - 1), 3);
    }
    assert_int_equal(pthread_join(writer, &failed), 0);
    assert_null(failed);
    quarantine_close(&q);
}

/* Writes a doctor's list of videos 2, 5, 6 and 9 and their codes. */
static void write_list(const char *path, uint64_t manifest)
{
    struct quarantined_video v[] = {{.video = 2, .code = MEDIA_TRUNCATED},
                                    {.video = 5, .code = MEDIA_NO_AUDIO},
                                    {.video = 6, .code = MEDIA_NO_VIDEO},
                                    {.video = 9, .code = MEDIA_AUDIO_NONFINITE}};
    struct quarantine_list list = {.manifest = manifest, .videos = v, .n = 4};
    assert_int_equal(quarantine_file_write(path, &list, NULL), 0);
}

/* What the doctor found keeps all clips of a video out, as far as the run needs what is wrong with it; the
 * run's own count does not rise. */
static void doctors_videos_count_by_needs(void **state)
{
    (void)state;
    char dir[] = "/tmp/xdc-quarantine-XXXXXX", manifest[64], path[96];
    assert_non_null(mkdtemp(dir));
    snprintf(manifest, sizeof manifest, "%s/m.lmdb", dir);
    snprintf(path, sizeof path, "%s.quarantine", manifest);
    write_list(path, 77);
    static const struct {
        struct quarantine_needs needs;
        uint32_t code[4]; /* of videos 2, 5, 6, 9 */
    } cases[] = {
        {{true, true, false}, {MEDIA_TRUNCATED, MEDIA_NO_AUDIO, MEDIA_NO_VIDEO, MEDIA_AUDIO_NONFINITE}},
        {{true, true, true}, {MEDIA_TRUNCATED, 0, MEDIA_NO_VIDEO, MEDIA_AUDIO_NONFINITE}},
        {{true, false, false}, {MEDIA_TRUNCATED, 0, MEDIA_NO_VIDEO, 0}},
        {{false, true, false}, {MEDIA_TRUNCATED, MEDIA_NO_AUDIO, 0, MEDIA_AUDIO_NONFINITE}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct quarantine q;
        struct err e;
        quarantine_init(&q);
        assert_int_equal(quarantine_take_videos(&q, dir, manifest, 77, true, &cases[i].needs, 3, &e), 0);
        for (uint64_t clip = 0; clip < 40; clip++) {
            static const int at[] = {-1, -1, 0, -1, -1, 1, 2, -1, -1, 3, -1, -1, -1, -1};
            assert_int_equal(quarantine_reason(&q, clip), at[clip / 3] < 0 ? 0 : cases[i].code[at[clip / 3]]);
        }
        assert_int_equal(quarantine_count(&q), 0);
        quarantine_close(&q);
    }
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
}

/* A run that goes on sees the list that it began with, or none, whatever the doctor has found since; one of
 * another manifest is refused by name. */
static void a_run_keeps_its_list(void **state)
{
    (void)state;
    char dir[] = "/tmp/xdc-quarantine-XXXXXX", manifest[64], path[96], run[64];
    assert_non_null(mkdtemp(dir));
    snprintf(manifest, sizeof manifest, "%s/m.lmdb", dir);
    snprintf(path, sizeof path, "%s.quarantine", manifest);
    struct quarantine_needs needs = {.video = true, .audio = true};
    for (int had_one = 0; had_one < 2; had_one++) {
        struct quarantine q;
        struct err e;
        snprintf(run, sizeof run, "%s/run-%d", dir, had_one);
        assert_int_equal(fs_mkdirs(run, &e), 0);
        unlink(path);
        if (had_one)
            write_list(path, 77);
        for (int again = 0; again < 2; again++) {
            quarantine_init(&q);
            assert_int_equal(quarantine_take_videos(&q, run, manifest, 77, !again, &needs, 1, &e), 0);
            assert_int_equal(q.n_videos, had_one ? 4 : 0);
            quarantine_close(&q);
            if (had_one)
                assert_int_equal(unlink(path), again ? -1 : 0);
            else
                write_list(path, 77);
        }
    }
    struct quarantine q;
    struct err e;
    quarantine_init(&q);
    write_list(path, 78);
    assert_int_equal(quarantine_take_videos(&q, run, manifest, 77, true, &needs, 1, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "m.lmdb.quarantine is of another manifest"));
    assert_int_equal(fs_write_atomic(path, "XDCQUAR\n and nonsense", 21, &e), 0);
    assert_int_equal(quarantine_take_videos(&q, run, manifest, 77, true, &needs, 1, &e), XDC_EFORMAT);
    quarantine_close(&q);
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(added_clips_are_found),         cmocka_unit_test(the_first_reason_stays),
        cmocka_unit_test(json_brings_it_back),           cmocka_unit_test(wrong_json_is_refused),
        cmocka_unit_test(readers_run_beside_the_writer), cmocka_unit_test(doctors_videos_count_by_needs),
        cmocka_unit_test(a_run_keeps_its_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
