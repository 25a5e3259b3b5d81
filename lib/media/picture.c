#include "lib/media/picture.h"

#include <errno.h>
#include <libavutil/mem.h>
#include <string.h>
#include "lib/media/degrade.h"

#define MAX_SIDE 16384
#define MAX_PIXELS (1 << 26)
#define MAX_CROP 4096

int picture_check_size(int width, int height, struct err *e)
{
    if (width <= 0 || height <= 0 || width > MAX_SIDE || height > MAX_SIDE ||
        (int64_t)width * height > MAX_PIXELS)
        return fault_set(e, MEDIA_BAD_DIMENSIONS, "picture of %d x %d pixels", width, height);
    return 0;
}

void picture_begin(struct picture *p, const struct media_recipe *r, const struct augment *a, AVRational sar,
                   int quarter_turns)
{
    p->recipe = r;
    p->augment = a;
    p->sar = sar;
    p->quarter_turns = quarter_turns;
}

static void close_exact(struct picture *p)
{
    sws_freeContext(p->sws);
    p->sws = NULL;
    av_freep(&p->rgb);
    memset(&p->exact, 0, sizeof p->exact);
}

void picture_close(struct picture *p)
{
    close_exact(p);
    scale_yuv_close(&p->scale);
    memset(&p->fast, 0, sizeof p->fast);
    av_freep(&p->coarse);
    p->coarse_side = 0;
}

/* Pixels far from square are a lie, or would make a picture of a few rows. */
static AVRational pixel_shape(const struct picture *p, AVRational of_frame)
{
    AVRational sar = of_frame.num ? of_frame : p->sar;
    double r = sar.num > 0 && sar.den > 0 ? av_q2d(sar) : 0;
    return r >= 0.125 && r <= 8 ? sar : (AVRational){1, 1};
}

/* Where the crop lies in the scaled, turned picture. */
static void place(const struct picture *p, int stored_width, int height, AVRational sar,
                  struct augment_window *w)
{
    int width = (int)(((int64_t)stored_width * sar.num + sar.den / 2) / sar.den);
    width = width > 0 ? width : 1;
    if (p->quarter_turns & 1)
        augment_place(p->augment, p->recipe, height, width, w);
    else
        augment_place(p->augment, p->recipe, width, height, w);
}

int picture_size(struct picture *p, int width, int height, AVRational sar, struct err *e)
{
    struct augment_window w;
    int rc = picture_check_size(width, height, e);
    if (rc)
        return rc;
    place(p, width, height, pixel_shape(p, sar), &w);
    p->usual_width = w.width;
    p->usual_height = w.height;
    p->unusual = false;
    return picture_check_size(w.width, w.height, e);
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

static void shape_of(const struct picture *p, const AVFrame *f, struct picture_shape *s)
{
    memset(s, 0, sizeof *s); /* compared as bytes */
    s->width = f->width;
    s->height = f->height;
    s->format = f->format;
    s->space = (int)f->colorspace;
    s->range = (int)f->color_range;
    s->sar = pixel_shape(p, f->sample_aspect_ratio);
    s->quarter_turns = p->quarter_turns;
    s->side = (int)p->recipe->crop;
    s->flip = p->augment->flip;
    place(p, f->width, f->height, s->sar, &s->window);
}

/* Size of the scaled, not yet turned picture. */
static void stored_size(const struct picture_shape *s, int *width, int *height)
{
    *width = s->quarter_turns & 1 ? s->window.height : s->window.width;
    *height = s->quarter_turns & 1 ? s->window.width : s->window.height;
}

static int make_scaler(struct picture *p, const AVFrame *f, const struct picture_shape *s, struct err *e)
{
    close_exact(p);
    stored_size(s, &p->out_width, &p->out_height);
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
    (void)sws_setColorspaceDetails(p->sws, sws_getCoefficients((int)f->colorspace), full_range,
                                   sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    memcpy(&p->exact, s, sizeof *s);
    return 0;
}

static int clamp(int v, int n)
{
    return v < 0 ? 0 : v < n ? v : n - 1;
}

/* Column and row of the displayed picture that result pixel i lies at. */
static int column_of(const struct picture_shape *s, int i)
{
    return clamp(s->window.x + (s->flip ? s->side - 1 - i : i), s->window.width);
}

static int row_of(const struct picture_shape *s, int i)
{
    return clamp(s->window.y + i, s->window.height);
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

static void crop(const struct picture *p, const struct picture_shape *s, uint8_t *out)
{
    bool inside = s->window.x >= 0 && s->window.x + s->side <= s->window.width;
    for (int y = 0; y < s->side; y++) {
        uint8_t *row = out + (size_t)y * (size_t)s->side * 3;
        if (inside && !s->flip && s->quarter_turns == 0) {
            memcpy(row, stored_pixel(p, s->window.x, row_of(s, y)), (size_t)s->side * 3);
            continue;
        }
        for (int x = 0; x < s->side; x++)
            memcpy(row + (size_t)x * 3, stored_pixel(p, column_of(s, x), row_of(s, y)), 3);
    }
}

static int make_exact(struct picture *p, const AVFrame *frame, const struct picture_shape *s, uint8_t *out,
                      struct err *e)
{
    int rc = 0;
    if (memcmp(s, &p->exact, sizeof *s) != 0)
        rc = make_scaler(p, frame, s, e);
    if (rc)
        return rc;
    int n = sws_scale(p->sws, (const uint8_t *const *)frame->data, frame->linesize, 0, frame->height, &p->rgb,
                      &p->stride);
    if (n < 0)
        return fault_av(e, MEDIA_DECODE_ERROR, n, "scale picture");
    crop(p, s, out);
    return 0;
}

/* Stored columns and rows of the result: of a picture on its side, the result is transposed. */
static int begin_fast(struct picture *p, const AVFrame *frame, const struct picture_shape *s)
{
    int x[MAX_CROP], y[MAX_CROP];
    struct scale_part part = {.side = s->side, .x = x, .y = y};
    stored_size(s, &part.width, &part.height);
    for (int i = 0; i < s->side; i++) {
        int column = column_of(s, i), row = row_of(s, i);
        x[i] = s->quarter_turns & 1 ? row : column;
        y[i] = s->quarter_turns & 1 ? column : row;
        if (s->quarter_turns == 2 || s->quarter_turns == 3)
            x[i] = part.width - 1 - x[i];
        if (s->quarter_turns == 1 || s->quarter_turns == 2)
            y[i] = part.height - 1 - y[i];
    }
    memset(&p->fast, 0, sizeof p->fast);
    int rc = scale_yuv_begin(&p->scale, frame, &part);
    if (rc == 0)
        memcpy(&p->fast, s, sizeof *s);
    return rc;
}

static int make(struct picture *p, const AVFrame *frame, uint8_t *out, struct err *e)
{
    int rc = picture_check_size(frame->width, frame->height, e);
    if (rc)
        return rc;
    struct picture_shape s;
    shape_of(p, frame, &s);
    rc = picture_check_size(s.window.width, s.window.height, e);
    if (rc)
        return rc;
    if (s.window.width != p->usual_width || s.window.height != p->usual_height)
        p->unusual = true;
    if (p->recipe->scaling == MEDIA_SCALING_EXACT || s.side > MAX_CROP || !scale_yuv_can(frame))
        return make_exact(p, frame, &s, out, e);
    if (memcmp(&s, &p->fast, sizeof s) != 0) {
        rc = begin_fast(p, frame, &s);
        if (rc == -ENOTSUP)
            return make_exact(p, frame, &s, out, e);
        if (rc < 0)
            return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "scaled picture");
    }
    int full_range = frame->color_range == AVCOL_RANGE_JPEG;
    plain_format(frame->format, &full_range);
    scale_yuv_make(&p->scale, frame, full_range, s.quarter_turns & 1, out);
    return 0;
}

int picture_degrade(struct picture *p, const struct media_recipe *r, uint8_t *rgb, struct err *e)
{
    int side = (int)r->crop, factor = (int)r->degrade;
    if (factor < 2)
        return 0;
    if (side > p->coarse_side) {
        av_freep(&p->coarse);
        p->coarse = av_malloc(degrade_scratch(side, 2)); /* more than any other factor takes */
        p->coarse_side = p->coarse ? side : 0;
    }
    if (!p->coarse)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "degraded picture");
    degrade(rgb, side, factor, p->coarse);
    return 0;
}

int picture_make(struct picture *p, const AVFrame *frame, uint8_t *out, struct err *e)
{
    int rc = make(p, frame, out, e);
    return rc ? rc : picture_degrade(p, p->recipe, out, e);
}
