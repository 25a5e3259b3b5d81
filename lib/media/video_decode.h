/* video_decode: the frames of clips: which of a video's frames they are, and their pixels.
 * Used by session. One thread. Owns, from job to job, scalers and packets.
 *
 * Frame rule, t = start_s counted from the first video frame. fps > 0: frame i is the last one with time <= t
 * + i / fps, the first frame if there is none before, the last one past the end. fps = 0: the T frames that
 * follow from the first with time >= t; where fewer remain the last T of the video; a video of fewer than T
 * repeats its last one. Times are compared with a tolerance of a microsecond, so that a clip time that was
 * computed in floating point still meets its frame. A video that ends before the clip does is treated as
 * recipe.short_clip says; a still picture has no end. */
#pragma once
#include "lib/media/augment.h"
#include "lib/media/input.h"
#include "lib/media/picture.h"
#include "lib/media/video_plan.h"

struct video_decoder {
    struct picture picture;
    struct video_plan plan;
};

/* One clip, and what became of it. */
struct video_clip {
    const struct media_clip *clip;
    struct augment augment;
    uint8_t *out;   /* [T, P, P, 3] */
    uint32_t flags; /* enum media_flag */
    int reason;     /* enum media_reason, and then a sentence in err */
    struct err err;
};

/* Safe on a zeroed struct. */
void video_decoder_close(struct video_decoder *v);
/* How many of the job's clips, from the first one given, are best decoded in one pass: they lie one after the
 * other behind the same key frame. At least 1. */
uint32_t video_decode_together(const struct input *in, const struct media_job *job, uint32_t first);
/* in->video >= 0. What the stream's frames are scaled to, going by its header: in v->picture, which after a
 * decoding tells whether one was otherwise. A reason: they cannot be. */
int video_decode_size(struct video_decoder *v, const struct input *in, const struct media_recipe *r,
                      struct err *e) WARN_UNUSED;
/* in->video >= 0, origin found. Decodes n clips that video_decode_together named. */
void video_decode(struct video_decoder *v, struct input *in, const struct media_job *job,
                  struct video_clip *clips, uint32_t n);
