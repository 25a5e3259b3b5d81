#include "services/trainer/sample_check.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

/* Frames of a message need not be aligned. */
static bool all_finite(const uint8_t *data)
{
    bool finite = true;
    for (unsigned i = 0; i < MEDIA_AUDIO_FLOATS; i++) {
        float x;
        memcpy(&x, data + i * sizeof x, sizeof x);
        finite &= isfinite(x) != 0;
    }
    return finite;
}

bool sample_check(const struct sample_shape *shape, const Xdc__Sample *s, const struct wire_frame *raw,
                  size_t n_raw, const void **out_video, const void **out_audio)
{
    const size_t audio_bytes = MEDIA_AUDIO_FLOATS * sizeof(float);
    size_t used = 0;
    *out_video = *out_audio = NULL;
    if (n_raw != (size_t)shape->video + shape->audio)
        return false;
    if (shape->video) {
        const struct wire_frame *f = &raw[used++];
        if (f->size != shape->video_bytes || s->video_bytes != f->size)
            return false;
        *out_video = f->data;
    }
    if (shape->audio) {
        const struct wire_frame *f = &raw[used++];
        if (f->size != audio_bytes || s->audio_bytes != f->size || !all_finite(f->data))
            return false;
        *out_audio = f->data;
    }
    XXH3_state_t *hash = XXH3_createState();
    bool good = hash && XXH3_64bits_reset(hash) == XXH_OK;
    for (size_t i = 0; good && i < used; i++)
        XXH3_64bits_update(hash, raw[i].data, raw[i].size);
    good = good && XXH3_64bits_digest(hash) == s->hash;
    XXH3_freeState(hash);
    return good;
}
