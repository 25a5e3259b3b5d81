/* logmel: the log-mel front ends: two seconds of 16 kHz sound to a [40, 100] picture.
 * Used by session. One thread per struct. Owns its tables and FFTs. Never fails after creation.
 *
 * MEDIA_FRONTEND_LOGMEL is algorithms.md 1.5 [R], torchaudio's MelSpectrogram(16000, n_fft=512,
 * win_length=400, hop_length=320, n_mels=40, f_min=0, f_max=8000, power=2, mel_scale="htk", norm=None),
 * its first 100 frames, and ln(x + 1e-6). MEDIA_FRONTEND_VMZ is algorithms.md 1.5's table of VMZ: windows of
 * 256 samples every 10 ms, of which resizing to 100 frames takes every other one; triangles of sum 1 over
 * bins 0 to 127, bin 0 being DC + Nyquist; x times a gain, then ln x above e, x / e below. */
#pragma once
#include "lib/err.h"
#include "lib/media/media.h"

#define LOGMEL_RATE 16000
#define LOGMEL_SAMPLES (2 * LOGMEL_RATE)

struct logmel;

/* 0 or -ENOMEM. */
int logmel_create(struct logmel **out, struct err *e) WARN_UNUSED;
/* Accepts NULL. */
void logmel_destroy(struct logmel *l);

/* Power of mel filter m in frame t, before gain and log: out [40, 100]. wave has LOGMEL_SAMPLES samples. */
void logmel_power(struct logmel *l, enum media_frontend frontend, const float *wave, float *out);
/* The picture: out [40, 100]. */
void logmel_compute(struct logmel *l, enum media_frontend frontend, const float *wave, float *out);
