/* picture: decoded frames to the P x P RGB pictures of a sample: turn, scale, crop, flip.
 * Used by video_decode inside the media worker; kept from job to job, for making a scaler costs as much as
 * decoding several frames. One thread. Owns scalers and scratch picture. Functions return 0 or an enum
 * media_reason and a sentence.
 *
 * The displayed picture has square pixels and is upright: width x sample aspect ratio, turned as the display
 * matrix says. Its short side becomes short_side pixels, the other one in proportion, rounded
 * (augment_place). Exact: swscale from the stored frame to that size with SWS_BILINEAR | SWS_ACCURATE_RND |
 * SWS_FULL_CHR_H_INT | SWS_BITEXACT into RGB24, with the frame's own colour matrix (BT.601 where it names
 * none) and range; then turned, cropped, flipped. Fast: scale_yuv makes the crop alone, with the same filter.
 */
#pragma once
#include <libavutil/frame.h>
#include <libswscale/swscale.h>
#include "lib/media/augment.h"
#include "lib/media/fault.h"
#include "lib/media/scale_yuv.h"

/* What a scaler was made for. */
struct picture_shape {
    int width, height, format, space, range; /* of the frame */
    AVRational sar;
    int quarter_turns, side;
    bool flip;
    struct augment_window window;
};

struct picture {
    const struct media_recipe *recipe; /* borrowed, like augment */
    const struct augment *augment;
    AVRational sar;         /* of the stream, for frames that name none */
    int quarter_turns;      /* clockwise, 0..3, from the stored to the displayed picture */
    struct SwsContext *sws; /* owned */
    uint8_t *rgb;           /* owned: the scaled, not yet turned picture */
    int out_width, out_height, stride;
    struct scale_yuv scale;
    uint8_t *coarse; /* owned: scratch of degrade, for pictures of coarse_side */
    int coarse_side;
    struct picture_shape exact, fast; /* what sws and scale are for; zeroed: nothing */
    int usual_width, usual_height;    /* of scaled pictures, as picture_size told; 0: not asked */
    bool unusual;                     /* one has come of another size */
};

/* MEDIA_BAD_DIMENSIONS for a side of 0 or more than 16384 pixels, or more than 2^26 pixels. */
int picture_check_size(int width, int height, struct err *e) WARN_UNUSED;
/* The next pictures are of another clip; a zeroed struct is ready for its first one. r and a are borrowed
 * until the next. */
void picture_begin(struct picture *p, const struct media_recipe *r, const struct augment *a, AVRational sar,
                   int quarter_turns);
/* The size to which frames like this one are scaled (sar: their own, as in AVFrame) goes to usual_width and
 * usual_height. From now on another one is noted in `unusual`. 0, or a reason for sizes that cannot be. */
int picture_size(struct picture *p, int width, int height, AVRational sar, struct err *e) WARN_UNUSED;
void picture_close(struct picture *p);
/* out [P, P, 3], with the recipe's degrade applied. */
int picture_make(struct picture *p, const AVFrame *frame, uint8_t *out, struct err *e) WARN_UNUSED;
/* The recipe's degrade alone, in place; of any recipe. */
int picture_degrade(struct picture *p, const struct media_recipe *r, uint8_t *rgb, struct err *e) WARN_UNUSED;
