/* video_decode: the frames of a clip: which of a video's frames they are, and their pixels.
 * Used by the media worker. One thread. Owns nothing after it returns.
 *
 * Frame rule, t = start_s counted from the first video frame. fps > 0: frame i is the last one with time <= t
 * + i / fps, the first frame if there is none before, the last one past the end. fps = 0: the T frames that
 * follow from the first with time >= t; where fewer remain the last T of the video; a video of fewer than T
 * repeats its last one. Times are compared with a tolerance of a microsecond, so that a clip time that was
 * computed in floating point still meets its frame. */
#pragma once
#include "lib/media/augment.h"
#include "lib/media/input.h"
#include "lib/media/picture.h"

/* in->video >= 0, origin found. p is kept between clips. out [T, P, P, 3]. 0 or an enum media_reason and a
 * sentence. */
int video_decode(struct input *in, const struct media_job *job, const struct media_clip *clip,
                 const struct augment *a, struct picture *p, uint8_t *out, struct err *e) WARN_UNUSED;
