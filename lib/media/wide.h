/* wide: a clip as it is before anything random is done to it, with what lies around the crop of its frames
 * and around the window of its sound, so that every training view of the clip can be cut from it, bit for bit
 * what a decoding makes. Used by session, which makes wide clips and cuts from them, and by the decoder's
 * clip cache, which keeps them between epochs. Pure. A part is WIDE_HEAD bytes of head, then frames u8 [T, h,
 * w, 3] RGB, or f32 samples; it never leaves the host and build that made it. */
#pragma once
#include "lib/media/augment.h"
#include "lib/media/media.h"

#define WIDE_HEAD 128
#define WIDE_ASPECT_MAX 2 /* longer pictures whose crop may lie anywhere are not kept */

struct wide_video {
    uint32_t frames, flags; /* T, enum media_flag */
    int32_t width, height;  /* of the scaled picture */
    int32_t x, y, w, h;     /* what of it is here */
};

/* Whether a recipe's views can be cut from wide clips: whether their pictures are of one size. */
bool wide_serves(const struct media_recipe *r);
/* Most bytes of a wide frame while it is made. */
uint64_t wide_frame_max(const struct media_recipe *r);
/* f32 samples of 16 kHz, at most. */
uint64_t wide_samples_max(const struct media_recipe *r);
/* What a wide clip has of pictures that are scaled to that size, and the job that decodes it: a larger crop,
 * in the middle, nothing else done to it. False: no such clip is made. */
bool wide_plan(const struct media_job *job, int width, int height, struct wide_video *out,
               struct media_job *out_job);
/* Frames of the planned job to those of the head, in place; returns their bytes. */
uint64_t wide_pack(const struct wide_video *head, const struct media_job *planned, uint8_t *frames);
/* The view out [P, P, 3] of a frame, cropped and flipped as `a` says. False: it is not all there. */
bool wide_cut(const struct wide_video *head, const struct media_recipe *r, const struct augment *a,
              const uint8_t *frame, uint8_t *out);
