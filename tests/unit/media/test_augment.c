/* The random choices of a training view: reproducible, within bounds, and the time mask. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "lib/media/augment.h"

static const struct media_recipe base = {.frames = 8,
                                         .resize_min = 128,
                                         .resize_max = 160,
                                         .crop = 112,
                                         .crop_jitter_px = -1,
                                         .flip_probability = 0.5,
                                         .audio_shift_s = 0.5,
                                         .time_mask_frames = 20,
                                         .augment = true};

/* Without augmentation: smallest size, centre, nothing else, whatever the seed. */
static void test_evaluation_view(void **state)
{
    (void)state;
    struct media_recipe r = base;
    r.augment = false;
    static const struct {
        int width, height, scaled_w, scaled_h, x, y;
        uint32_t crop;
    } cases[] = {
        {320, 240, 171, 128, 29, 8, 112},  {240, 320, 128, 171, 8, 29, 112},  {64, 64, 128, 128, 8, 8, 112},
        {128, 128, 128, 128, -1, -1, 129}, {128, 128, 128, 128, -6, -6, 140},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct augment a;
        struct augment_window w;
        r.crop = cases[i].crop;
        augment_draw(&r, i, &a);
        assert_false(a.flip);
        assert_true(a.audio_shift_s == 0);
        assert_int_equal(a.mask_frames, 0);
        augment_place(&a, &r, cases[i].width, cases[i].height, &w);
        assert_int_equal(w.width, cases[i].scaled_w);
        assert_int_equal(w.height, cases[i].scaled_h);
        assert_int_equal(w.x, cases[i].x);
        assert_int_equal(w.y, cases[i].y);
    }
}

/* Over many seeds every value stays in its range, reaches both ends of it, and flips come about as often as
 * asked. */
static void test_ranges(void **state)
{
    (void)state;
    struct media_recipe r = base;
    unsigned flips = 0, sizes[161] = {0}, masks[21] = {0}, left = 0, right = 0;
    double least = 1, most = -1;
    for (uint64_t seed = 0; seed < 4000; seed++) {
        struct augment a;
        struct augment_window w;
        augment_draw(&r, seed, &a);
        assert_in_range(a.short_side, 128, 160);
        assert_in_range(a.mask_frames, 0, 20);
        assert_in_range(a.mask_start, 0, MEDIA_MEL_FRAMES - a.mask_frames);
        augment_place(&a, &r, 320, 240, &w);
        assert_true(w.x >= 0 && w.x + 112 <= w.width && w.y >= 0 && w.y + 112 <= w.height);
        sizes[a.short_side]++;
        masks[a.mask_frames]++;
        flips += a.flip;
        left += w.x == 0;
        right += w.x + 112 == w.width;
        least = fmin(least, a.audio_shift_s);
        most = fmax(most, a.audio_shift_s);
    }
    assert_true(sizes[128] && sizes[160] && masks[0] && masks[20] && left && right);
    assert_in_range(flips, 1850, 2150);
    assert_true(least >= -0.5 && least < -0.49 && most < 0.5 && most > 0.49);
}

/* A jitter of j pixels moves the centre crop by -j..j on each axis, also past the edge of the picture. */
static void test_jitter(void **state)
{
    (void)state;
    struct media_recipe r = base;
    r.resize_min = r.resize_max = 64;
    r.crop = 64;
    r.crop_jitter_px = 4;
    unsigned seen[9] = {0};
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct augment a;
        struct augment_window w;
        augment_draw(&r, seed, &a);
        augment_place(&a, &r, 128, 128, &w);
        assert_in_range(w.x + 4, 0, 8);
        assert_in_range(w.y + 4, 0, 8);
        seen[w.x + 4]++;
    }
    for (int i = 0; i < 9; i++)
        assert_true(seen[i] > 20);
}

/* The same seed gives the same view; what one option draws does not depend on the other options. */
static void test_draws_are_fixed(void **state)
{
    (void)state;
    struct media_recipe r = base, plain = base;
    plain.flip_probability = 0;
    plain.resize_max = plain.resize_min;
    plain.crop_jitter_px = 3;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct augment a, b, c;
        augment_draw(&r, seed, &a);
        augment_draw(&r, seed, &b);
        augment_draw(&plain, seed, &c);
        assert_true(a.short_side == b.short_side && a.flip == b.flip && a.audio_shift_s == b.audio_shift_s &&
                    a.mask_start == b.mask_start && a.crop_u[0] == b.crop_u[0]);
        assert_true(a.audio_shift_s == c.audio_shift_s && a.mask_start == c.mask_start &&
                    a.mask_frames == c.mask_frames && a.crop_u[1] == c.crop_u[1]);
        assert_false(c.flip);
    }
}

/* Masked columns hold the mean of the whole picture before masking, all others are untouched. */
static void test_mask(void **state)
{
    (void)state;
    static float before[MEDIA_AUDIO_FLOATS], after[MEDIA_AUDIO_FLOATS];
    struct augment a = {.mask_start = 95, .mask_frames = 5};
    double sum = 0;
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++) {
        before[i] = (float)(i % 37) - 10;
        sum += (double)before[i];
    }
    memcpy(after, before, sizeof after);
    augment_mask(&a, after);
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++) {
        if (i % MEDIA_MEL_FRAMES >= 95)
            assert_float_equal(after[i], (float)(sum / MEDIA_AUDIO_FLOATS), 1e-5f);
        else
            assert_true(after[i] == before[i]);
    }
    a.mask_frames = 0;
    memcpy(after, before, sizeof after);
    augment_mask(&a, after);
    assert_memory_equal(after, before, sizeof after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_evaluation_view), cmocka_unit_test(test_ranges),
                                       cmocka_unit_test(test_jitter), cmocka_unit_test(test_draws_are_fixed),
                                       cmocka_unit_test(test_mask)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
