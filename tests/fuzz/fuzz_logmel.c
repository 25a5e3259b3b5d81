/* logmel: any samples give a picture without leaving a buffer; samples that the decoder lets through give
 * finite numbers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lib/media/logmel.h"
#include "tests/fuzz/fuzz.h"

#define LOUDEST 1e9f /* audio_decode lets nothing louder through */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct logmel *front;
    float *wave = malloc(LOGMEL_SAMPLES * sizeof *wave), *out = malloc(MEDIA_AUDIO_FLOATS * sizeof *out);
    struct err e;
    if (!wave || !out || (!front && logmel_create(&front, &e) < 0))
        abort();
    bool sound = true;
    for (size_t i = 0; i < LOGMEL_SAMPLES; i++) {
        float x = 0;
        if (size >= sizeof x)
            memcpy(&x, data + i * sizeof x % (size - sizeof x + 1), sizeof x);
        wave[i] = x;
        sound &= fabsf(x) < LOUDEST;
    }
    for (int frontend = MEDIA_FRONTEND_LOGMEL; frontend <= MEDIA_FRONTEND_VMZ; frontend++) {
        logmel_compute(front, (enum media_frontend)frontend, wave, out);
        for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++)
            if (sound && !isfinite(out[i]))
                abort();
    }
    free(wave);
    free(out);
    return 0;
}
