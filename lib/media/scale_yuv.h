/* scale_yuv: the crop of a planar YUV picture as small RGB, without making the rest: every plane is scaled
 * straight to the P x P pixels that are wanted, then those are converted. The filter is swscale's bilinear
 * one (a triangle as wide as two pixels of the smaller picture, ends repeated, chroma in the middle of its
 * luma), in 16-bit fixed point, the same on every CPU. Used by picture. One thread. Owns tables and scratch.
 */
#pragma once
#include <libavutil/frame.h>
#include <stdbool.h>
#include <stdint.h>

/* Weights of one axis of one plane: pixel i of the result is the sum over j < taps of w[i * taps + j] *
 * source pixel from + start[i] + j. */
struct scale_axis {
    int n, taps;
    int from, to; /* the source pixels that are read: [from, to) */
    int *start;   /* owned */
    uint16_t *w;  /* owned; sum 65535 or 65536 of 65536 */
    int capacity; /* of w */
};

/* The wanted part of the scaled picture, as it is stored (not yet turned): result pixel i of a row is scaled
 * column x[i], row i is scaled row y[i]. */
struct scale_part {
    int width, height; /* of the scaled picture */
    int side;          /* P */
    const int *x, *y;
};

struct scale_yuv {
    struct scale_axis x[2], y[2]; /* luma, chroma */
    uint16_t *rows;               /* owned: some rows of the result's height */
    uint16_t *block;              /* owned: all of them, turned */
    uint16_t *plane[3];           /* owned: [P, P], turned */
    int columns, side;
};

/* Whether the frame's format is one of those: planar YUV of 8 to 16 bits in the machine's byte order. */
bool scale_yuv_can(const AVFrame *frame);
/* Tables for pictures of this frame's size and format. 0, -ENOMEM, or -ENOTSUP for one that is more than a
 * hundred times too large. */
int scale_yuv_begin(struct scale_yuv *s, const AVFrame *frame, const struct scale_part *part);
/* out [P, P, 3], or its transpose. The frame is like the one given to begin. full_range: luma 0 to 255. */
void scale_yuv_make(struct scale_yuv *s, const AVFrame *frame, bool full_range, bool transpose, uint8_t *out);
void scale_yuv_close(struct scale_yuv *s);
