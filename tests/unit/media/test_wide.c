/* Wide clips: the view that is cut from one is the view that a decoding makes, whatever the recipe, and what
 * is no wide clip is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "lib/media/session.h"
#include "lib/media/synth.h"
#include "lib/media/wide.h"
#include "lib/rng.h"
#include "make_media.h"

#define P 24
#define T 6
#define JITTER_PX 5
#define SHIFT_S 0.3

static uint8_t slot[1 << 20];
static struct media_result result, answers[MEDIA_CLIPS_MAX]; /* the last one, and all of a job */
static unsigned n_answers;

static bool on_answer(void *arg, const struct media_result *r)
{
    (void)arg;
    assert_true(n_answers < MEDIA_CLIPS_MAX);
    result = answers[n_answers++] = *r;
    return true;
}

static double chirp(int n, int channel)
{
    (void)channel;
    return 0.4 * sin(1e-5 * n * n) + 0.1 * sin(n * 0.7);
}

static void run(struct media_session *s, const struct media_job *job, int fd)
{
    memset(slot, 0xee, sizeof slot);
    memset(&result, 0, sizeof result);
    n_answers = 0;
    media_session_run(s, job, fd, slot, sizeof slot, on_answer, NULL);
}

/* A file of the parts, one behind the other, and the job that cuts from it. */
static int save_parts(const struct media_job *kept, struct media_job *cut)
{
    char path[128];
    uint64_t at = 64; /* a window at 0 would be all of the file */
    int fd = open(media_path(path, "wide"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    *cut = *kept;
    cut->keep = false;
    cut->kind = MEDIA_JOB_CUT;
    for (int part = 0; part < MEDIA_PARTS; part++) {
        uint64_t n = result.wide_bytes[part];
        assert_int_equal(pwrite(fd, slot + media_wide_offset(kept, 0, part), n, (off_t)at), n);
        cut->wide[part] = (struct media_window){.offset = at, .bytes = n};
        at += n;
    }
    return fd;
}

static struct media_job decode_job(double start_s)
{
    return (struct media_job){
        .kind = MEDIA_JOB_DECODE,
        .id = 9,
        .video_stream = -1,
        .audio_stream = -1,
        .clips = 1,
        .clip = {{.start_s = start_s, .key_pos = -1}},

        .recipe = {
            .frames = T, .fps = 10, .resize_min = 32, .resize_max = 32, .crop = P, .want_video = true}};
}

static const struct make_media kinds[] = {
    {.path = "a.mov", .frames = 50, .fps = 10, .video_codec = "libx264", .audio_s = 5, .sample = chirp},
    {.path = "b.avi", .frames = 12, .fps = 10, .audio_s = 1.2, .sample = chirp},
    {.path = "c.mov", .frames = 50, .fps = 10, .video_codec = "libx264", .degrees = 90, .width = 96},
    {.path = "e.mkv",
     .frames = 50,
     .fps = 10,
     .video_codec = "libx264",
     .rate = 44100,
     .audio_s = 5,
     .audio_codec = AV_CODEC_ID_VORBIS, /* and time stamps of whole milliseconds */
     .sample = chirp},
    {.path = "wide.mov", .frames = 40, .fps = 10, .width = 160, .audio_s = 4, .sample = chirp},
    {.path = "d.mov", .frames = 30, .fps = 10, .start_ms = 700, .audio_s = 2.5, .sample = chirp},
};
#define KINDS (sizeof kinds / sizeof kinds[0])
#define SYNTHS 4 /* pictures with something in them, and AAC, whose noise depends on where decoding began */
#define FILES (KINDS + SYNTHS)

/* Makes file i, whose path goes to out; true: it has sound. */
static bool make_file(size_t i, char out[128])
{
    char name[32];
    if (i < KINDS) {
        struct make_media m = kinds[i];
        m.path = media_path(out, m.path);
        make_media(&m);
        return m.audio_s > 0;
    }
    struct synth_clip c;
    struct err e = {0};
    synth_clip_init(&c, 3, i, 8);
    snprintf(name, sizeof name, "synth-%zu.mp4", i);
    if (synth_write(&c, media_path(out, name), &e))
        fail_msg("%s", e.msg);
    return true;
}

static struct media_job draw_job(struct rng *g, bool sound)
{
    struct media_job job = decode_job(rng_uniform(g) * 4);
    struct media_recipe *q = &job.recipe;
    q->fps = rng_below(g, 3) ? 10 : 0;
    q->augment = rng_below(g, 4) > 0;
    q->crop = rng_below(g, 2) ? P : 36; /* larger than the picture, too */
    q->crop_jitter_px = rng_below(g, 2) ? (int32_t)rng_below(g, JITTER_PX + 1) : -1;
    q->flip_probability = 0.5;
    q->audio_shift_s = SHIFT_S * rng_uniform(g);
    q->time_mask_frames = 20;
    q->scaling = rng_below(g, 2) ? MEDIA_SCALING_FAST : MEDIA_SCALING_EXACT;
    q->degrade = rng_below(g, 3) ? 0 : 4;
    q->short_clip = (uint32_t)rng_below(g, 3);
    q->keep_silent = rng_below(g, 2);
    q->want_audio = sound || q->keep_silent;
    q->want_video = !sound || rng_below(g, 4) > 0;
    return job;
}

static void assert_same(const char *what, const char *path, int i, const struct media_result *want)
{
    if (result.reason != want->reason || result.flags != want->flags || result.hash != want->hash ||
        result.video_bytes != want->video_bytes || result.audio_bytes != want->audio_bytes ||
        result.video_offset != want->video_offset || strcmp(result.detail, want->detail) != 0)
        fail_msg("%s, view %d: %s: %s (flags %u) instead of %s (flags %u)", path, i, what,
                 media_code_name(result.reason), result.flags, media_code_name(want->reason), want->flags);
}

/* Four views of each clip: the one that the wide clip was made with, and others. */
static void test_views_are_those_of_a_decoding(void **state)
{
    (void)state;
    struct media_session *s = NULL;
    struct rng g;
    unsigned good = 0, reasons = 0, too_long = 0;
    char paths[FILES][128];
    bool sound[FILES];
    for (size_t i = 0; i < FILES; i++)
        sound[i] = make_file(i, paths[i]);
    assert_int_equal(media_session_create(&s, &(struct err){0}), 0);
    rng_init(&g, 5);
    for (int i = 0; i < 160; i++) {
        const char *path = paths[i % FILES];
        struct media_job direct = draw_job(&g, sound[i % FILES]), kept = direct, cut;
        int file = open_media(path), wide = -1;
        for (int view = 0; view < 4; view++) {
            direct.clip[0].augment_seed = kept.clip[0].augment_seed = rng_next(&g);
            run(s, &direct, file);
            struct media_result want = result;

            kept.keep = true;
            run(s, &kept, file);
            assert_same("kept", path, i, &want);
            want = result;
            if (wide < 0)
                wide = save_parts(&kept, &cut);
            const struct media_recipe *q = &kept.recipe;
            bool there = (!q->want_video || want.wide_bytes[MEDIA_PART_VIDEO]) &&
                         (!q->want_audio || want.wide_bytes[MEDIA_PART_AUDIO]);
            if (!there) {
                reasons += want.reason != 0;
                too_long += want.reason == 0;
                assert_true(want.reason || strstr(path, "wide.mov"));
                break;
            }
            cut.clip[0].augment_seed = direct.clip[0].augment_seed;
            run(s, &cut, wide);
            assert_same("cut", path, i, &want);
            good += !want.reason;
        }
        if (wide >= 0)
            close(wide);
        close(file);
    }
    print_message("%u views, %u clips without, %u that are too long\n", good, reasons, too_long);
    assert_true(good > 500 && reasons > 2 && too_long > 2);
    media_session_destroy(s);
}

/* Two streams of two seconds, the second one with other pictures, in one file. */
static void make_change(char out[128])
{
    static const int widths[] = {64, 128};
    FILE *to = fopen(media_path(out, "change.ts"), "wb");
    assert_non_null(to);
    for (int i = 0; i < 2; i++) {
        char path[128];
        uint8_t bytes[4096];
        make_media(&(struct make_media){.path = media_path(path, "half.ts"),
                                        .frames = 20,
                                        .fps = 10,
                                        .video_codec = "libx264",
                                        .gop = 10,
                                        .width = widths[i],
                                        .start_ms = 2000 * i});
        FILE *from = fopen(path, "rb");
        assert_non_null(from);
        for (size_t n; (n = fread(bytes, 1, sizeof bytes, from)) > 0;)
            assert_int_equal(fwrite(bytes, 1, n, to), n);
        fclose(from);
    }
    fclose(to);
}

/* Of a video whose pictures change their size there are wide clips where they do not, and views everywhere.
 */
static void test_pictures_of_several_sizes(void **state)
{
    (void)state;
    struct media_session *s = NULL;
    unsigned kept = 0, changed = 0;
    char path[128];
    make_change(path);
    assert_int_equal(media_session_create(&s, &(struct err){0}), 0);
    int file = open_media(path);
    for (int i = 0; i < 20; i++) {
        struct media_job job = decode_job(0.15 * i);
        job.recipe.augment = true;
        job.recipe.crop_jitter_px = JITTER_PX;
        run(s, &job, file);
        struct media_result want = result;
        assert_int_equal(want.reason, MEDIA_OK);
        job.keep = true;
        run(s, &job, file);
        assert_same("change", path, i, &want);
        kept += result.wide_bytes[MEDIA_PART_VIDEO] > 0;
        changed += result.wide_bytes[MEDIA_PART_VIDEO] == 0;
    }
    assert_true(kept >= 8 && changed >= 4);
    struct media_job all = decode_job(0), one;
    all.keep = true;
    all.clips = 5;
    for (uint32_t i = 0; i < all.clips; i++)
        all.clip[i] = (struct media_clip){.start_s = 1.3 + 0.1 * i, .key_pos = -1};
    run(s, &all, file);
    assert_int_equal(n_answers, all.clips);
    for (uint32_t i = 0; i < all.clips; i++) {
        struct media_result want = answers[i];
        n_answers = 0;
        one = decode_job(all.clip[i].start_s);
        one.keep = true;
        media_session_run(s, &one, file, slot, sizeof slot, on_answer, NULL);
        assert_true(result.hash == want.hash && want.reason == MEDIA_OK);
        assert_true(result.wide_bytes[MEDIA_PART_VIDEO] == want.wide_bytes[MEDIA_PART_VIDEO]);
    }
    close(file);
    media_session_destroy(s);
}

static void refuse(struct media_session *s, const char *what, const struct media_job *job, int fd)
{
    run(s, job, fd);
    if (result.reason != MEDIA_DECODE_ERROR || !result.detail[0] || result.audio_bytes)
        fail_msg("%s: %s: %s", what, media_code_name(result.reason), result.detail);
}

/* A worker that a file has taken over may leave anything behind: heads that lie, and less than they say. */
static void test_lies(void **state)
{
    (void)state;
    struct media_session *s = NULL;
    struct make_media m = kinds[0];
    char path[128];
    m.path = media_path(path, m.path);
    make_media(&m);
    assert_int_equal(media_session_create(&s, &(struct err){0}), 0);
    struct media_job kept = decode_job(1), cut, lie;
    kept.recipe.want_audio = kept.keep = true;
    int file = open_media(path);
    run(s, &kept, file);
    int fd = save_parts(&kept, &cut);
    run(s, &cut, fd);
    assert_int_equal(result.reason, MEDIA_OK);
    for (int part = 0; part < MEDIA_PARTS; part++) {
        lie = cut;
        lie.wide[part].bytes = 1;
        refuse(s, "no head", &lie, fd);
        lie.wide[part].bytes = 1 << 29;
        refuse(s, "more than a clip", &lie, fd);
        lie = cut;
        lie.wide[part].offset = 1 << 24;
        refuse(s, "behind the end", &lie, fd);
    }
    lie = cut;
    lie.wide[MEDIA_PART_VIDEO].bytes -= 1;
    refuse(s, "fewer frames", &lie, fd);
    lie = cut;
    lie.clip[0].start_s = 3;
    refuse(s, "sound of another time", &lie, fd);
    static const uint64_t noise[] = {UINT64_MAX,
                                     INT64_MAX,
                                     UINT64_C(1) << 63,
                                     0x7ff0000000000000 /* infinity */,
                                     0x7ff8000000000000 /* not a number */,
                                     0x7fffffff00000001};
    for (int part = 0; part < MEDIA_PARTS; part++)
        for (int at = 0; at < 64; at += 8)
            for (size_t i = 0; i < sizeof noise / sizeof noise[0]; i++) {
                uint64_t old;
                off_t place = (off_t)cut.wide[part].offset + at;
                assert_int_equal(pread(fd, &old, sizeof old, place), sizeof old);
                assert_int_equal(pwrite(fd, &noise[i], sizeof old, place), sizeof old);
                run(s, &cut,
                    fd); /* what the sanitizers watch; with a wrong time there may still be a sample */
                assert_true(result.reason == MEDIA_OK || result.detail[0]);
                assert_int_equal(pwrite(fd, &old, sizeof old, place), sizeof old);
            }
    run(s, &cut, fd);
    assert_int_equal(result.reason, MEDIA_OK);
    close(fd);
    close(file);
    media_session_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_views_are_those_of_a_decoding),
                                       cmocka_unit_test(test_pictures_of_several_sizes),

                                       cmocka_unit_test(test_lies)};
    return cmocka_run_group_tests(tests, media_dir_setup, media_dir_teardown);
}
