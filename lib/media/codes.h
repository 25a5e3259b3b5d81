/* codes: what is to be said of a file or a clip, in stable numbers and names, stored in manifests, ledgers
 * and quarantines. Faults say why it could not be used; facts say what is unusual about it and do no harm.
 * docs/codes.md and `xdc explain` explain each. Used by all that touches media. Pure. New codes are appended.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Faults. */
enum media_reason {
    MEDIA_OK = 0,
    MEDIA_OPEN_FAILED = 1,         /* the file cannot be opened or read */
    MEDIA_CHANGED_SINCE_INDEX = 2, /* its size is not the manifest's */
    MEDIA_UNREADABLE = 3,          /* no demuxer accepts it, or its header is torn */
    MEDIA_NO_VIDEO = 4,
    MEDIA_NO_AUDIO = 5,
    MEDIA_TOO_SHORT = 6,   /* shorter than the recipe allows */
    MEDIA_TRUNCATED = 7,   /* packets end before the header's duration says */
    MEDIA_ZERO_FRAMES = 8, /* no frame could be decoded at that time */
    MEDIA_UNSUPPORTED_CODEC = 9,
    MEDIA_DECODE_ERROR = 10,
    MEDIA_AUDIO_SILENT = 11, /* no sample of the window above -100 dBFS */
    MEDIA_AUDIO_NONFINITE = 12,
    MEDIA_BAD_DIMENSIONS = 13,
    MEDIA_DECODE_TIMEOUT = 14, /* the worker used up its CPU time on it, A times */
    MEDIA_MEMORY_LIMIT = 15,
    MEDIA_WORKER_DIED = 16,  /* the worker crashed on it, A times */
    MEDIA_MOOV_MISSING = 17, /* an MP4 or MOV file without its index: an unfinished recording or download */
    MEDIA_BAD_TIMESTAMPS = 18,
    MEDIA_SANDBOX_VIOLATION = 19, /* the worker tried a forbidden system call on it */
    MEDIA_EMPTY_FILE = 20,
    MEDIA_PLAYLIST = 21, /* a list that names other files; none of them is opened */
    MEDIA_ENCRYPTED = 22,
    MEDIA_TOO_MANY_STREAMS = 23,
    MEDIA_REASONS /* count */
};

/* Facts; their numbers are codes as well. */
enum media_fact {
    MEDIA_ROTATED = 64, /* the display matrix turns it; applied */
    MEDIA_VFR,          /* frames at uneven distances */
    MEDIA_START_NONZERO,
    MEDIA_EDIT_LIST,
    MEDIA_INTERLACED,
    MEDIA_NON_SQUARE_PIXELS,
    MEDIA_HIGH_BIT_DEPTH,
    MEDIA_FULL_RANGE,
    MEDIA_CHROMA_NOT_420,
    MEDIA_ODD_SIZE,
    MEDIA_SEVERAL_VIDEO_STREAMS,
    MEDIA_SEVERAL_AUDIO_STREAMS,
    MEDIA_STILL_IMAGE,
    MEDIA_SIZE_CHANGES,
    MEDIA_AV_OFFSET,     /* sound and picture start more than 0.1 s apart */
    MEDIA_AUDIO_SHORT,   /* the sound ends more than 0.5 s before the picture */
    MEDIA_NO_SEEK_INDEX, /* the container has no index of its own */
    MEDIA_SOME_DAMAGE,   /* single packets or frames were damaged; the rest decodes */
    MEDIA_FACTS_END
};
#define MEDIA_FACTS (MEDIA_FACTS_END - MEDIA_ROTATED)

static inline uint32_t media_fact_bit(enum media_fact f)
{
    return 1u << (f - MEDIA_ROTATED);
}

/* "no_audio", "rotated"; "unknown" for a number that is none. */
const char *media_code_name(unsigned code);
/* One sentence for people. */
const char *media_code_text(unsigned code);
/* What brings it about in most cases, and what to do; "" for a number that is none. */
const char *media_code_causes(unsigned code);
const char *media_code_advice(unsigned code);
/* The code of a name, or -1. */
int media_code_find(const char *name);
static inline bool media_code_is_fact(unsigned code)
{
    return code >= MEDIA_ROTATED && code < MEDIA_FACTS_END;
}
