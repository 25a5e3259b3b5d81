/* codes: why a file or a clip could not be used; stable numbers and names, stored in manifests, ledgers and
 * quarantines. Used by all that touches media. Pure. New codes are appended. */
#pragma once
#include <stdbool.h>

enum media_reason {
    MEDIA_OK = 0,
    MEDIA_OPEN_FAILED = 1,         /* the file cannot be opened or read */
    MEDIA_CHANGED_SINCE_INDEX = 2, /* its size is not the manifest's */
    MEDIA_UNREADABLE = 3,          /* no demuxer accepts it, or its header is torn (moov missing) */
    MEDIA_NO_VIDEO = 4,
    MEDIA_NO_AUDIO = 5,
    MEDIA_TOO_SHORT = 6,   /* shorter than 1.1 s (algorithms.md section 8) */
    MEDIA_TRUNCATED = 7,   /* packets end before the manifest's duration says */
    MEDIA_ZERO_FRAMES = 8, /* no frame could be decoded at that time */
    MEDIA_UNSUPPORTED_CODEC = 9,
    MEDIA_DECODE_ERROR = 10,
    MEDIA_AUDIO_SILENT = 11, /* no sample of the window above -100 dBFS */
    MEDIA_AUDIO_NONFINITE = 12,
    MEDIA_BAD_DIMENSIONS = 13,
    MEDIA_TIMEOUT = 14, /* the worker used up its CPU time on it, A times */
    MEDIA_MEMORY_LIMIT = 15,
    MEDIA_WORKER_DIED = 16, /* the worker crashed on it, A times */
    MEDIA_REASONS           /* count */
};

/* "no_audio"; "unknown" for a number that is none. */
const char *media_reason_name(unsigned reason);
/* One sentence for people. */
const char *media_reason_text(unsigned reason);
