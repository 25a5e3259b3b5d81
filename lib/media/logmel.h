/* logmel: the log-mel front end: two seconds of 16 kHz sound to a [40, 100] picture (algorithms.md 1.5 [R]).
 * Used by the media worker. One thread per struct. Owns its tables and FFT. Never fails after creation. */
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

/* Power of mel filter m in frame t, before the log: out [40, 100]. wave has LOGMEL_SAMPLES samples. */
void logmel_power(struct logmel *l, const float *wave, float *out);
/* Natural log of that + 1e-6: out [40, 100]. */
void logmel_compute(struct logmel *l, const float *wave, float *out);
