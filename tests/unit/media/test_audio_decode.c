/* The two seconds of sound around a clip: window, placement by time stamps, channels, rates, silence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "lib/media/audio_decode.h"
#include "lib/media/logmel.h"
#include "lib/media/wide.h"
#include "make_media.h"

#define RATE LOGMEL_RATE

static float wave[LOGMEL_SAMPLES];

/* Differs from sample to sample, so that a shift by one is seen. */
static double noise(int n, int channel)
{
    return (double)(((uint32_t)(n + 7777 * channel) * 2654435761u) >> 20 & 4095) / 4096 - 0.5;
}

static double tone_48k(int n, int channel)
{
    (void)channel;
    return 0.5 * sin(2 * M_PI * 1000 * n / 48000.0);
}

/* Silence for 3 s, then a tone. */
static double late_tone_48k(int n, int channel)
{
    return n < 3 * 48000 ? 0 : tone_48k(n, channel);
}

static struct media_job job_at(double start_s, uint32_t frames, double fps, double duration_s)
{
    return (struct media_job){
        .kind = MEDIA_JOB_DECODE,
        .clips = 1,
        .clip = {{.start_s = start_s, .key_pos = -1}},
        .duration_s = duration_s,
        .recipe = {.frames = frames, .fps = fps, .want_audio = true, .min_sound_s = 1.1}};
}

static uint32_t flags;

static int decode_shifted(const char *path, const struct media_job *job, double shift_s, struct err *e)
{
    struct input in;
    struct audio_decoder kept = {0};
    struct audio_span span;
    struct augment a = {.audio_shift_s = shift_s};
    struct media_job shifted = *job;
    shifted.recipe.audio_shift_s = fabs(shift_s);
    float *all = malloc(wide_samples_max(&shifted.recipe) * sizeof *all);
    assert_non_null(all);
    int fd = open_media(path);
    flags = 0;
    int rc = input_open(&in, fd, &(struct media_window){0}, -1, -1, INPUT_LOOK_LITTLE, e);
    if (rc == 0)
        rc = input_find_origin(&in, e);
    if (rc == 0 && in.audio < 0)
        rc = fault_set(e, MEDIA_NO_AUDIO, "no audio stream");
    if (rc == 0)
        rc = audio_decode(&kept, &in, &shifted, job->clip, all, &span, e);
    if (rc == 0)
        rc = audio_window(&span, all, &shifted, job->clip, &a, wave, &flags, e);
    free(all);
    audio_decoder_close(&kept);
    input_close(&in);
    close(fd);
    return rc;
}

static int decode(const char *path, const struct media_job *job, struct err *e)
{
    return decode_shifted(path, job, 0, e);
}

/* Sample i of the window is sample first + i of the file, silence outside 0..total. */
static void assert_samples(const char *what, int first, int total, int channels)
{
    for (int i = 0; i < LOGMEL_SAMPLES; i++) {
        double want = 0;
        for (int c = 0; c < channels && first + i >= 0 && first + i < total; c++)
            want += noise(first + i, c) / channels;
        if (fabs((double)wave[i] - want) > 2e-4)
            fail_msg("%s: sample %d is %f, not %f", what, i, (double)wave[i], want);
    }
}

/* Sound without loss arrives sample by sample: clamped at both ends, shifted before the clamp, with and
 * without a seek, in containers of both kinds, also where the streams do not start at 0. */
static void test_window(void **state)
{
    (void)state;
    static const struct {
        double start, fps, shift;
        int first;
    } cases[] = {
        {0, 10, 0, 0},          {0.8, 10, 0, 3200},     {0.85, 10, 0, 4000}, {2.5, 10, 0, 30400},
        {7, 10, 0, 6 * RATE},   {2.5, 10, 0.25, 34400}, {0, 10, -0.5, 0},    {7.5, 10, 0.5, 6 * RATE},
        {6.9, 10, -0.4, 94400}, {3, 0, 0, 38400},
    };
    static const char *const names[] = {"w.mkv", "w.mov", "w.mkv"};
    static const int starts_ms[] = {0, 0, 700};
    for (size_t f = 0; f < sizeof names / sizeof names[0]; f++) {
        char path[128];
        make_media(&(struct make_media){.path = media_path(path, names[f]),
                                        .frames = 50,
                                        .fps = 10,
                                        .start_ms = starts_ms[f],
                                        .audio_s = 8,
                                        .sample = noise});
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct media_job job = job_at(cases[i].start, 8, cases[i].fps, 8);
            struct err e = {0};
            int rc = decode_shifted(path, &job, cases[i].shift, &e);
            if (rc)
                fail_msg("%s: %s", names[f], e.msg);
            assert_samples(names[f], cases[i].first, 8 * RATE, 1);
        }
    }
}

/* Several channels become their mean, whatever the sample format. */
static void test_channels(void **state)
{
    (void)state;
    static const enum AVCodecID codecs[] = {AV_CODEC_ID_PCM_S16LE, AV_CODEC_ID_PCM_F32LE};
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        char path[128];
        struct err e = {0};
        make_media(&(struct make_media){.path = media_path(path, "stereo.mkv"),
                                        .audio_s = 3,
                                        .channels = 2,
                                        .audio_codec = codecs[i],
                                        .sample = noise});
        struct media_job job = job_at(0, 8, 10, 3);
        assert_int_equal(decode(path, &job, &e), 0);
        assert_samples("stereo", 0, 3 * RATE, 2);
    }
}

/* A file shorter than the window is followed by silence in the waveform; a late start is preceded by it. */
static void test_missing_is_silence(void **state)
{
    (void)state;
    char path[128];
    struct err e = {0};
    make_media(&(struct make_media){.path = media_path(path, "short.wav"), .audio_s = 1.25, .sample = noise});
    struct media_job job = job_at(0, 8, 10, 1.25);
    assert_int_equal(decode(path, &job, &e), 0);
    assert_samples("short", 0, 5 * RATE / 4, 1);
    make_media(&(struct make_media){.path = media_path(path, "late.mkv"),
                                    .frames = 50,
                                    .fps = 10,
                                    .audio_s = 4,
                                    .audio_start_ms = 1000,
                                    .sample = noise});
    job = job_at(0.9, 8, 10, 5);
    assert_int_equal(decode(path, &job, &e), 0);
    assert_samples("late", (int)(0.3 * RATE) - RATE, 4 * RATE, 1);
}

static double energy(int from, int to)
{
    double sum = 0;
    for (int i = from; i < to; i++)
        sum += (double)wave[i] * (double)wave[i];
    return sum / (to - from);
}

/* Lossy codecs at another rate: the tone begins where it should, to within a frame's pre-echo, and has its
 * power. */
static void test_resampled(void **state)
{
    (void)state;
    static const struct {
        enum AVCodecID codec;
        const char *name;
    } cases[] = {{AV_CODEC_ID_AAC, "aac.mp4"}, {AV_CODEC_ID_AAC, "aac.mkv"}, {AV_CODEC_ID_MP2, "mp2.mkv"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[128];
        struct err e = {0};
        make_media(&(struct make_media){.path = media_path(path, cases[i].name),
                                        .frames = 50,
                                        .fps = 10,
                                        .audio_s = 6,
                                        .rate = 48000,
                                        .channels = 2,
                                        .audio_codec = cases[i].codec,
                                        .sample = late_tone_48k});
        struct media_job job = job_at(2.6, 8, 10, 5);
        int rc = decode(path, &job, &e);
        if (rc)
            fail_msg("%s: %s", cases[i].name, e.msg);
        assert_true(energy(0, RATE - 1100) < 1e-4);
        assert_float_equal((float)energy(RATE + 400, LOGMEL_SAMPLES), 0.125f, 0.02f);
        int onset = 0;
        while (onset < LOGMEL_SAMPLES && fabsf(wave[onset]) < 0.25f)
            onset++;
        if (abs(onset - RATE) > 200)
            fail_msg("%s: the tone begins at sample %d", cases[i].name, onset);
    }
}

/* Nothing above -100 dBFS is called silent, and only that. */
static double whisper(int n, int channel)
{
    (void)channel;
    return n % 2 ? 1e-4 : -1e-4;
}

static void test_silent(void **state)
{
    (void)state;
    char path[128];
    struct err e = {0};
    struct media_job job = job_at(0, 8, 10, 3);
    make_media(&(struct make_media){.path = media_path(path, "silent.wav"), .audio_s = 3});
    assert_int_equal(decode(path, &job, &e), MEDIA_AUDIO_SILENT);
    assert_non_null(strstr(e.msg, "no sound from 0.00 s to 2.00 s"));
    make_media(
        &(struct make_media){.path = media_path(path, "whisper.wav"), .audio_s = 3, .sample = whisper});
    assert_int_equal(decode(path, &job, &e), 0);
}

static double broken(int n, int channel)
{
    (void)channel;
    return n == 20000 ? (double)NAN : 0.25;
}

static void test_nonfinite(void **state)
{
    (void)state;
    char path[128];
    struct err e = {0};
    make_media(&(struct make_media){.path = media_path(path, "nan.wav"),
                                    .audio_s = 3,
                                    .audio_codec = AV_CODEC_ID_PCM_F32LE,
                                    .sample = broken});
    struct media_job job = job_at(0, 8, 10, 3);
    assert_int_equal(decode(path, &job, &e), MEDIA_AUDIO_NONFINITE);
    assert_non_null(strstr(e.msg, "sample 20000"));
}

/* A file whose sound ends long before its own header and the manifest say is truncated, one that ends as told
 * is not. */
static void test_truncated(void **state)
{
    (void)state;
    char path[128];
    struct stat st;
    struct err e = {0};
    make_media(&(struct make_media){.path = media_path(path, "cut.wav"), .audio_s = 6, .sample = noise});
    assert_int_equal(stat(path, &st), 0);
    struct media_job job = job_at(4, 8, 10, 6);
    assert_int_equal(decode(path, &job, &e), 0);
    make_media(&(struct make_media){.path = media_path(path, "cut.flac"),
                                    .audio_s = 6,
                                    .audio_codec = AV_CODEC_ID_FLAC,
                                    .sample = noise});
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
    assert_int_equal(decode(path, &job, &e), MEDIA_TRUNCATED);
    job.clip[0].start_s = 0.2;
    assert_int_equal(decode(path, &job, &e), 0);
}

/* Sound that ends 0.8 s into the window: silence follows, or it starts again, or it is too short; a window
 * that is all there is never touched. */
static void test_short_sound(void **state)
{
    (void)state;
    static const struct {
        enum media_short policy;
        double start, duration;
        int reason;
        uint32_t flags;
    } cases[] = {
        {MEDIA_SHORT_PAD, 0, 0.8, MEDIA_OK, MEDIA_FLAG_PADDED},
        {MEDIA_SHORT_LOOP, 0, 0.8, MEDIA_OK, MEDIA_FLAG_LOOPED},
        {MEDIA_SHORT_DROP, 0, 0.8, MEDIA_TOO_SHORT, 0},
        {MEDIA_SHORT_LOOP, 1.2, 4, MEDIA_OK, 0},
        {MEDIA_SHORT_DROP, 1.2, 4, MEDIA_OK, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[128];
        struct err e = {0};
        make_media(&(struct make_media){
            .path = media_path(path, "short.wav"), .audio_s = cases[i].duration, .sample = noise});
        struct media_job job = job_at(cases[i].start, 8, 10, cases[i].duration);
        job.recipe.short_clip = cases[i].policy;
        job.recipe.min_sound_s = 0;
        assert_int_equal(decode(path, &job, &e), cases[i].reason);
        assert_int_equal(flags, cases[i].flags);
        int own = (int)(0.8 * RATE);
        for (int k = own; !cases[i].reason && cases[i].flags && k < LOGMEL_SAMPLES; k++) {
            double want = cases[i].flags == MEDIA_FLAG_LOOPED ? noise(k % own, 0) : 0;
            if (fabs((double)wave[k] - want) > 2e-4)
                fail_msg("case %zu: sample %d is %f, not %f", i, k, (double)wave[k], want);
        }
    }
}

/* Where silence is to be kept, what cannot be heard is silence and no reason. */
static void test_keep_silent(void **state)
{
    (void)state;
    char path[128];
    struct err e = {0};
    make_media(&(struct make_media){.path = media_path(path, "silent.wav"), .audio_s = 3});
    struct media_job job = job_at(0, 8, 10, 3);
    assert_int_equal(decode(path, &job, &e), MEDIA_AUDIO_SILENT);
    assert_int_equal(flags, 0);
    job.recipe.keep_silent = true;
    assert_int_equal(decode(path, &job, &e), 0);
    assert_int_equal(flags, MEDIA_FLAG_SILENT);
    for (int i = 0; i < LOGMEL_SAMPLES; i++)
        assert_true(wave[i] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_window),
                                       cmocka_unit_test(test_channels),
                                       cmocka_unit_test(test_missing_is_silence),
                                       cmocka_unit_test(test_resampled),
                                       cmocka_unit_test(test_silent),
                                       cmocka_unit_test(test_short_sound),
                                       cmocka_unit_test(test_keep_silent),
                                       cmocka_unit_test(test_nonfinite),
                                       cmocka_unit_test(test_truncated)};
    return cmocka_run_group_tests(tests, media_dir_setup, media_dir_teardown);
}
