/* audio_decode: the two seconds of sound around a clip, as 16 kHz mono samples.
 * Used by the media worker. One thread. Owns nothing after it returns.
 * The window starts at clamp(clip centre - 1 s + shift, 0, duration - 2 s) on the video's clock
 * (algorithms.md 1.5 [R]); samples are placed by their time stamps, what is missing is silence, several
 * channels become their mean. */
#pragma once
#include "lib/media/augment.h"
#include "lib/media/input.h"

/* Where the window starts. */
double audio_window_start(const struct input *in, const struct media_job *job, const struct media_clip *clip,
                          const struct augment *a);

/* in->audio >= 0, origin found. wave [LOGMEL_SAMPLES]. 0 or an enum media_reason and a sentence; the wave is
 * usable after 0 and MEDIA_AUDIO_SILENT. */
int audio_decode(struct input *in, const struct media_job *job, const struct media_clip *clip,
                 const struct augment *a, float *wave, struct err *e) WARN_UNUSED;
