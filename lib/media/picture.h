/* picture: decoded frames to the P x P RGB pictures of a sample: turn, scale, crop, flip.
 * Used by video_decode inside the media worker; kept from job to job, for making a scaler costs as much as
 * decoding several frames. One thread. Owns scaler and scratch picture. Functions return 0 or an enum
 * media_reason and a sentence. */
#pragma once
#include <libavutil/frame.h>
#include <libswscale/swscale.h>
#include "lib/media/augment.h"
#include "lib/media/fault.h"

struct picture {
    const struct media_recipe *recipe; /* borrowed, like augment */
    const struct augment *augment;
    int quarter_turns;      /* clockwise, 0..3, from the stored to the displayed picture */
    struct SwsContext *sws; /* owned */
    int in_width, in_height, in_format, in_space, in_full_range; /* what sws was made for */
    int out_width, out_height, stride;                           /* the scaled, not yet turned picture */
    uint8_t *rgb;                                                /* owned */
};

/* MEDIA_BAD_DIMENSIONS for a side of 0 or more than 16384 pixels, or more than 2^26 pixels. */
int picture_check_size(int width, int height, struct err *e) WARN_UNUSED;
/* The next pictures are of another clip; a zeroed struct is ready for its first one. r and a are borrowed
 * until the next. */
void picture_begin(struct picture *p, const struct media_recipe *r, const struct augment *a,
                   int quarter_turns);
void picture_close(struct picture *p);
/* out [P, P, 3]. */
int picture_make(struct picture *p, const AVFrame *frame, uint8_t *out, struct err *e) WARN_UNUSED;
