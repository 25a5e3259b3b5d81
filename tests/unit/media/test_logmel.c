/* The log-mel front end against numbers from an independent implementation (tests/golden/logmel.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "lib/media/logmel.h"

static float wave[LOGMEL_SAMPLES];

static void make_signal(void)
{
    uint32_t state = 12345;
    for (int n = 0; n < LOGMEL_SAMPLES; n++) {
        double x = 0.4 * sin(2 * M_PI * 440 * n / LOGMEL_RATE) +
                   0.2 * ((double)n / LOGMEL_SAMPLES) * sin(2 * M_PI * 3000 * n / LOGMEL_RATE);
        state = 1664525u * state + 1013904223u;
        wave[n] = (float)(x + 0.1 * (state / 4294967296.0 - 0.5));
    }
}

static void load_golden(const char *path, float *out)
{
    unsigned char head[10];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(head, 1, sizeof head, f), sizeof head);
    assert_memory_equal(head, "\x93NUMPY", 6);
    assert_int_equal(fseek(f, head[8] + 256 * head[9], SEEK_CUR), 0);
    assert_int_equal(fread(out, sizeof *out, MEDIA_AUDIO_FLOATS, f), MEDIA_AUDIO_FLOATS);
    fclose(f);
}

/* Every power before the log agrees with the float64 reference within 1e-4 of itself. */
static void test_golden(void **state)
{
    (void)state;
    static float golden[MEDIA_AUDIO_FLOATS], got[MEDIA_AUDIO_FLOATS];
    struct logmel *l;
    assert_int_equal(logmel_create(&l, NULL), 0);
    make_signal();
    load_golden(XDC_SOURCE_DIR "/tests/golden/logmel_power.npy", golden);
    logmel_power(l, MEDIA_FRONTEND_LOGMEL, wave, got);
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++)
        if (!(fabsf(got[i] - golden[i]) <= 1e-4f * golden[i]))
            fail_msg("mel %d frame %d: %g, reference %g", i / 100, i % 100, (double)got[i],
                     (double)golden[i]);
    logmel_destroy(l);
}

/* VMZ's picture agrees with the float64 reference within 1e-4, in the logarithm and in its tail. */
static void test_vmz(void **state)
{
    (void)state;
    static float golden[MEDIA_AUDIO_FLOATS], got[MEDIA_AUDIO_FLOATS];
    struct logmel *l;
    assert_int_equal(logmel_create(&l, NULL), 0);
    make_signal();
    load_golden(XDC_SOURCE_DIR "/tests/golden/logmel_vmz.npy", golden);
    logmel_compute(l, MEDIA_FRONTEND_VMZ, wave, got);
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++)
        if (!(fabsf(got[i] - golden[i]) <= 1e-4f))
            fail_msg("mel %d frame %d: %g, reference %g", i / 100, i % 100, (double)got[i],
                     (double)golden[i]);
    memset(wave, 0, sizeof wave);
    logmel_compute(l, MEDIA_FRONTEND_VMZ, wave, got);
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++)
        assert_true(got[i] == 0);
    wave[8000] = 1e-8f; /* below e after the gain: linear */
    logmel_compute(l, MEDIA_FRONTEND_VMZ, wave, got);
    logmel_power(l, MEDIA_FRONTEND_VMZ, wave, golden);
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++)
        assert_float_equal(got[i], golden[i] * 1080674186.3482928 / M_E, 1e-7);
    logmel_destroy(l);
}

/* The picture is the natural log of power + 1e-6, so that silence is ln 1e-6 everywhere. */
static void test_log_floor(void **state)
{
    (void)state;
    static float power[MEDIA_AUDIO_FLOATS], log_power[MEDIA_AUDIO_FLOATS];
    struct logmel *l;
    assert_int_equal(logmel_create(&l, NULL), 0);
    make_signal();
    logmel_power(l, MEDIA_FRONTEND_LOGMEL, wave, power);
    logmel_compute(l, MEDIA_FRONTEND_LOGMEL, wave, log_power);
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++)
        assert_float_equal(log_power[i], logf(power[i] + 1e-6f), 1e-5f);
    memset(wave, 0, sizeof wave);
    logmel_compute(l, MEDIA_FRONTEND_LOGMEL, wave, log_power);
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++)
        assert_float_equal(log_power[i], -13.815511f, 1e-5f);
    logmel_destroy(l);
}

/* A click lands in the frames whose window covers it and nowhere else: hop 320, window 400, frame t centred
 * on 320 t. */
static void test_time_axis(void **state)
{
    (void)state;
    static float power[MEDIA_AUDIO_FLOATS];
    struct logmel *l;
    assert_int_equal(logmel_create(&l, NULL), 0);
    memset(wave, 0, sizeof wave);
    wave[320 * 50] = 1;
    logmel_power(l, MEDIA_FRONTEND_LOGMEL, wave, power);
    for (int t = 0; t < MEDIA_MEL_FRAMES; t++) {
        float p = power[20 * MEDIA_MEL_FRAMES + t];
        assert_true(t == 50 ? p > 0.1f : p < 1e-6f);
    }
    logmel_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_vmz),
                                       cmocka_unit_test(test_log_floor), cmocka_unit_test(test_time_axis)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
