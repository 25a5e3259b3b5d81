#include "lib/media/codes.h"

static const struct {
    const char *name, *text;
} reasons[MEDIA_REASONS] = {
    [MEDIA_OK] = {"ok", "The file or clip can be used."},
    [MEDIA_OPEN_FAILED] = {"open_failed", "The file cannot be opened or read."},
    [MEDIA_CHANGED_SINCE_INDEX] = {"changed_since_index", "The file's size is not the one in the manifest."},
    [MEDIA_UNREADABLE] = {"unreadable", "No demuxer accepts the file, or its header is torn."},
    [MEDIA_NO_VIDEO] = {"no_video", "The file has no video stream."},
    [MEDIA_NO_AUDIO] = {"no_audio", "The file has no audio stream."},
    [MEDIA_TOO_SHORT] = {"too_short", "The file is shorter than 1.1 seconds."},
    [MEDIA_TRUNCATED] = {"truncated", "The file's data ends before the duration in its header says."},
    [MEDIA_ZERO_FRAMES] = {"zero_frames", "No frame could be decoded at the clip's time."},
    [MEDIA_UNSUPPORTED_CODEC] = {"unsupported_codec", "There is no decoder for the stream's codec."},
    [MEDIA_DECODE_ERROR] = {"decode_error", "The stream's data is damaged."},
    [MEDIA_AUDIO_SILENT] = {"audio_silent", "The clip's sound holds nothing above -100 dBFS."},
    [MEDIA_AUDIO_NONFINITE] = {"audio_nonfinite", "The clip's sound holds values that are not finite."},
    [MEDIA_BAD_DIMENSIONS] = {"bad_dimensions", "The picture is empty or too large."},
    [MEDIA_TIMEOUT] = {"timeout", "Decoding used up its CPU time."},
    [MEDIA_MEMORY_LIMIT] = {"memory_limit", "Decoding used up its memory."},
    [MEDIA_WORKER_DIED] = {"worker_died", "The decoding process died on the file."},
};

const char *media_reason_name(unsigned reason)
{
    return reason < MEDIA_REASONS ? reasons[reason].name : "unknown";
}

const char *media_reason_text(unsigned reason)
{
    return reason < MEDIA_REASONS ? reasons[reason].text : "The reason has no known number.";
}
