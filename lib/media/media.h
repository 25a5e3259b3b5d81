/* media: the jobs a media worker does, and their results: probe a file, decode clips, examine a whole file.
 * FFmpeg stays behind it. Used by the decoder's pool, index, doctor, `xdc decode` (all through
 * lib/media/child.h) and the worker itself. Pure data. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/media/codes.h"
#include "lib/media_file.h"

#define MEDIA_MELS 40
#define MEDIA_MEL_FRAMES 100
#define MEDIA_AUDIO_FLOATS (MEDIA_MELS * MEDIA_MEL_FRAMES)

#define MEDIA_CLIPS_MAX 16      /* clips of one file in one job */
#define MEDIA_KEYFRAMES_MAX 256 /* of a probe */

/* How decoded frames become small pictures; both make the same picture (docs/formats.md has the filter). */
enum media_scaling {
    MEDIA_SCALING_FAST,  /* crop and scale in YUV, convert the crop alone */
    MEDIA_SCALING_EXACT, /* swscale of the whole frame, then the crop: bit for bit what FFmpeg makes */
};

enum media_frontend {
    MEDIA_FRONTEND_LOGMEL, /* algorithms.md 1.5 [R] */
    MEDIA_FRONTEND_VMZ,    /* algorithms.md 1.5, the table of VMZ's values */
};

/* What becomes of a clip whose streams end before it does. */
enum media_short {
    MEDIA_SHORT_PAD,  /* the last frame stands still, the sound goes on in silence */
    MEDIA_SHORT_LOOP, /* frames and sound start again */
    MEDIA_SHORT_DROP, /* MEDIA_TOO_SHORT */
};

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
    bool augment;
    bool want_video, want_audio;
    uint32_t scaling;    /* enum media_scaling */
    uint32_t frontend;   /* enum media_frontend */
    uint32_t short_clip; /* enum media_short */
    double min_sound_s;  /* where sound is wanted, a file that lasts less is MEDIA_TOO_SHORT */
    uint32_t degrade;    /* pictures keep the detail of so many times fewer pixels a side; 0 or 1: all */
    bool keep_silent;    /* no audio stream, or nothing to hear: silence, flagged, and not a reason */
};

/* One clip of a job's file. */
struct media_clip {
    double start_s; /* clip time, from the first video frame (or the start of the sound) */
    uint64_t augment_seed;
    double key_s; /* a key frame at or before the clip, as the manifest knows it, and the byte from which */
    int64_t key_pos; /* its packet is read; -1: not known */
};

enum media_job_kind { MEDIA_JOB_PROBE = 1, MEDIA_JOB_DECODE = 2, MEDIA_JOB_EXAMINE = 3, MEDIA_JOB_CUT = 4 };

enum media_part { MEDIA_PART_VIDEO, MEDIA_PART_AUDIO, MEDIA_PARTS };

/* What the parent asks; the file itself goes beside it as a read-only descriptor. Fixed size, same host, same
 * build. */
struct media_job {
    uint32_t kind;
    uint64_t id;                        /* echoed */
    struct media_window window;         /* what of the descriptor is the file; zero: all */
    int32_t video_stream, audio_stream; /* -1: the best one */
    uint32_t cpu_s;                     /* CPU seconds of this job; 0: the child's limit */
    double duration_s;                  /* from the manifest; 0: as the container says */
    struct media_recipe recipe;
    uint32_t clips; /* of a decode job: 1 to MEDIA_CLIPS_MAX, each answered by a result of its own */
    struct media_clip clip[MEDIA_CLIPS_MAX];
    bool keep; /* of a decode job: wide clips (lib/media/wide.h) stay behind the samples, where there are any
                */
    struct media_window wide[MEDIA_PARTS]; /* of a cut job, of one clip: where in the file the parts are that
                                            * the recipe wants */
};

struct media_probe {
    double duration_s, fps;
    uint32_t width, height;
    int32_t video_stream, audio_stream;
    uint32_t sample_rate, channels;
};

/* An entry of the keyframe index: those of a probe lie at offset 0 of the slot. */
struct media_keyframe {
    double time_s; /* clip time */
    int64_t pos;   /* byte of the file at or before its packet */
};

/* What an examination counts: the whole of the chosen streams, decoded. */
struct media_examination {
    uint64_t video_frames, audio_samples;
    uint64_t faults; /* packets that a decoder refused, and frames it marked as damaged */
    double video_end_s, audio_end_s;
};

enum media_flag {
    MEDIA_FLAG_PADDED = 1, /* a stream ended before the clip: its last frame stands, or silence follows */
    MEDIA_FLAG_LOOPED = 2,
    MEDIA_FLAG_SILENT = 4, /* keep_silent made silence of it */
};

/* What the worker answers. Frames u8 [T, P, P, 3] RGB lie at video_offset of the slot, log-mel f32 [40, 100]
 * (natural log of power + 1e-6, not standardised: algorithms.md 1.5 [R]) at audio_offset, both multiples of
 * 64. Sizes are 0 for what was not wanted or is not there. */
struct media_result {
    uint64_t id;
    uint32_t clip;    /* which of the job's clips */
    uint32_t reason;  /* enum media_reason */
    uint32_t missing; /* bit 0: no video stream, bit 1: no audio stream */
    uint32_t flags;   /* enum media_flag */
    uint32_t facts;   /* of a probe or an examination: media_fact_bit of each */
    uint32_t video_bytes, audio_bytes;
    uint64_t video_offset, audio_offset;
    uint64_t hash;                    /* XXH3 over the video bytes, then the audio bytes */
    uint64_t wide_bytes[MEDIA_PARTS]; /* of the wide clip's parts, which lie where media_wide_offset says */
    struct media_probe probe;
    uint32_t keyframes; /* of a probe, where the container has no index of its own */
    struct media_examination examination;
    char detail[200]; /* one sentence when reason is not 0 */
};

/* Bytes of a slot that one sample of a recipe needs; a multiple of 64. */
uint64_t media_slot_bytes(const struct media_recipe *r);
/* The same with the wide clip that the job keeps or cuts from: clip i of a job lies at i times it. */
uint64_t media_clip_bytes(const struct media_job *job);
/* Most bytes of a part of a wide clip (0: not wanted), and where in the slot it lies; multiples of 64. */
uint64_t media_wide_bytes(const struct media_job *job, enum media_part part);
uint64_t media_wide_offset(const struct media_job *job, uint32_t clip, enum media_part part);
