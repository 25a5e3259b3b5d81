/* augment: the random choices that turn a clip into one training view: size, crop, flip, shift of the sound,
 * time mask. Used by the media worker. Pure. All values come from the clip's augment_seed, by seven uniforms
 * in a fixed order: size, crop x, crop y, flip, audio shift, mask length, mask start. Always seven, whatever
 * the recipe asks. */
#pragma once
#include "lib/media/media.h"

struct augment {
    uint32_t short_side; /* pixels of the scaled picture's short side */
    double crop_u[2];    /* x, y in [0, 1): where the crop lies; used when augmenting */
    bool flip;
    double audio_shift_s;
    uint32_t mask_start, mask_frames;
};

struct augment_window {
    int width, height; /* of the scaled picture */
    int x, y;          /* the crop's upper left corner in it; may lie outside */
};

/* recipe->augment false: the smallest size, the centre, no flip, no shift, no mask. */
void augment_draw(const struct media_recipe *r, uint64_t seed, struct augment *out);

/* Scaled size and crop for a displayed picture of width x height pixels (both positive). */
void augment_place(const struct augment *a, const struct media_recipe *r, int width, int height,
                   struct augment_window *out);

/* The crop alone, in a picture that has that size already. */
void augment_crop(const struct augment *a, const struct media_recipe *r, int width, int height,
                  struct augment_window *out);

/* Puts the mean of logmel [40, 100] into its masked columns. */
void augment_mask(const struct augment *a, float *logmel);
