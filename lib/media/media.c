#include "lib/media/media.h"

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
