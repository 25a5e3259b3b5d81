#include "lib/media/scale_yuv.h"

#include <errno.h>
#include <libavutil/mem.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <string.h>

#define TAPS_MAX 256
#define TILE 16 /* rows that are turned to columns together */

/* Whole-number arithmetic: equal results, whatever the instruction set. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif

bool scale_yuv_can(const AVFrame *frame)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(frame->format);
    const uint64_t not_us = AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM |
                            AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_FLOAT;
    if (!d || d->nb_components < 3 || !(d->flags & AV_PIX_FMT_FLAG_PLANAR) || (d->flags & not_us))
        return false;
    for (int i = 0; i < 3; i++) {
        const AVComponentDescriptor *c = &d->comp[i];
        int bytes = c->depth > 8 ? 2 : 1;
        if (c->plane != i || c->step != bytes || c->offset || c->shift || c->depth != d->comp[0].depth)
            return false;
    }
    return d->comp[0].depth <= 8 || (d->comp[0].depth <= 16 && !(d->flags & AV_PIX_FMT_FLAG_BE) &&
                                     __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
}

static int reserve(struct scale_axis *a, int n, int taps)
{
    if (a->n < n) {
        av_freep(&a->start);
        a->start = av_malloc_array((size_t)n, sizeof *a->start);
    }
    if (a->capacity < n * taps) {
        av_freep(&a->w);
        a->w = av_malloc_array((size_t)n * (size_t)taps, sizeof *a->w);
        a->capacity = a->w ? n * taps : 0;
    }
    a->n = a->start ? n : 0;
    a->taps = taps;
    return a->start && a->w ? 0 : -ENOMEM;
}

static int clamp(int v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* The weights of one result pixel; taps that fall off an end add to the pixel there. */
static void weigh(struct scale_axis *a, int i, double centre, double narrow, int source)
{
    double w[TAPS_MAX] = {0}, sum = 0;
    int first = (int)floor(centre - 1 / narrow) + 1;
    a->start[i] = clamp(first, 0, source - a->taps);
    for (int x = first; x <= first + (int)(2 / narrow) + 1; x++) {
        double v = fmax(0, 1 - fabs(x - centre) * narrow);
        w[clamp(clamp(x, 0, source - 1) - a->start[i], 0, a->taps - 1)] += v;
        sum += v;
    }
    int left = 65536;
    int largest = 0;
    for (int j = 0; j < a->taps; j++) {
        int q = (int)lrint(w[j] / sum * 65536);
        a->w[i * a->taps + j] = (uint16_t)(q > 65535 ? 65535 : q);
        left -= q;
        largest = w[j] > w[largest] ? j : largest;
    }
    a->w[i * a->taps + largest] = (uint16_t)clamp(a->w[i * a->taps + largest] + left, 0, 65535);
}

/* source: pixels of the plane along the axis; scaled: of the scaled picture; at[i]: the wanted ones. */
static int make_axis(struct scale_axis *a, int source, int scaled, const int *at, int n)
{
    double narrow = fmin(1, (double)scaled / source);
    int taps = (int)(2 / narrow) + 2;
    if (taps > source)
        taps = source;
    if (taps > TAPS_MAX)
        return -ENOTSUP;
    if (reserve(a, n, taps) < 0)
        return -ENOMEM;
    a->from = source;
    a->to = 0;
    for (int i = 0; i < n; i++) {
        weigh(a, i, (at[i] + 0.5) * source / scaled - 0.5, narrow, source);
        a->from = a->start[i] < a->from ? a->start[i] : a->from;
        a->to = a->start[i] + taps > a->to ? a->start[i] + taps : a->to;
    }
    for (int i = 0; i < n; i++)
        a->start[i] -= a->from;
    return 0;
}

static int plane_size(int luma, int shift)
{
    return -((-luma) >> shift);
}

static void free_scratch(struct scale_yuv *s)
{
    av_freep(&s->rows);
    av_freep(&s->block);
    for (int c = 0; c < 3; c++)
        av_freep(&s->plane[c]);
    s->columns = s->side = 0;
}

static int make_scratch(struct scale_yuv *s, int columns, int side)
{
    size_t pixels = (size_t)side * (size_t)side;
    free_scratch(s);
    s->rows = av_malloc_array((size_t)columns, TILE * sizeof *s->rows);
    s->block = av_malloc_array((size_t)columns, (size_t)side * sizeof *s->block);
    for (int c = 0; c < 3; c++)
        s->plane[c] = av_malloc(pixels * sizeof *s->plane[c]);
    if (!s->rows || !s->block || !s->plane[0] || !s->plane[1] || !s->plane[2]) {
        free_scratch(s);
        return -ENOMEM;
    }
    s->columns = columns;
    s->side = side;
    return 0;
}

int scale_yuv_begin(struct scale_yuv *s, const AVFrame *frame, const struct scale_part *part)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(frame->format);
    int rc = 0, columns = 0;
    for (int c = 0; c < 2 && rc == 0; c++) {
        int w = plane_size(frame->width, c ? d->log2_chroma_w : 0);
        int h = plane_size(frame->height, c ? d->log2_chroma_h : 0);
        rc = make_axis(&s->x[c], w, part->width, part->x, part->side);
        if (rc == 0)
            rc = make_axis(&s->y[c], h, part->height, part->y, part->side);
        columns = w > columns ? w : columns;
    }
    if (rc < 0)
        return rc;
    /* block also takes the converted pixels, three bytes each */
    columns = columns > 2 * part->side ? columns : 2 * part->side;
    return s->columns >= columns && s->side == part->side ? 0 : make_scratch(s, columns, part->side);
}

void scale_yuv_close(struct scale_yuv *s)
{
    for (int c = 0; c < 2; c++) {
        av_freep(&s->x[c].start);
        av_freep(&s->x[c].w);
        av_freep(&s->y[c].start);
        av_freep(&s->y[c].w);
    }
    free_scratch(s);
    memset(s, 0, sizeof *s);
}

/* One row of the result's height from `taps` source rows of n pixels: 8.8 fixed point. */
VECTORISED static void add_rows_8(uint16_t *restrict out, const uint8_t *src, ptrdiff_t stride,
                                  const uint16_t *w, int taps, int n)
{
    memset(out, 0, (size_t)n * sizeof *out);
    for (int j = 0; j < taps; j++) {
        const uint8_t *restrict row = src + j * stride;
        uint16_t k = w[j];
        for (int x = 0; x < n; x++)
            out[x] = (uint16_t)(out[x] + (((uint32_t)(uint16_t)(row[x] << 8) * k) >> 16));
    }
}

VECTORISED static void add_rows_16(uint16_t *restrict out, const uint8_t *src, ptrdiff_t stride,
                                   const uint16_t *w, int taps, int n, int up)
{
    memset(out, 0, (size_t)n * sizeof *out);
    for (int j = 0; j < taps; j++) {
        const uint16_t *restrict row = (const uint16_t *)(const void *)(src + j * stride);
        uint16_t k = w[j];
        for (int x = 0; x < n; x++)
            out[x] = (uint16_t)(out[x] + (((uint32_t)(uint16_t)(row[x] << up) * k) >> 16));
    }
}

/* Columns side by side, so that the same weighted sum goes along the other axis. */
static void turn(uint16_t *block, const uint16_t *rows, int n, int side, int first, int count)
{
    for (int x = 0; x < n; x++)
        for (int l = 0; l < count; l++)
            block[x * side + first + l] = rows[l * n + x];
}

/* plane: [column][row]. */
static void scale_plane(struct scale_yuv *s, const AVFrame *f, int plane, int depth)
{
    const struct scale_axis *ax = &s->x[plane > 0], *ay = &s->y[plane > 0];
    int n = ax->to - ax->from, side = s->side, stride = f->linesize[plane];
    const uint8_t *src = f->data[plane] + ax->from * (depth > 8 ? 2 : 1) + (ptrdiff_t)ay->from * stride;
    for (int first = 0; first < side; first += TILE) {
        int count = side - first < TILE ? side - first : TILE;
        for (int l = 0; l < count; l++) {
            const uint8_t *at = src + (ptrdiff_t)ay->start[first + l] * stride;
            const uint16_t *w = ay->w + (first + l) * ay->taps;
            if (depth > 8)
                add_rows_16(s->rows + l * n, at, stride, w, ay->taps, n, 16 - depth);
            else
                add_rows_8(s->rows + l * n, at, stride, w, ay->taps, n);
        }
        turn(s->block, s->rows, n, side, first, count);
    }
    ptrdiff_t column = side * (ptrdiff_t)sizeof *s->block;
    for (int i = 0; i < side; i++)
        add_rows_16(s->plane[plane] + i * side, (const uint8_t *)s->block + ax->start[i] * column, column,
                    ax->w + i * ax->taps, ax->taps, side, 0);
}

/* Coefficients of 13 fraction bits, from swscale's tables of 16 (which are for limited range). */
struct matrix {
    int32_t y, y0, rv, gu, gv, bu;
};

static struct matrix matrix_of(const AVFrame *f, bool full_range)
{
    const int *t = sws_getCoefficients((int)f->colorspace);
    double y = 65536.0 * 255 / 219, c = 1;
    if (full_range) {
        y = 65536;
        c = 224.0 / 255;
    }
    return (struct matrix){.y = (int32_t)lrint(y / 8),
                           .y0 = full_range ? 0 : 16 << 8,
                           .rv = (int32_t)lrint(t[0] * c / 8),
                           .bu = (int32_t)lrint(t[1] * c / 8),
                           .gu = (int32_t)lrint(t[2] * c / 8),
                           .gv = (int32_t)lrint(t[3] * c / 8)};
}

static inline uint8_t byte_of(int32_t v)
{
    v = (v + (1 << 20)) >> 21;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

VECTORISED static void convert(const uint16_t *restrict y, const uint16_t *restrict u,
                               const uint16_t *restrict v, const struct matrix *m, int n, uint8_t *restrict r,
                               uint8_t *restrict g, uint8_t *restrict b)
{
    for (int i = 0; i < n; i++) {
        int32_t luma = m->y * (y[i] - m->y0), cu = u[i] - 32768, cv = v[i] - 32768;
        r[i] = byte_of(luma + m->rv * cv);
        g[i] = byte_of(luma - m->gu * cu - m->gv * cv);
        b[i] = byte_of(luma + m->bu * cu);
    }
}

static void interleave(uint8_t *restrict out, const uint8_t *restrict rgb, int side, bool transpose)
{
    int n = side * side;
    for (int y = 0; y < side; y++) {
        for (int x = 0; x < side; x++) {
            int at = transpose ? y * side + x : x * side + y;
            out[0] = rgb[at];
            out[1] = rgb[n + at];
            out[2] = rgb[2 * n + at];
            out += 3;
        }
    }
}

void scale_yuv_make(struct scale_yuv *s, const AVFrame *frame, bool full_range, bool transpose, uint8_t *out)
{
    int depth = av_pix_fmt_desc_get(frame->format)->comp[0].depth, n = s->side * s->side;
    struct matrix m = matrix_of(frame, full_range);
    for (int c = 0; c < 3; c++)
        scale_plane(s, frame, c, depth);
    uint8_t *rgb = (uint8_t *)s->block; /* at least as large */
    convert(s->plane[0], s->plane[1], s->plane[2], &m, n, rgb, rgb + n, rgb + 2 * n);
    interleave(out, rgb, s->side, transpose);
}
