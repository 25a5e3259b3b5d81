#include "lib/media/augment.h"

#include <math.h>
#include "lib/rng.h"

/* Uniform in 0..n-1 out of u in [0, 1): one draw a value, unlike rng_below, so that the number of draws is
 * fixed. */
static int64_t pick(double u, int64_t n)
{
    int64_t i = (int64_t)floor(u * (double)n);
    return i < n ? i : n - 1;
}

void augment_draw(const struct media_recipe *r, uint64_t seed, struct augment *out)
{
    struct rng g;
    rng_init(&g, seed);
    double u[7];
    for (int i = 0; i < 7; i++)
        u[i] = rng_uniform(&g);
    *out = (struct augment){.short_side = r->resize_min, .crop_u = {u[1], u[2]}};
    if (!r->augment)
        return;
    if (r->resize_max > r->resize_min)
        out->short_side += (uint32_t)pick(u[0], (int64_t)r->resize_max - r->resize_min + 1);
    out->flip = u[3] < r->flip_probability;
    out->audio_shift_s = (2 * u[4] - 1) * r->audio_shift_s;
    uint32_t longest = r->time_mask_frames < MEDIA_MEL_FRAMES ? r->time_mask_frames : MEDIA_MEL_FRAMES;
    out->mask_frames = (uint32_t)pick(u[5], (int64_t)longest + 1);
    out->mask_start = (uint32_t)pick(u[6], (int64_t)MEDIA_MEL_FRAMES - out->mask_frames + 1);
}

static int floor_half(int n)
{
    return n >= 0 ? n / 2 : -((1 - n) / 2);
}

static int place(double u, const struct media_recipe *r, int side)
{
    int room = side - (int)r->crop;
    if (!r->augment)
        return floor_half(room);
    if (r->crop_jitter_px >= 0)
        return floor_half(room) + (int)(pick(u, 2 * (int64_t)r->crop_jitter_px + 1) - r->crop_jitter_px);
    return room > 0 ? (int)pick(u, (int64_t)room + 1) : floor_half(room);
}

void augment_crop(const struct augment *a, const struct media_recipe *r, int width, int height,
                  struct augment_window *out)
{
    *out = (struct augment_window){.width = width,
                                   .height = height,
                                   .x = place(a->crop_u[0], r, width),
                                   .y = place(a->crop_u[1], r, height)};
}

void augment_place(const struct augment *a, const struct media_recipe *r, int width, int height,
                   struct augment_window *out)
{
    int64_t s = a->short_side;
    int scaled_width = (int)(width <= height ? s : (s * width + height / 2) / height);
    int scaled_height = (int)(width <= height ? (s * height + width / 2) / width : s);
    augment_crop(a, r, scaled_width, scaled_height, out);
}

void augment_mask(const struct augment *a, float *logmel)
{
    double sum = 0;
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++)
        sum += (double)logmel[i];
    float mean = (float)(sum / MEDIA_AUDIO_FLOATS);
    for (uint32_t m = 0; m < MEDIA_MELS; m++)
        for (uint32_t t = 0; t < a->mask_frames; t++)
            logmel[m * MEDIA_MEL_FRAMES + a->mask_start + t] = mean;
}
