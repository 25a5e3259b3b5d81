#include "lib/media/wide.h"

#include <math.h>
#include <string.h>
#include "lib/media/logmel.h"

#define CROP_MAX 4096

_Static_assert(sizeof(struct wide_video) <= WIDE_HEAD, "the head of wide frames");

bool wide_serves(const struct media_recipe *r)
{
    return !r->augment || r->resize_min == r->resize_max;
}

static uint64_t side_max(const struct media_recipe *r)
{
    if (r->crop_jitter_px < 0)
        return (uint64_t)r->resize_min * WIDE_ASPECT_MAX;
    return (uint64_t)r->crop + 2 * (uint64_t)r->crop_jitter_px;
}

uint64_t wide_frame_max(const struct media_recipe *r)
{
    return side_max(r) * side_max(r) * 3;
}

uint64_t wide_samples_max(const struct media_recipe *r)
{
    return LOGMEL_SAMPLES + (uint64_t)ceil(2 * fabs(r->audio_shift_s) * LOGMEL_RATE) + 1;
}

/* Of a side of the picture: from where on, and how far, crops around the middle one at `at` reach. What lies
 * outside the picture repeats its edge. */
static void reach(const struct media_recipe *r, int at, int side, int32_t *out_from, int32_t *out_n)
{
    int from = r->crop_jitter_px < 0 ? 0 : at - r->crop_jitter_px;
    int to = r->crop_jitter_px < 0 ? side : at + (int)r->crop + r->crop_jitter_px;
    *out_from = from > 0 ? from : 0;
    *out_n = (to < side ? to : side) - *out_from;
}

bool wide_plan(const struct media_job *job, int width, int height, struct wide_video *out,
               struct media_job *out_job)
{
    struct media_recipe *r = &out_job->recipe;
    struct augment_window middle;
    *out_job = *job;
    r->resize_max = r->resize_min;
    r->augment = false;
    r->degrade = 0;
    augment_crop(&(struct augment){0}, r, width, height, &middle);
    *out = (struct wide_video){.frames = r->frames, .width = width, .height = height};
    reach(r, middle.x, width, &out->x, &out->w);
    reach(r, middle.y, height, &out->y, &out->h);
    uint64_t most = side_max(r);
    if (r->crop_jitter_px < 0)
        r->crop = (uint32_t)(width > height ? width : height);
    else
        r->crop += 2 * (uint32_t)r->crop_jitter_px;
    return width > 0 && height > 0 && r->crop <= most && r->crop <= CROP_MAX;
}

uint64_t wide_pack(const struct wide_video *head, const struct media_job *planned, uint8_t *frames)
{
    struct augment_window made;
    size_t side = planned->recipe.crop, row = (size_t)head->w * 3;
    augment_crop(&(struct augment){0}, &planned->recipe, head->width, head->height, &made);
    uint8_t *to = frames;
    for (uint32_t i = 0; i < head->frames; i++)
        for (int y = head->y; y < head->y + head->h; y++, to += row) {
            size_t from = (i * side + (size_t)(y - made.y)) * side + (size_t)(head->x - made.x);
            memmove(to, frames + from * 3, row);
        }
    return (uint64_t)(to - frames);
}

static int clamp(int v, int n)
{
    return v < 0 ? 0 : v < n ? v : n - 1;
}

/* Row of the head's frame, or column, that pixel i of a crop at `at` is; -1: it is not there. */
static int here(int at, int i, int side, int32_t from, int32_t n)
{
    int p = clamp(at + i, side) - from;
    return p >= 0 && p < n ? p : -1;
}

bool wide_cut(const struct wide_video *head, const struct media_recipe *r, const struct augment *a,
              const uint8_t *frame, uint8_t *out)
{
    struct augment_window at;
    int side = (int)r->crop, row[CROP_MAX], column[CROP_MAX];
    if (side < 1 || side > CROP_MAX)
        return false;
    augment_crop(a, r, head->width, head->height, &at);
    for (int i = 0; i < side; i++) {
        column[i] = here(at.x, a->flip ? side - 1 - i : i, head->width, head->x, head->w);
        row[i] = here(at.y, i, head->height, head->y, head->h);
        if (column[i] < 0 || row[i] < 0)
            return false;
    }
    bool run = column[side - 1] - column[0] == side - 1; /* neighbours stay neighbours */
    for (int y = 0; y < side; y++) {
        const uint8_t *from = frame + (size_t)row[y] * (size_t)head->w * 3;
        uint8_t *to = out + (size_t)y * (size_t)side * 3;
        if (run)
            memcpy(to, from + (size_t)column[0] * 3, (size_t)side * 3);
        for (int x = 0; !run && x < side; x++)
            memcpy(to + (size_t)x * 3, from + (size_t)column[x] * 3, 3);
    }
    return true;
}
