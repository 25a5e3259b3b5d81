#include "lib/media/media.h"

#include "lib/media/wide.h"

static uint64_t align64(uint64_t n)
{
    return (n + 63) & ~(uint64_t)63;
}

uint64_t media_slot_bytes(const struct media_recipe *r)
{
    uint64_t video = r->want_video ? (uint64_t)r->frames * r->crop * r->crop * 3 : 0;
    uint64_t audio = r->want_audio ? MEDIA_AUDIO_FLOATS * sizeof(float) : 0;
    return align64(video) + align64(audio);
}

uint64_t media_wide_bytes(const struct media_job *job, enum media_part part)
{
    const struct media_recipe *r = &job->recipe;
    if (part == MEDIA_PART_VIDEO)
        return r->want_video ? align64(WIDE_HEAD + wide_frame_max(r) * r->frames) : 0;
    return r->want_audio ? align64(WIDE_HEAD + wide_samples_max(r) * sizeof(float)) : 0;
}

uint64_t media_clip_bytes(const struct media_job *job)
{
    uint64_t bytes = media_slot_bytes(&job->recipe);
    bool wide = job->keep || job->kind == MEDIA_JOB_CUT;
    for (int part = 0; wide && part < MEDIA_PARTS; part++)
        bytes += media_wide_bytes(job, part);
    return bytes;
}

uint64_t media_wide_offset(const struct media_job *job, uint32_t clip, enum media_part part)
{
    uint64_t offset = clip * media_clip_bytes(job) + media_slot_bytes(&job->recipe);
    return part == MEDIA_PART_VIDEO ? offset : offset + media_wide_bytes(job, MEDIA_PART_VIDEO);
}
