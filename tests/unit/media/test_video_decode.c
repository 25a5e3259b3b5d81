/* The frame rule, seeking and the pixels of a clip, on files whose frames carry their number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "lib/media/video_decode.h"
#include "make_media.h"

#define P 16
#define MAX_T 64

static uint8_t out[MAX_T * P * P * 3];

static struct media_job job_at(double start_s, uint32_t frames, double fps)
{
    return (struct media_job){
        .kind = MEDIA_JOB_DECODE,
        .video_stream = -1,
        .audio_stream = -1,
        .clips = 1,
        .clip = {{.start_s = start_s, .key_pos = -1}},
        .recipe = {
            .frames = frames, .fps = fps, .resize_min = P, .resize_max = P, .crop = P, .want_video = true}};
}

static int decode(const char *path, const struct media_job *job, struct err *e)
{
    struct input in;
    struct video_decoder video = {0};
    struct video_clip clip = {.clip = job->clip, .out = out};
    augment_draw(&job->recipe, 0, &clip.augment);
    int fd = open_media(path);
    int rc = input_open(&in, fd, &(struct media_window){0}, -1, -1, INPUT_LOOK_LITTLE, e);
    if (rc == 0)
        rc = input_find_origin(&in, e);
    if (rc == 0 && in.video < 0)
        rc = fault_set(e, MEDIA_NO_VIDEO, "no video stream");
    if (rc == 0) {
        video_decode(&video, &in, job, &clip, 1);
        rc = clip.reason;
        *e = clip.err;
    }
    video_decoder_close(&video);
    input_close(&in);
    close(fd);
    return rc;
}

static void assert_frames(const char *what, const int *want, int n)
{
    for (int i = 0; i < n; i++) {
        int got = frame_number(out + (size_t)i * P * P * 3);
        if (got != want[i])
            fail_msg("%s: picture %d is frame %d, not %d", what, i, got, want[i]);
    }
}

static const char *const files[] = {"a.mp4", "a.mkv", "a.avi", "a.mov"};
static const char *const codecs[] = {"mpeg4", "libx264", "mpeg4", "mpeg4"};
static const int gops[] = {12, 12, 12, 1};

/* At 10 frames a second, for rates below, at and above it, from every place: frame floor(10 (t + i / fps)),
 * the last one past the end; with B frames and key frames 12 apart or everywhere, in containers that do and
 * do not seek exactly, also where the streams do not start at 0. */
static void test_frame_rule(void **state)
{
    (void)state;
    static const double rates[] = {4, 5, 10, 20, 25};
    static const int starts_ms[] = {0, 50, 350, 1000, 1500, 2420, 3990, 4400, 4950};
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        char path[128];
        make_media(&(struct make_media){.path = media_path(path, files[f]),
                                        .frames = 50,
                                        .fps = 10,
                                        .video_codec = codecs[f],
                                        .gop = gops[f],
                                        .start_ms = f == 1 ? 1300 : 0});
        for (size_t r = 0; r < sizeof rates / sizeof rates[0]; r++) {
            for (size_t s = 0; s < sizeof starts_ms / sizeof starts_ms[0]; s++) {
                int want[8];
                struct media_job job = job_at(starts_ms[s] / 1000.0, 8, rates[r]);
                for (int i = 0; i < 8; i++) {
                    int us = starts_ms[s] * 1000 + (int)lround(i * 1e6 / rates[r]);
                    want[i] = us / 100000 < 49 ? us / 100000 : 49;
                }
                struct err e = {0};
                int rc = decode(path, &job, &e);
                if (rc)
                    fail_msg("%s: %s", files[f], e.msg);
                assert_frames(files[f], want, 8);
            }
        }
    }
}

/* A variable frame rate: what counts is when a frame is shown, not its number. */
static void test_variable_rate(void **state)
{
    (void)state;
    static const int times_ms[] = {0, 40, 500, 540, 580, 1500, 1510, 1520, 2900, 3000};
    char path[128];
    make_media(&(struct make_media){
        .path = media_path(path, "vfr.mkv"), .frames = 10, .times_ms = times_ms, .gop = 4});
    static const struct {
        double start, fps;
        int want[6];
    } cases[] = {
        {0, 10, {0, 1, 1, 1, 1, 2}},  {0.45, 20, {1, 2, 3, 4, 4, 4}}, {1.4, 10, {4, 5, 7, 7, 7, 7}},
        {2.8, 5, {7, 9, 9, 9, 9, 9}}, {0.5, 0, {2, 3, 4, 5, 6, 7}},   {0.501, 0, {3, 4, 5, 6, 7, 8}},
        {2.0, 0, {4, 5, 6, 7, 8, 9}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct media_job job = job_at(cases[i].start, 6, cases[i].fps);
        struct err e = {0};
        assert_int_equal(decode(path, &job, &e), 0);
        assert_frames("variable rate", cases[i].want, 6);
    }
}

/* fps 0: T frames in a row from the first at or after the start; near the end the last T; a shorter video
 * repeats its last. */
static void test_consecutive(void **state)
{
    (void)state;
    static const struct {
        int start_ms, frames, first;
    } cases[] = {{0, 8, 0},     {350, 8, 4},   {400, 8, 4},   {2410, 8, 25},  {4200, 8, 42},
                 {4210, 8, 42}, {4900, 8, 42}, {9000, 8, 42}, {4700, 40, 10}, {100, 60, 0}};
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        char path[128];
        make_media(&(struct make_media){.path = media_path(path, files[f]),
                                        .frames = 50,
                                        .fps = 10,
                                        .video_codec = codecs[f],
                                        .gop = gops[f]});
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            int want[MAX_T];
            struct media_job job = job_at(cases[i].start_ms / 1000.0, (uint32_t)cases[i].frames, 0);
            for (int k = 0; k < cases[i].frames; k++)
                want[k] = cases[i].first + k < 49 ? cases[i].first + k : 49;
            struct err e = {0};
            int rc = decode(path, &job, &e);
            if (rc)
                fail_msg("%s: %s", files[f], e.msg);
            assert_frames(files[f], want, cases[i].frames);
        }
    }
}

/* A Matroska file that was cut off: clips in what is left decode, those beyond are truncated if the manifest
 * says that the video was longer; without a manifest the last frame stands. An MP4 without its index says
 * so. */
static void test_truncated(void **state)
{
    (void)state;
    char path[128];
    struct stat st;
    make_media(&(struct make_media){
        .path = media_path(path, "cut.mkv"), .frames = 50, .fps = 10, .width = 320, .height = 240, .gop = 5});
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
    struct media_job job = job_at(0.2, 4, 10);
    struct err e = {0};
    job.duration_s = 5;
    assert_int_equal(decode(path, &job, &e), 0);
    assert_frames("cut off", (int[]){2, 3, 4, 5}, 4);
    job.clip[0].start_s = 4.5;
    assert_int_equal(decode(path, &job, &e), MEDIA_TRUNCATED);
    assert_non_null(strstr(e.msg, "video ends at"));
    job.recipe.fps = 0;
    assert_int_equal(decode(path, &job, &e), MEDIA_TRUNCATED);
    job.duration_s = 0;
    assert_int_equal(decode(path, &job, &e), 0);

    make_media(&(struct make_media){.path = media_path(path, "cut.mp4"), .frames = 20, .fps = 10});
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
    assert_int_equal(decode(path, &job, &e), MEDIA_MOOV_MISSING);
}

/* Damaged packets are passed over: the same bytes give the same pictures, or the same reason. */
static void test_damaged(void **state)
{
    (void)state;
    static uint8_t first[8 * P * P * 3];
    for (unsigned seed = 1; seed <= 12; seed++) {
        char path[128];
        struct stat st;
        uint32_t x = seed * 2654435761u;
        make_media(&(struct make_media){
            .path = media_path(path, seed % 2 ? "damaged.mkv" : "damaged.mp4"), .frames = 50, .fps = 10});
        assert_int_equal(stat(path, &st), 0);
        int fd = open(path, O_WRONLY);
        for (int i = 0; i < 60; i++) {
            x = 1664525u * x + 1013904223u;
            uint8_t byte = (uint8_t)(x >> 24);
            off_t at = 200 + (off_t)((x >> 4) % (uint32_t)(st.st_size - 200));
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
        close(fd);
        struct media_job job = job_at(2, 8, 10);
        struct err e = {0};
        int rc = decode(path, &job, &e);
        assert_in_range(rc, 0, MEDIA_REASONS - 1);
        assert_true(rc == 0 || e.msg[0]);
        memcpy(first, out, sizeof first);
        memset(out, 0xee, sizeof first);
        assert_int_equal(decode(path, &job, &e), rc);
        if (rc == 0)
            assert_memory_equal(first, out, sizeof first);
    }
}

#define W 20
#define H 12

/* An RGB picture whose pixel (x, y) has the colour (10 x, 20 y, 7). */
static AVFrame *gradient(void)
{
    AVFrame *f = av_frame_alloc();
    f->format = AV_PIX_FMT_RGB24;
    f->width = W;
    f->height = H;
    assert_true(av_frame_get_buffer(f, 0) >= 0);
    for (int y = 0; y < H; y++) {
        for (int x = 0; x < W; x++) {
            uint8_t *p = f->data[0] + y * f->linesize[0] + x * 3;
            p[0] = (uint8_t)(10 * x);
            p[1] = (uint8_t)(20 * y);
            p[2] = 7;
        }
    }
    return f;
}

static int within(int v, int n)
{
    return v < 0 ? 0 : v < n ? v : n - 1;
}

/* Unscaled pictures: every pixel of the crop comes from where turn, crop, flip and edge repetition say. */
static void test_pixels(void **state)
{
    (void)state;
    static const struct {
        int turns;
        uint32_t crop;
        bool flip;
    } cases[] = {{0, 8, false}, {0, 8, true},  {0, 30, false}, {1, 8, false}, {2, 8, false},
                 {3, 8, false}, {1, 16, true}, {2, 16, true},  {3, 30, true}};
    AVFrame *f = gradient();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int side = (int)cases[i].crop;
        int shown_w = cases[i].turns & 1 ? H : W, shown_h = cases[i].turns & 1 ? W : H;
        struct media_recipe r = {.resize_min = H, .resize_max = H, .crop = cases[i].crop};
        struct augment a = {.short_side = H, .flip = cases[i].flip};
        struct picture p = {0};
        struct err e = {0};
        uint8_t got[30 * 30 * 3];
        picture_begin(&p, &r, &a, (AVRational){0, 1}, cases[i].turns);
        assert_int_equal(picture_make(&p, f, got, &e), 0);
        for (int y = 0; y < side; y++) {
            for (int x = 0; x < side; x++) {
                int px =
                    within((int)floor((shown_w - side) / 2.0) + (cases[i].flip ? side - 1 - x : x), shown_w);
                int py = within((int)floor((shown_h - side) / 2.0) + y, shown_h);
                const int sx[] = {px, py, W - 1 - px, W - 1 - py}, sy[] = {py, H - 1 - px, H - 1 - py, px};
                const uint8_t *g = got + (y * side + x) * 3;
                const int t = cases[i].turns;
                if (g[0] != 10 * sx[t] || g[1] != 20 * sy[t] || g[2] != 7)
                    fail_msg("case %zu: pixel %d, %d is %d %d %d, not %d %d 7", i, x, y, g[0], g[1], g[2],
                             10 * sx[t], 20 * sy[t]);
            }
        }
        picture_close(&p);
    }
    av_frame_free(&f);
}

/* The picture is turned as the file's display matrix says: a wide file that is shown upright has a square of
 * its own. */
static void test_rotation(void **state)
{
    (void)state;
    static const struct {
        int degrees, turns;
    } cases[] = {{0, 0}, {90, 1}, {180, 2}, {270, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[128];
        struct input in;
        struct err e = {0};
        struct video_decoder video = {0};
        make_media(&(struct make_media){
            .path = media_path(path, "turned.mov"), .frames = 5, .fps = 10, .degrees = cases[i].degrees});
        int fd = open_media(path);
        struct media_job job = job_at(0, 1, 0);
        struct video_clip clip = {.clip = job.clip, .out = out};
        augment_draw(&job.recipe, 0, &clip.augment);
        assert_int_equal(input_open(&in, fd, &(struct media_window){0}, -1, -1, INPUT_LOOK_LITTLE, &e), 0);
        assert_int_equal(input_find_origin(&in, &e), 0);
        video_decode(&video, &in, &job, &clip, 1);
        assert_int_equal(clip.reason, 0);
        assert_int_equal(video.picture.quarter_turns, cases[i].turns);
        video_decoder_close(&video);
        input_close(&in);
        close(fd);
    }
}

/* Colours follow the frame's own matrix and range. */
static void test_colour(void **state)
{
    (void)state;
    static const struct {
        enum AVColorSpace space;
        enum AVColorRange range;
        int y, u, v, rgb[3];
    } cases[] = {
        {AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG, 81, 90, 240, {254, 0, 0}},
        {AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, 63, 102, 240, {255, 0, 0}},
        {AVCOL_SPC_SMPTE170M, AVCOL_RANGE_JPEG, 81, 128, 128, {81, 81, 81}},
        {AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG, 81, 128, 128, {76, 76, 76}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AVFrame *f = av_frame_alloc();
        f->format = AV_PIX_FMT_YUV420P;
        f->width = f->height = 32;
        f->colorspace = cases[i].space;
        f->color_range = cases[i].range;
        assert_true(av_frame_get_buffer(f, 0) >= 0);
        memset(f->data[0], cases[i].y, (size_t)f->linesize[0] * 32);
        memset(f->data[1], cases[i].u, (size_t)f->linesize[1] * 16);
        memset(f->data[2], cases[i].v, (size_t)f->linesize[2] * 16);
        struct media_recipe r = {.resize_min = P, .resize_max = P, .crop = P};
        struct augment a = {.short_side = P};
        struct picture p = {0};
        struct err e = {0};
        picture_begin(&p, &r, &a, (AVRational){0, 1}, 0);
        assert_int_equal(picture_make(&p, f, out, &e), 0);
        for (int c = 0; c < 3; c++)
            if (abs(out[(8 * P + 8) * 3 + c] - cases[i].rgb[c]) > 2)
                fail_msg("case %zu, channel %d: %d, not %d", i, c, out[(8 * P + 8) * 3 + c], cases[i].rgb[c]);
        picture_close(&p);
        av_frame_free(&f);
    }
}

/* Pictures that are empty or too large are refused by name. */
static void test_dimensions(void **state)
{
    (void)state;
    static const struct {
        int width, height;
        bool good;
    } cases[] = {{1, 1, true},    {16384, 4096, true}, {16385, 16, false}, {0, 16, false},
                 {16, -1, false}, {8192, 8192, true},  {8200, 8192, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        assert_int_equal(picture_check_size(cases[i].width, cases[i].height, &e),
                         cases[i].good ? 0 : MEDIA_BAD_DIMENSIONS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_rule),  cmocka_unit_test(test_variable_rate),
        cmocka_unit_test(test_consecutive), cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged),     cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_rotation),    cmocka_unit_test(test_colour),
        cmocka_unit_test(test_dimensions)};
    return cmocka_run_group_tests(tests, media_dir_setup, media_dir_teardown);
}
