/* sample: any message with any raw frames is taken only if both frames have the sizes that were asked for,
 * the sound is finite and the hash is theirs. Input: a byte of wishes, two bytes of the envelope's size, the
 * envelope, then the frames' bytes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "services/trainer/sample_check.h"
#include "tests/fuzz/fuzz.h"

#define VIDEO_BYTES 96

/* A frame of its own, so that a byte read beyond it is seen. */
static struct wire_frame cut(const uint8_t **data, size_t *size, size_t most)
{
    size_t n = *size < most ? *size : most;
    uint8_t *copy = malloc(n + 1);
    if (!copy)
        abort();
    memcpy(copy, *data, n);
    *data += n;
    *size -= n;
    return (struct wire_frame){realloc(copy, n ? n : 1), n};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    struct sample_shape shape = {data[0] & 1, (data[0] >> 1) & 1, VIDEO_BYTES};
    size_t n_raw = (data[0] >> 2) % (WIRE_RAW_FRAMES_MAX + 1), length = data[1] | (size_t)data[2] << 8;
    data += 3;
    size -= 3;
    length = length < size ? length : size;
    Xdc__Envelope *env = xdc__envelope__unpack(NULL, length, data);
    data += length;
    size -= length;
    struct wire_frame raw[WIRE_RAW_FRAMES_MAX] = {{0}};
    for (size_t i = 0; i < n_raw; i++)
        raw[i] = cut(&data, &size, i + 1 < n_raw ? VIDEO_BYTES : 16000);
    const void *video, *audio;
    if (env && env->body_case == XDC__ENVELOPE__BODY_SAMPLE &&
        sample_check(&shape, env->sample, raw, n_raw, &video, &audio)) {
        if (shape.video != (video != NULL) || shape.audio != (audio != NULL) ||
            n_raw != (size_t)shape.video + shape.audio)
            abort();
        for (int i = 0; audio && i < MEDIA_AUDIO_FLOATS; i++) {
            float x;
            memcpy(&x, (const uint8_t *)audio + (size_t)i * sizeof x, sizeof x);
            if (!isfinite(x))
                abort();
        }
    }
    for (size_t i = 0; i < n_raw; i++)
        free((void *)(uintptr_t)raw[i].data);
    if (env)
        xdc__envelope__free_unpacked(env, NULL);
    return 0;
}
