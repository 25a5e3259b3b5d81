/* media: the jobs a media worker does, and their results: probe a file, decode a clip. FFmpeg stays behind
 * it. Used by the decoder's pool, index, `xdc decode` (all through lib/media/child.h) and the worker itself.
 * Pure data. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/media/codes.h"

#define MEDIA_MELS 40
#define MEDIA_MEL_FRAMES 100
#define MEDIA_AUDIO_FLOATS (MEDIA_MELS * MEDIA_MEL_FRAMES)

/* How a clip becomes a sample; the same fields as Recipe in leases.proto. */
struct media_recipe {
    uint32_t frames;                 /* T */
    double fps;                      /* 0: the stream's own frames from the first with pts >= start */
    uint32_t resize_min, resize_max; /* short side, pixels; drawn from [min, max] when augmenting, else min */
    uint32_t crop;                   /* P */
    int32_t crop_jitter_px;          /* -1: anywhere in the picture */
    double flip_probability;
    double audio_shift_s;
    uint32_t time_mask_frames;
    uint64_t augment_seed;
    bool augment;
    bool want_video, want_audio;
};

enum media_job_kind { MEDIA_JOB_PROBE = 1, MEDIA_JOB_DECODE = 2 };

/* What the parent asks; the file itself goes beside it as a read-only descriptor. Fixed size, same host, same
 * build. */
struct media_job {
    uint32_t kind;
    uint64_t id;                        /* echoed */
    int32_t video_stream, audio_stream; /* -1: the best one */
    double start_s;    /* clip time, from the first video frame (or the start of the sound) */
    double duration_s; /* from the manifest; 0: as the container says */
    struct media_recipe recipe;
};

struct media_probe {
    double duration_s, fps;
    uint32_t width, height;
    int32_t video_stream, audio_stream;
    uint32_t sample_rate, channels;
};

/* What the worker answers. Frames u8 [T, P, P, 3] RGB lie at offset 0 of the slot, log-mel f32 [40, 100]
 * (natural log of power + 1e-6, not standardised: algorithms.md 1.5 [R]) at audio_offset, a multiple of 64.
 * Sizes are 0 for what was not wanted or is not there. */
struct media_result {
    uint64_t id;
    uint32_t reason;  /* enum media_reason */
    uint32_t missing; /* bit 0: no video stream, bit 1: no audio stream */
    uint32_t video_bytes, audio_bytes;
    uint32_t audio_offset;
    uint64_t hash; /* XXH3 over the video bytes, then the audio bytes */
    struct media_probe probe;
    char detail[200]; /* one sentence when reason is not 0 */
};

/* Bytes of a slot that a recipe needs. */
uint64_t media_slot_bytes(const struct media_recipe *r);
