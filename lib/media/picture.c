#include "lib/media/picture.h"

#include <errno.h>
#include <libavutil/mem.h>
#include <string.h>

#define MAX_SIDE 16384
#define MAX_PIXELS (1 << 26)

int picture_check_size(int width, int height, struct err *e)
{
    if (width <= 0 || height <= 0 || width > MAX_SIDE || height > MAX_SIDE ||
        (int64_t)width * height > MAX_PIXELS)
        return fault_set(e, MEDIA_BAD_DIMENSIONS, "picture of %d x %d pixels", width, height);
    return 0;
}

void picture_begin(struct picture *p, const struct media_recipe *r, const struct augment *a,
                   int quarter_turns)
{
    p->recipe = r;
    p->augment = a;
    p->quarter_turns = quarter_turns;
}

void picture_close(struct picture *p)
{
    sws_freeContext(p->sws);
    p->sws = NULL;
    av_freep(&p->rgb);
}

static void displayed_window(const struct picture *p, int width, int height, struct augment_window *w)
{
    if (p->quarter_turns & 1)
        augment_place(p->augment, p->recipe, height, width, w);
    else
        augment_place(p->augment, p->recipe, width, height, w);
}

/* swscale warns of the yuvj formats and reads their range from the format: name the plain format and the
 * range. */
static int plain_format(int format, int *full_range)
{
    static const struct {
        int from, to;
    } full[] = {{AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUV420P},
                {AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUV422P},
                {AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUV444P},
                {AV_PIX_FMT_YUVJ440P, AV_PIX_FMT_YUV440P},
                {AV_PIX_FMT_YUVJ411P, AV_PIX_FMT_YUV411P}};
    for (size_t i = 0; i < sizeof full / sizeof full[0]; i++) {
        if (full[i].from == format) {
            *full_range = 1;
            return full[i].to;
        }
    }
    return format;
}

/* Size of the scaled, not yet turned picture. */
static void stored_size(const struct picture *p, const struct augment_window *w, int *width, int *height)
{
    *width = p->quarter_turns & 1 ? w->height : w->width;
    *height = p->quarter_turns & 1 ? w->width : w->height;
}

static int make_scaler(struct picture *p, const AVFrame *f, const struct augment_window *w, struct err *e)
{
    picture_close(p);
    stored_size(p, w, &p->out_width, &p->out_height);
    int rc = picture_check_size(p->out_width, p->out_height, e);
    if (rc)
        return rc;
    int full_range = f->color_range == AVCOL_RANGE_JPEG;
    int format = plain_format(f->format, &full_range);
    p->stride = (p->out_width * 3 + 63) & ~63;
    p->rgb = av_malloc((size_t)p->stride * (size_t)p->out_height + 64);
    if (!p->rgb)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "scaled picture");
    p->sws =
        sws_getContext(f->width, f->height, format, p->out_width, p->out_height, AV_PIX_FMT_RGB24,
                       SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT, NULL, NULL, NULL);
    if (!p->sws)
        return fault_set(e, MEDIA_DECODE_ERROR, "no conversion of pixel format %d to RGB", f->format);
    /* Fails for formats that have no colour matrix, such as RGB: they need none. */
    (void)sws_setColorspaceDetails(p->sws, sws_getCoefficients(f->colorspace), full_range,
                                   sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    p->in_width = f->width;
    p->in_height = f->height;
    p->in_format = f->format;
    p->in_space = f->colorspace;
    p->in_full_range = f->color_range;
    return 0;
}

static bool scaler_fits(const struct picture *p, const AVFrame *f, const struct augment_window *w)
{
    int width, height;
    stored_size(p, w, &width, &height);
    return p->sws && p->in_width == f->width && p->in_height == f->height && p->in_format == f->format &&
           p->in_space == (int)f->colorspace && p->in_full_range == (int)f->color_range &&
           p->out_width == width && p->out_height == height;
}

static int clamp(int v, int n)
{
    return v < 0 ? 0 : v < n ? v : n - 1;
}

/* Where pixel (x, y) of the displayed picture lies in the stored one. */
static const uint8_t *stored_pixel(const struct picture *p, int x, int y)
{
    int sx = x, sy = y;
    switch (p->quarter_turns) {
    case 1:
        sx = y;
        sy = p->out_height - 1 - x;
        break;
    case 2:
        sx = p->out_width - 1 - x;
        sy = p->out_height - 1 - y;
        break;
    case 3:
        sx = p->out_width - 1 - y;
        sy = x;
        break;
    }
    return p->rgb + (size_t)sy * (size_t)p->stride + (size_t)sx * 3;
}

static void crop(const struct picture *p, const struct augment_window *w, uint8_t *out)
{
    int side = (int)p->recipe->crop;
    bool inside = w->x >= 0 && w->x + side <= w->width;
    for (int y = 0; y < side; y++) {
        uint8_t *row = out + (size_t)y * (size_t)side * 3;
        int sy = clamp(w->y + y, w->height);
        if (inside && !p->augment->flip && p->quarter_turns == 0) {
            memcpy(row, stored_pixel(p, w->x, sy), (size_t)side * 3);
            continue;
        }
        for (int x = 0; x < side; x++) {
            int cx = p->augment->flip ? side - 1 - x : x;
            memcpy(row + (size_t)x * 3, stored_pixel(p, clamp(w->x + cx, w->width), sy), 3);
        }
    }
}

int picture_make(struct picture *p, const AVFrame *frame, uint8_t *out, struct err *e)
{
    int rc = picture_check_size(frame->width, frame->height, e);
    if (rc)
        return rc;
    struct augment_window w;
    displayed_window(p, frame->width, frame->height, &w);
    if (!scaler_fits(p, frame, &w))
        rc = make_scaler(p, frame, &w, e);
    if (rc)
        return rc;
    int n = sws_scale(p->sws, (const uint8_t *const *)frame->data, frame->linesize, 0, frame->height, &p->rgb,
                      &p->stride);
    if (n < 0)
        return fault_av(e, MEDIA_DECODE_ERROR, n, "scale picture");
    crop(p, &w, out);
    return 0;
}
