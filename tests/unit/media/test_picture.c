/* The two ways from a decoded frame to the small picture make the same picture, and it has the displayed
 * shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <libavutil/pixdesc.h>
#include "lib/media/picture.h"

#define SIDE 48

/* Smooth shapes and some noise, in every component. */
static AVFrame *make_frame(int format, int width, int height)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    AVFrame *f = av_frame_alloc();
    uint32_t x = 99;
    f->format = format;
    f->width = width;
    f->height = height;
    f->colorspace = AVCOL_SPC_BT709;
    assert_true(av_frame_get_buffer(f, 0) >= 0);
    for (int c = 0; c < 3; c++) {
        int w = c ? -((-width) >> d->log2_chroma_w) : width,
            h = c ? -((-height) >> d->log2_chroma_h) : height;
        int top = (1 << d->comp[c].depth) - 1;
        for (int i = 0; i < w * h; i++) {
            x = 1664525u * x + 1013904223u;
            int px = i % w, py = i / w;
            int v =
                top / 8 + (px * (3 + c) + py * 2) * top / 2000 % (top * 5 / 8) + (int)(x >> 28) * top / 256;
            if (d->comp[c].depth > 8)
                ((uint16_t *)(void *)(f->data[c] + py * f->linesize[c]))[px] = (uint16_t)v;
            else
                f->data[c][py * f->linesize[c] + px] = (uint8_t)v;
        }
    }
    return f;
}

static void make(const AVFrame *f, uint32_t scaling, const struct augment *a, int turns, uint32_t short_side,
                 AVRational sar, uint8_t *out)
{
    struct media_recipe r = {.resize_min = short_side,
                             .resize_max = short_side,
                             .crop = SIDE,
                             .crop_jitter_px = -1,
                             .augment = true,
                             .scaling = scaling};
    struct picture p = {0};
    struct err e = {0};
    picture_begin(&p, &r, a, sar, turns);
    if (picture_make(&p, f, out, &e))
        fail_msg("%s", e.msg);
    picture_close(&p);
}

/* Over formats, sizes, turns, flips, ranges, pixel shapes and crops that reach over the edge, fast and exact
 * differ by two levels at most, and by less than half a level in the mean. */
static void test_fast_is_exact(void **state)
{
    (void)state;
    static const int formats[] = {AV_PIX_FMT_YUV420P,   AV_PIX_FMT_YUV422P,     AV_PIX_FMT_YUV444P,
                                  AV_PIX_FMT_YUVJ420P,  AV_PIX_FMT_YUV420P10LE, AV_PIX_FMT_YUV422P10LE,
                                  AV_PIX_FMT_YUV444P12, AV_PIX_FMT_YUV410P,     AV_PIX_FMT_GBRP,
                                  AV_PIX_FMT_YUVA420P};
    static const int sizes[][2] = {{320, 240}, {161, 121}, {64, 200}, {40, 30}, {640, 360}, {1000, 50}};
    static const AVRational shapes[] = {{0, 1}, {4, 3}, {8, 9}, {100, 1}};
    static uint8_t exact[SIDE * SIDE * 3], fast[SIDE * SIDE * 3];
    int n = 0;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++, n++) {
            AVFrame *f = make_frame(formats[i], sizes[k][0], sizes[k][1]);
            f->color_range = n % 3 == 0 ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
            uint32_t side = n % 4 == 3 ? SIDE - 8 : SIDE + 8;
            struct augment a = {.short_side = side, .crop_u = {0.37, 0.81}, .flip = n % 5 < 2};
            AVRational sar = shapes[n % 4];
            make(f, MEDIA_SCALING_EXACT, &a, n % 4, side, sar, exact);
            make(f, MEDIA_SCALING_FAST, &a, n % 4, side, sar, fast);
            double sum = 0;
            for (int b = 0; b < SIDE * SIDE * 3; b++) {
                int d = abs(exact[b] - fast[b]);
                sum += d;
                if (d > 2)
                    fail_msg("%s %dx%d, turns %d: byte %d is %d, not %d", av_get_pix_fmt_name(formats[i]),
                             sizes[k][0], sizes[k][1], n % 4, b, fast[b], exact[b]);
            }
            assert_true(sum / (SIDE * SIDE * 3) < 0.5);
            av_frame_free(&f);
        }
    }
}

/* Pixels that are not square make the scaled picture as wide as it is displayed; what no display shows is
 * taken as square. */
static void test_pixel_shape(void **state)
{
    (void)state;
    static const struct {
        AVRational stream, frame;
        int turns, width, height;
    } cases[] = {
        {{0, 1}, {0, 1}, 0, 128, 64},  {{2, 1}, {0, 1}, 0, 256, 64}, {{0, 1}, {2, 1}, 0, 256, 64},
        {{3, 1}, {1, 2}, 0, 64, 64},   {{2, 1}, {0, 1}, 1, 64, 256}, {{1000, 1}, {0, 1}, 0, 128, 64},
        {{-4, 3}, {0, 1}, 3, 64, 128}, {{1, 4}, {0, 1}, 0, 64, 128},
    };
    AVFrame *f = make_frame(AV_PIX_FMT_YUV420P, 200, 100);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct media_recipe r = {.resize_min = 64, .resize_max = 64, .crop = SIDE};
        struct augment a = {.short_side = 64};
        struct picture p = {0};
        struct err e = {0};
        uint8_t out[SIDE * SIDE * 3];
        f->sample_aspect_ratio = cases[i].frame;
        picture_begin(&p, &r, &a, cases[i].stream, cases[i].turns);
        assert_int_equal(picture_make(&p, f, out, &e), 0);
        if (p.fast.window.width != cases[i].width || p.fast.window.height != cases[i].height)
            fail_msg("case %zu: %d x %d", i, p.fast.window.width, p.fast.window.height);
        picture_close(&p);
    }
    av_frame_free(&f);
}

/* One picture after another through the same struct, of other sizes, formats and crops each time, is as if it
 * were new. */
static void test_reuse(void **state)
{
    (void)state;
    static const int sizes[][2] = {{320, 240}, {100, 80}, {640, 200}, {320, 240}};
    static uint8_t kept[SIDE * SIDE * 3], fresh[SIDE * SIDE * 3];
    struct picture p = {0};
    for (uint32_t i = 0; i < 16; i++) {
        AVFrame *f =
            make_frame(i & 1 ? AV_PIX_FMT_YUV444P : AV_PIX_FMT_YUV420P10LE, sizes[i / 4][0], sizes[i / 4][1]);
        struct media_recipe r = {.resize_min = 60, .resize_max = 60, .crop = SIDE, .scaling = (i >> 1) & 1};
        struct augment a = {.short_side = 60 + i % 3};
        struct picture other = {0};
        struct err e = {0};
        picture_begin(&p, &r, &a, (AVRational){0, 1}, 0);
        assert_int_equal(picture_make(&p, f, kept, &e), 0);
        picture_begin(&other, &r, &a, (AVRational){0, 1}, 0);
        assert_int_equal(picture_make(&other, f, fresh, &e), 0);
        assert_memory_equal(kept, fresh, sizeof kept);
        picture_close(&other);
        av_frame_free(&f);
    }
    picture_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fast_is_exact),
                                       cmocka_unit_test(test_pixel_shape), cmocka_unit_test(test_reuse)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
