/* synth: made-up video clips with sound whose event classes are known: pictures, PCM, and H.264 + AAC mp4
 * files of them. Used by `xdc synth` and by tests. Any thread; struct synth_clip is plain data and owns
 * nothing. Everything is a pure function of (seed, index, classes). synth_write fails with a sentence and
 * leaves no file behind.
 *
 * An event class pairs one shape and its motion with one timbre and its rhythm; it is in no pixel or mel band
 * by itself. What else is seen and heard carries no class: background, colours, contrast, position, size,
 * speed, pitch, loudness, noise. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

#define SYNTH_SHAPES 8
#define SYNTH_CLASSES_MAX (SYNTH_SHAPES * SYNTH_SHAPES)
#define SYNTH_FPS 30
#define SYNTH_GRATINGS 4
#define SYNTH_WIDTH_MAX 176
#define SYNTH_HEIGHT_MAX 144

enum synth_flaw {
    SYNTH_SOUND = 0, /* no flaw */
    SYNTH_SILENT,    /* a sound track of zeros */
    SYNTH_SHORT,     /* under a second */
    SYNTH_TRUNCATED, /* cut at 40 % of its bytes; odd indices have moov in front and lose the tail, even ones
                        lose moov */
    SYNTH_NO_AUDIO,  /* no sound track */
    SYNTH_FLAWS      /* count */
};

/* One wave of the background: whole numbers of cycles, so that the texture can drift around. */
struct synth_grating {
    int cycles_x, cycles_y;
    double phase, amplitude;
};

/* What is seen; lengths in units of the picture's height, angles in radians. */
struct synth_look {
    uint32_t shape, motion;
    double x, y, radius, angle;    /* rest position, half size, tilt */
    double reach, period_s, phase; /* of the motion */
    double ink[3], paper[3];       /* colours, 0..255 */
    struct synth_grating grating[SYNTH_GRATINGS];
    double tint[3];          /* of the waves */
    double drift_x, drift_y; /* of the background, pixels a second */
    double grain;            /* deviation of the noise, 0..255 */
    uint64_t noise_key;
};

/* What is heard. */
struct synth_voice {
    uint32_t timbre, rhythm;
    double pitch_hz, tempo, offset_s; /* tempo 1 is the rhythm as written */
    double gain, noise_gain;          /* amplitudes */
    double noise_tilt;                /* 0: white; near 1: brown */
    double hum_hz, hum_gain;
    uint64_t noise_key;
};

struct synth_clip {
    uint64_t seed, index;
    uint32_t label; /* the class */
    uint32_t width, height, frames;
    uint32_t sample_rate, samples;
    uint32_t gop;
    enum synth_flaw flaw;
    struct synth_look look;
    struct synth_voice voice;
};

/* Draws clip `index` of `classes` (2..SYNTH_CLASSES_MAX) classes. */
void synth_clip_init(struct synth_clip *c, uint64_t seed, uint64_t index, uint32_t classes);

/* Makes it a flawed clip; flaw_index tells the two kinds of truncation apart. */
void synth_clip_spoil(struct synth_clip *c, enum synth_flaw flaw, uint64_t flaw_index);

/* "silent", "short", "truncated", "noaudio"; "none" for a sound clip. */
const char *synth_flaw_name(enum synth_flaw flaw);

/* Every fifth clip is for testing. */
bool synth_is_test(uint64_t index);

/* Draws frame t (at t / 30 s) into rgb [height, width, 3]. Pure. */
void synth_frame(const struct synth_clip *c, uint32_t t, uint8_t *rgb);

/* The whole sound, mono, into pcm [samples], within -1..1. Pure. */
void synth_sound(const struct synth_clip *c, float *pcm);

/* Encodes the clip to an mp4 file at `path`, by way of "<path>.part". Silences FFmpeg's own log for the
 * process: what goes wrong is in the sentence. */
int synth_write(const struct synth_clip *c, const char *path, struct err *e) WARN_UNUSED;
