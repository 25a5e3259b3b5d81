/* audio_decode: the sound around a clip, as 16 kHz mono samples, and the two seconds of it that a view takes.
 * Used by session. One thread. Owns, from clip to clip, a resampler.
 * The window of a view starts at clamp(clip centre - 1 s + shift, 0, duration - 2 s) on the video's clock
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

/* Samples that hold all windows of some shifts, and what else decides what a window is. */
struct audio_span {
    int64_t first; /* of the clip's clock, in samples of 16 kHz */
    int64_t samples;
    int32_t none;      /* not 0: there is no audio stream */
    int32_t ended;     /* not 0: the sound ends at end_s; else it goes on behind the span */
    int32_t fault;     /* AVERROR of a stream of which nothing could be decoded; 0 */
    double end_s;      /* clip time */
    double stream_s;   /* as its own header says; 0: unknown */
    double duration_s; /* of the file; 0: unknown */
    double fps;        /* of the clip */
};

/* Origin found. All that the recipe's shifts may want: always, so that a view is the same whatever its own
 * shift is, and whether or not it is cut from a clip that was kept (where decoding begins shows in codecs'
 * noise, and in time stamps that are rounded). wave [wide_samples_max]. 0 or an enum media_reason and a
 * sentence. */
int audio_decode(struct audio_decoder *kept, struct input *in, const struct media_job *job,
                 const struct media_clip *clip, float *wave, struct audio_span *out,
                 struct err *e) WARN_UNUSED;
/* The view's window: out [LOGMEL_SAMPLES]; *flags gains
 * enum media_flag. 0 or an enum media_reason and a sentence; out is usable after 0 and MEDIA_AUDIO_SILENT. */
int audio_window(const struct audio_span *s, const float *wave, const struct media_job *job,
                 const struct media_clip *clip, const struct augment *a, float *out, uint32_t *flags,
                 struct err *e) WARN_UNUSED;
