/* audio_decode: the two seconds of sound around a clip, as 16 kHz mono samples.
 * Used by session. One thread. Owns, from clip to clip, a resampler.
 * The window starts at clamp(clip centre - 1 s + shift, 0, duration - 2 s) on the video's clock
 * (algorithms.md 1.5 [R]); samples are placed by their time stamps, what is missing is silence, several
 * channels become their mean. Where the sound ends before the window, recipe.short_clip says what follows.
 * Decoding starts so far before the window that the samples are those of a decoding from the beginning, but
 * for codecs that fill in noise (AAC's PNS) or predict without end (Opus). */
#pragma once
#include <libswresample/swresample.h>
#include "lib/media/augment.h"
#include "lib/media/input.h"

/* A zeroed struct is ready. */
struct audio_decoder {
    SwrContext *swr;        /* owned */
    AVChannelLayout layout; /* owned: what swr was made for, with format and rate */
    int format, rate;
    float *scratch; /* owned */
    int scratch_samples;
};

void audio_decoder_close(struct audio_decoder *d);

/* Where the window starts. */
double audio_window_start(const struct input *in, const struct media_job *job, const struct media_clip *clip,
                          const struct augment *a);

/* in->audio >= 0, origin found. wave [LOGMEL_SAMPLES]; *flags gains enum media_flag. 0 or an enum
 * media_reason and a sentence; the wave is usable after 0 and MEDIA_AUDIO_SILENT. */
int audio_decode(struct audio_decoder *kept, struct input *in, const struct media_job *job,
                 const struct media_clip *clip, const struct augment *aug, float *wave, uint32_t *flags,
                 struct err *e) WARN_UNUSED;
/* What stands for sound that is not there: silence, and MEDIA_FLAG_SILENT. */
void audio_silence(float *wave, uint32_t *flags);
