#include "lib/media/codes.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *name, *text;
} codes[MEDIA_FACTS_END] = {
    [MEDIA_OK] = {"ok", "The file or clip can be used."},
    [MEDIA_OPEN_FAILED] = {"open_failed", "The file cannot be opened or read."},
    [MEDIA_CHANGED_SINCE_INDEX] = {"changed_since_index", "The file's size is not the one in the manifest."},
    [MEDIA_UNREADABLE] = {"unreadable", "No demuxer accepts the file, or its header is torn."},
    [MEDIA_NO_VIDEO] = {"no_video", "The file has no video stream."},
    [MEDIA_NO_AUDIO] = {"no_audio", "The file has no audio stream."},
    [MEDIA_TOO_SHORT] = {"too_short", "The file is shorter than the recipe allows."},
    [MEDIA_TRUNCATED] = {"truncated", "The file's data ends before the duration in its header says."},
    [MEDIA_ZERO_FRAMES] = {"zero_frames", "No frame could be decoded at the clip's time."},
    [MEDIA_UNSUPPORTED_CODEC] = {"unsupported_codec", "There is no decoder for the stream's codec."},
    [MEDIA_DECODE_ERROR] = {"decode_error", "The stream's data is damaged."},
    [MEDIA_AUDIO_SILENT] = {"audio_silent", "The clip's sound holds nothing above -100 dBFS."},
    [MEDIA_AUDIO_NONFINITE] = {"audio_nonfinite", "The clip's sound holds values that are not finite."},
    [MEDIA_BAD_DIMENSIONS] = {"bad_dimensions", "The picture is empty or too large."},
    [MEDIA_DECODE_TIMEOUT] = {"decode_timeout", "Decoding used up its CPU time."},
    [MEDIA_MEMORY_LIMIT] = {"memory_limit", "Decoding used up its memory."},
    [MEDIA_WORKER_DIED] = {"worker_died", "The decoding process died on the file."},
    [MEDIA_MOOV_MISSING] = {"moov_missing", "The MP4 or MOV file has no index: it was never finished."},
    [MEDIA_BAD_TIMESTAMPS] = {"bad_timestamps", "The stream's time stamps are missing or run backwards."},
    [MEDIA_SANDBOX_VIOLATION] = {"sandbox_violation", "Decoding tried a forbidden system call."},
    [MEDIA_EMPTY_FILE] = {"empty_file", "The file has no bytes."},
    [MEDIA_PLAYLIST] = {"playlist", "The file is a list of other files; none of them is opened."},
    [MEDIA_ENCRYPTED] = {"encrypted", "The streams are encrypted."},
    [MEDIA_TOO_MANY_STREAMS] = {"too_many_streams", "The file claims more streams than any real one has."},
    [MEDIA_ROTATED] = {"rotated", "The picture is stored turned; it is turned back."},
    [MEDIA_VFR] = {"vfr", "Frames lie at uneven distances; clips are taken by time."},
    [MEDIA_START_NONZERO] = {"start_nonzero", "The first frame's time is not 0; clip times count from it."},
    [MEDIA_EDIT_LIST] = {"edit_list", "The container plays only a part of its packets; the rest is skipped."},
    [MEDIA_INTERLACED] = {"interlaced", "Frames are pairs of fields; they are used as they are."},
    [MEDIA_NON_SQUARE_PIXELS] = {"non_square_pixels", "Pixels are not square; the picture is scaled to its "
                                                      "displayed shape."},
    [MEDIA_HIGH_BIT_DEPTH] = {"high_bit_depth", "More than 8 bits a component; reduced to 8."},
    [MEDIA_FULL_RANGE] = {"full_range", "Luma uses the full range 0 to 255; taken into account."},
    [MEDIA_CHROMA_NOT_420] = {"chroma_not_420", "Chroma is stored at another resolution than 4:2:0."},
    [MEDIA_ODD_SIZE] = {"odd_size", "Width or height is odd."},
    [MEDIA_SEVERAL_VIDEO_STREAMS] = {"several_video_streams", "One of several video streams was chosen."},
    [MEDIA_SEVERAL_AUDIO_STREAMS] = {"several_audio_streams", "One of several audio streams was chosen."},
    [MEDIA_STILL_IMAGE] = {"still_image", "A single picture; every frame of a clip is that picture."},
    [MEDIA_SIZE_CHANGES] = {"size_changes", "The picture's size changes inside the stream."},
    [MEDIA_AV_OFFSET] = {"av_offset", "Sound and picture start more than 0.1 s apart."},
    [MEDIA_AUDIO_SHORT] = {"audio_short", "The sound ends more than 0.5 s before the picture."},
    [MEDIA_NO_SEEK_INDEX] = {"no_seek_index",
                             "The container has no index of its own; the manifest's is used."},
    [MEDIA_SOME_DAMAGE] = {"some_damage", "Single packets or frames are damaged; the rest decodes."},
};

const char *media_code_name(unsigned code)
{
    return code < MEDIA_FACTS_END && codes[code].name ? codes[code].name : "unknown";
}

const char *media_code_text(unsigned code)
{
    return code < MEDIA_FACTS_END && codes[code].name ? codes[code].text : "The code has no known number.";
}

int media_code_find(const char *name)
{
    for (int i = 0; i < MEDIA_FACTS_END; i++)
        if (codes[i].name && strcmp(codes[i].name, name) == 0)
            return i;
    return -1;
}
