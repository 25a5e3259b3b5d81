/* fault: how the code that runs inside a media worker says what is wrong with a file: a positive enum
 * media_reason as the return value, 0 for none, and one sentence in struct err. Used by lib/media only. Pure.
 */
#pragma once
#include <libavutil/avutil.h>
#include <libavutil/error.h>
#include "lib/err.h"
#include "lib/media/codes.h"

/* Sets the sentence and returns `reason`. */
#define fault_set(e, reason, ...) (err_set((e), XDC_EMEDIA, __VA_ARGS__), (int)(reason))

/* The same for an FFmpeg error: its text is added; out of memory becomes MEDIA_MEMORY_LIMIT whatever `reason`
 * says. */
static inline int fault_av(struct err *e, int reason, int averr, const char *what)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(averr, text, sizeof text);
    err_set(e, XDC_EMEDIA, "%s: %s", what, text);
    return averr == AVERROR(ENOMEM) ? MEDIA_MEMORY_LIMIT : reason;
}
