/* Jobs in a row: what a session keeps must not show, several clips of a file are those clips one by one, and
 * clips that are longer than their video follow the recipe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "lib/media/session.h"
#include "make_media.h"

#define P 16
#define T 8
#define SLOT (MEDIA_CLIPS_MAX * (64u << 10))

static uint8_t slot[SLOT];
static struct media_result results[MEDIA_CLIPS_MAX];
static unsigned n_results;

static bool on_answer(void *arg, const struct media_result *r)
{
    (void)arg;
    assert_true(n_results < MEDIA_CLIPS_MAX);
    results[n_results++] = *r;
    return true;
}

static double tone(int n, int channel)
{
    (void)channel;
    return 0.3 * sin(2 * M_PI * 440 * n / 16000.0);
}

static struct media_job clips_at(const double *starts, uint32_t n)
{
    struct media_job job = {
        .kind = MEDIA_JOB_DECODE,
        .id = 5,
        .video_stream = -1,
        .audio_stream = -1,
        .recipe = {.frames = T, .fps = 10, .resize_min = P, .resize_max = P, .crop = P, .want_video = true}};
    job.clips = n;
    for (uint32_t i = 0; i < n; i++)
        job.clip[i] = (struct media_clip){.start_s = starts[i], .augment_seed = i, .key_pos = -1};
    return job;
}

static struct media_session *new_session(void)
{
    struct media_session *s = NULL;
    struct err e = {0};
    assert_int_equal(media_session_create(&s, &e), 0);
    return s;
}

static void run(struct media_session *s, const struct media_job *job, const char *path)
{
    int fd = open_media(path);
    n_results = 0;
    memset(slot, 0xee, sizeof slot);
    media_session_run(s, job, fd, slot, sizeof slot, on_answer, NULL);
    close(fd);
}

static uint64_t hash_of(struct media_session *s, const struct media_job *job, const char *path)
{
    run(s, job, path);
    assert_int_equal(n_results, 1);
    if (results[0].reason)
        fail_msg("%s: %s: %s", path, media_code_name(results[0].reason), results[0].detail);
    return results[0].hash;
}

static const struct make_media kinds[] = {
    {.path = "a.mov", .frames = 50, .fps = 10, .video_codec = "libx264", .audio_s = 5, .sample = tone},
    {.path = "b.mov",
     .frames = 50,
     .fps = 10,
     .video_codec = "libx264",
     .gop = 5,
     .audio_s = 5,
     .sample = tone},
    {.path = "c.mkv",
     .frames = 40,
     .fps = 10,
     .video_codec = "libx264",
     .width = 96,
     .audio_s = 4,
     .sample = tone},
    {.path = "d.avi", .frames = 50, .fps = 10},
    {.path = "e.mov", .frames = 50, .fps = 10, .gop = 1, .degrees = 90},
    {.path = "f.mov",
     .frames = 50,
     .fps = 10,
     .video_codec = "libx264",
     .start_ms = 700,
     .audio_s = 5,
     .sample = tone},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

static void make_kinds(char paths[KINDS][128])
{
    for (size_t i = 0; i < KINDS; i++) {
        struct make_media m = kinds[i];
        m.path = media_path(paths[i], m.path);
        make_media(&m);
    }
}

/* In any order of files, places, modes and modalities, a session that has seen others gives the bytes that a
 * new one gives. */
static void test_history_does_not_show(void **state)
{
    (void)state;
    char paths[KINDS][128];
    make_kinds(paths);
    struct media_session *kept = new_session();
    uint32_t x = 12345;
    for (int i = 0; i < 120; i++) {
        x = 1664525u * x + 1013904223u;
        size_t file = (x >> 24) % KINDS;
        double start = ((x >> 12) & 0xfff) / 1200.0;
        struct media_job job = clips_at(&start, 1);
        job.recipe.fps = (x >> 5) % 3 ? 10 : 0;
        job.recipe.scaling = (x >> 7) & 1 ? MEDIA_SCALING_FAST : MEDIA_SCALING_EXACT;
        job.recipe.augment = (x >> 8) & 1;
        job.recipe.resize_max = P + 9;
        job.recipe.crop_jitter_px = -1;
        job.recipe.want_audio = kinds[file].audio_s > 0 && ((x >> 9) & 1);
        uint64_t got = hash_of(kept, &job, paths[file]);
        struct media_session *fresh = new_session();
        assert_true(got == hash_of(fresh, &job, paths[file]));
        media_session_destroy(fresh);
    }
    media_session_destroy(kept);
}

/* Several clips of one job, close together, apart, the same twice, out of order and past the end, are the
 * clips that jobs of their own give, answered in order, each in its part of the slot. */
static void test_several_clips(void **state)
{
    (void)state;
    static const double starts[] = {0.31, 0.35, 0.35, 0.9, 2.2, 3.9, 1.1, 1.15, 4.9, 0};
    const uint32_t n = sizeof starts / sizeof starts[0];
    char paths[KINDS][128];
    make_kinds(paths);
    struct media_session *s = new_session();
    for (size_t f = 0; f < KINDS; f++) {
        struct media_job all = clips_at(starts, n);
        all.recipe.want_audio = kinds[f].audio_s > 0;
        uint64_t hashes[sizeof starts / sizeof starts[0]];
        uint64_t part = media_slot_bytes(&all.recipe);
        run(s, &all, paths[f]);
        assert_int_equal(n_results, n);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(results[i].clip, i);
            assert_int_equal(results[i].id, 5);
            assert_int_equal(results[i].reason, 0);
            assert_true(results[i].video_offset == i * part);
            assert_true(!all.recipe.want_audio ||
                        results[i].audio_offset + results[i].audio_bytes <= (i + 1) * part);
            hashes[i] = results[i].hash;
        }
        for (uint32_t i = 0; i < n; i++) {
            struct media_job one = clips_at(&starts[i], 1);
            one.recipe.want_audio = all.recipe.want_audio;
            assert_true(hash_of(s, &one, paths[f]) == hashes[i]);
        }
    }
    media_session_destroy(s);
}

/* A file that cannot be used at all is the answer to each of its clips. */
static void test_reason_for_every_clip(void **state)
{
    (void)state;
    char path[128];
    FILE *f = fopen(media_path(path, "noise.mp4"), "wb");
    for (int i = 0; i < 5000; i++)
        fputc(i * 7919 >> 3 & 255, f);
    fclose(f);
    struct media_session *s = new_session();
    struct media_job job = clips_at((double[]){0, 1, 2}, 3);
    run(s, &job, path);
    assert_int_equal(n_results, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(results[i].clip, i);
        assert_true(results[i].reason != MEDIA_OK && results[i].detail[0]);
        assert_int_equal(results[i].video_bytes, 0);
    }
    media_session_destroy(s);
}

/* A video of 5 frames for a clip of 8, from frame 2 on: it stands still, starts again, or is refused; with
 * the stream's own frames the last ones that fit are taken, as long as there are enough. */
static void test_short_clip(void **state)
{
    (void)state;
    static const struct {
        enum media_short policy;
        double fps;
        int reason;
        uint32_t flags;
        int want[T];
    } cases[] = {
        {MEDIA_SHORT_PAD, 10, MEDIA_OK, MEDIA_FLAG_PADDED, {2, 3, 4, 4, 4, 4, 4, 4}},
        {MEDIA_SHORT_LOOP, 10, MEDIA_OK, MEDIA_FLAG_LOOPED, {2, 3, 4, 2, 3, 4, 2, 3}},
        {MEDIA_SHORT_DROP, 10, MEDIA_TOO_SHORT, 0, {0}},
        {MEDIA_SHORT_PAD, 0, MEDIA_OK, MEDIA_FLAG_PADDED, {0, 1, 2, 3, 4, 4, 4, 4}},
        {MEDIA_SHORT_LOOP, 0, MEDIA_OK, MEDIA_FLAG_LOOPED, {0, 1, 2, 3, 4, 0, 1, 2}},
        {MEDIA_SHORT_DROP, 0, MEDIA_TOO_SHORT, 0, {0}},
        {MEDIA_SHORT_DROP, 30, MEDIA_OK, 0, {2, 2, 2, 3, 3, 3, 4, 4}},
    };
    static const char *const names[] = {"short.mp4", "short.avi"}; /* planned, and decoded straight on */
    struct media_session *s = new_session();
    for (size_t k = 0; k < 2; k++) {
        char path[128];
        make_media(&(struct make_media){.path = media_path(path, names[k]), .frames = 5, .fps = 10});
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct media_job job = clips_at((double[]){0.2}, 1);
            job.recipe.fps = cases[i].fps;
            job.recipe.short_clip = cases[i].policy;
            run(s, &job, path);
            if ((int)results[0].reason != cases[i].reason || results[0].flags != cases[i].flags)
                fail_msg("%s, case %zu: %s, flags %u", names[k], i, media_code_name(results[0].reason),
                         results[0].flags);
            for (int t = 0; t < T && !cases[i].reason; t++) {
                int got = frame_number(slot + (size_t)t * P * P * 3);
                if (got != cases[i].want[t])
                    fail_msg("%s, case %zu: picture %d is frame %d, not %d", names[k], i, t, got,
                             cases[i].want[t]);
            }
        }
    }
    media_session_destroy(s);
}

static void write_still(const char *path, const char *encoder)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(encoder);
    AVCodecContext *c = avcodec_alloc_context3(codec);
    AVFrame *f = av_frame_alloc();
    AVPacket *pkt = av_packet_alloc();
    c->width = f->width = 64;
    c->height = f->height = 48;
    c->pix_fmt = codec->pix_fmts[0];
    f->format = c->pix_fmt;
    c->time_base = (AVRational){1, 25};
    CHECK_AV(avcodec_open2(c, codec, NULL));
    CHECK_AV(av_frame_get_buffer(f, 0));
    for (int i = 0; i < AV_NUM_DATA_POINTERS && f->buf[i]; i++)
        memset(f->buf[i]->data, 128, (size_t)f->buf[i]->size);
    CHECK_AV(avcodec_send_frame(c, f));
    CHECK_AV(avcodec_receive_packet(c, pkt));
    FILE *out = fopen(path, "wb");
    assert_int_equal(fwrite(pkt->data, 1, (size_t)pkt->size, out), pkt->size);
    fclose(out);
    av_packet_free(&pkt);
    av_frame_free(&f);
    avcodec_free_context(&c);
}

/* Every frame of a still picture's clip is that picture, at any time, whatever the policy. */
static void test_stills(void **state)
{
    (void)state;
    static const struct {
        const char *name, *encoder;
    } cases[] = {{"still.png", "png"}, {"still.jpg", "mjpeg"}, {"still.bmp", "bmp"}};
    struct media_session *s = new_session();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[128];
        write_still(media_path(path, cases[i].name), cases[i].encoder);
        for (int k = 0; k < 4; k++) {
            struct media_job job = clips_at((double[]){k == 3 ? 2.5 : 0}, 1);
            job.recipe.short_clip = k % 3;
            job.recipe.fps = k == 1 ? 0 : 30;
            run(s, &job, path);
            if (results[0].reason || results[0].flags)
                fail_msg("%s: %s: %s, flags %u", path, media_code_name(results[0].reason), results[0].detail,
                         results[0].flags);
            for (int t = 1; t < T; t++)
                assert_memory_equal(slot, slot + (size_t)t * P * P * 3, P * P * 3);
            assert_in_range(slot[0], 100, 150);
        }
    }
    media_session_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_history_does_not_show),
                                       cmocka_unit_test(test_several_clips),
                                       cmocka_unit_test(test_reason_for_every_clip),
                                       cmocka_unit_test(test_short_clip), cmocka_unit_test(test_stills)};
    return cmocka_run_group_tests(tests, media_dir_setup, media_dir_teardown);
}
