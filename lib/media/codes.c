#include "lib/media/codes.h"

#include <stddef.h>
#include <string.h>

/* docs/codes.md is made of this table: xdc explain --markdown > docs/codes.md */
static const struct {
    const char *name, *text, *causes, *advice;
} codes[MEDIA_FACTS_END] = {
    [MEDIA_OK] = {"ok", "The file or clip can be used.", "", ""},
    [MEDIA_OPEN_FAILED] = {"open_failed", "The file cannot be opened or read.",
                           "It was removed or renamed, the permissions forbid it, a link leads out of the "
                           "media root, or the disk or network share fails.",
                           "Make the file readable for the user that runs xdc, or update the manifest: `xdc "
                           "index PATH --out M --update`."},
    [MEDIA_CHANGED_SINCE_INDEX] =
        {"changed_since_index",
         "The file's size is not the one in the manifest, or its archive no longer has it in that place.",
         "The file, or the archive that it lies in, was written again, cut or still being copied after `xdc "
         "index` had looked at it.",
         "Update the manifest: `xdc index PATH --out M --update`. The identity changes with it, so a run "
         "that goes on needs the old file."},
    [MEDIA_UNREADABLE] =
        {"unreadable", "No demuxer accepts the file, or its header is torn.",
         "It is no media file in spite of its name (often an error page that was saved as one), or its first "
         "bytes are damaged.",
         "Look at the first bytes (`file NAME`, `head -c 300 NAME`); fetch it again or delete it."},
    [MEDIA_NO_VIDEO] = {"no_video", "The file has no video stream.",
                        "It is sound alone, or a cover picture is its only picture.",
                        "Nothing, where no target needs video; else leave the file out."},
    [MEDIA_NO_AUDIO] = {"no_audio", "The file has no audio stream.",
                        "Silent films, screen recordings, downloads of the video format alone.",
                        "Nothing, where no target needs audio; `data.no_audio: keep` trains on it with "
                        "silence; else fetch the file with its sound."},
    [MEDIA_TOO_SHORT] =
        {"too_short", "The file is shorter than the recipe allows.",
         "A trimmed or aborted clip: it lasts less than `data.min_sound_s`, or than one clip under "
         "`data.short_clip: drop`.",
         "Lower `data.min_sound_s`, use `data.short_clip: pad` or `loop`, or leave the file out."},
    [MEDIA_TRUNCATED] =
        {"truncated", "The file's data ends before the duration in its header says.",
         "A download or copy that was broken off, or a full disk.",
         "Fetch the file again. What is left of it can be kept with `ffmpeg -i OLD -c copy NEW`."},
    [MEDIA_ZERO_FRAMES] = {"zero_frames", "No frame could be decoded at the clip's time.",
                           "A header and no packets: a recording that was stopped at its start, or an "
                           "export that failed.",
                           "Leave the file out, or make it again from its source."},
    [MEDIA_UNSUPPORTED_CODEC] =
        {"unsupported_codec", "There is no decoder for the stream's codec.",
         "A codec that this FFmpeg was built without or that nobody has, or a header that names none.",
         "`ffprobe NAME` tells the codec; convert the file with a program that knows it."},
    [MEDIA_DECODE_ERROR] = {"decode_error", "The stream's data is damaged.",
                            "Most packets or all cannot be decoded: bytes were overwritten or lost, or the "
                            "header belongs to another stream.",
                            "Fetch the file again; `ffmpeg -v error -i NAME -f null -` names the places."},
    [MEDIA_AUDIO_SILENT] = {"audio_silent", "The clip's sound holds nothing above -100 dBFS.",
                            "A muted track, or a microphone that was off.",
                            "`data.no_audio: keep` trains on it with silence; else leave the file out."},
    [MEDIA_AUDIO_NONFINITE] = {"audio_nonfinite", "The clip's sound holds values that are not finite.",
                               "A float sound file that a program filled with NaN or infinity.",
                               "Write the sound again from its source, as 16 bit integers if need be."},
    [MEDIA_BAD_DIMENSIONS] = {"bad_dimensions", "The picture is empty or too large.",
                              "A header with a side of 0 or more than 16384 pixels, or more than 67 million "
                              "pixels in all; in most cases it lies.",
                              "Scale the file down, or leave it out."},
    [MEDIA_DECODE_TIMEOUT] =
        {"decode_timeout", "Decoding used up its CPU time.",
         "A very large picture, a key frame minutes before the clip, or a file made to keep a decoder busy.",
         "Raise `decoder.cpu_s` (`--cpu-s` of the doctor), or encode the file again with smaller pictures "
         "and a key frame every few seconds."},
    [MEDIA_MEMORY_LIMIT] =
        {"memory_limit", "Decoding used up its memory.",
         "A very large picture with many reference frames, or a file made to take memory.",
         "Raise `decoder.memory_mib` (`--memory-mib` of the doctor), or scale the file down."},
    [MEDIA_WORKER_DIED] = {"worker_died", "The decoding process died on the file.",
                           "A fault of the decoder library that this file meets, by accident or on purpose.",
                           "Leave the file out, and tell FFmpeg's developers of it if it may be shown. "
                           "Nothing else was harmed."},
    [MEDIA_MOOV_MISSING] = {"moov_missing", "The MP4 or MOV file has no index: it was never finished.",
                            "A camera that lost power, or a download or copy that was broken off.",
                            "Fetch the file again, or mend it with a tool that makes an index from a good "
                            "file of the same camera."},
    [MEDIA_BAD_TIMESTAMPS] =
        {"bad_timestamps", "The stream's time stamps are missing or run backwards.",
         "Recordings joined without care, a clock that was set meanwhile, a broken muxer.",
         "Write them new: `ffmpeg -fflags +genpts -i OLD -c copy NEW`, or encode the file again."},
    [MEDIA_SANDBOX_VIOLATION] = {"sandbox_violation", "Decoding tried a forbidden system call.",
                                 "A file that attacks a fault of the decoder library; rarely a library that "
                                 "needs a call which xdc does not know of.",
                                 "Treat the file as hostile. If ordinary files get this code, report it with "
                                 "the versions of FFmpeg and the C library."},
    [MEDIA_EMPTY_FILE] = {"empty_file", "The file has no bytes.",
                          "A download that never began, or a full disk.",
                          "Fetch the file again or delete it."},
    [MEDIA_PLAYLIST] = {"playlist", "The file is a list of other files; none of them is opened.",
                        "An HLS or DASH playlist, or a list for concatenation, under a media file's name.",
                        "Index the files that it names, or join them: `ffmpeg -i LIST -c copy NEW`."},
    [MEDIA_ENCRYPTED] = {"encrypted", "The streams are encrypted.",
                         "A purchase or a stream under copy protection (Common Encryption).",
                         "Use a copy that is not protected."},
    [MEDIA_TOO_MANY_STREAMS] =
        {"too_many_streams", "The file claims more streams than any real one has.",
         "A file made to take memory, or a damaged header.",
         "Keep the streams that matter: `ffmpeg -i OLD -map 0:v:0 -map 0:a:0 -c copy NEW`."},
    [MEDIA_ROTATED] = {"rotated", "The picture is stored turned; it is turned back.", "Phones held upright.",
                       "Nothing."},
    [MEDIA_VFR] = {"vfr", "Frames lie at uneven distances; clips are taken by time.",
                   "Phones and screen recorders, which drop frames; edited clips.", "Nothing."},
    [MEDIA_START_NONZERO] = {"start_nonzero", "The first frame's time is not 0; clip times count from it.",
                             "Broadcast recordings, cut streams, the delay of reordered frames.", "Nothing."},
    [MEDIA_EDIT_LIST] = {"edit_list", "The container plays only a part of its packets; the rest is skipped.",
                         "A trim that did not encode again.", "Nothing: what is skipped is not drawn."},
    [MEDIA_INTERLACED] =
        {"interlaced", "Frames are pairs of fields; they are used as they are.",
         "Television and old camcorders.",
         "Deinterlace beforehand (`ffmpeg -i OLD -vf yadif NEW`) if the combing matters to you."},
    [MEDIA_NON_SQUARE_PIXELS] = {"non_square_pixels",
                                 "Pixels are not square; the picture is scaled to its displayed shape.",
                                 "DVDs, broadcast, anamorphic film.", "Nothing."},
    [MEDIA_HIGH_BIT_DEPTH] = {"high_bit_depth", "More than 8 bits a component; reduced to 8.",
                              "HDR recordings and intermediate codecs.",
                              "Nothing; HDR pictures look flat, since no tone mapping is done."},
    [MEDIA_FULL_RANGE] = {"full_range", "Luma uses the full range 0 to 255; taken into account.",
                          "Phones, webcams, Motion JPEG.", "Nothing."},
    [MEDIA_CHROMA_NOT_420] = {"chroma_not_420", "Chroma is stored at another resolution than 4:2:0.",
                              "Intermediate codecs, screen recordings, stills.", "Nothing."},
    [MEDIA_ODD_SIZE] = {"odd_size", "Width or height is odd.", "Crops and screen recordings.", "Nothing."},
    [MEDIA_SEVERAL_VIDEO_STREAMS] =
        {"several_video_streams", "One of several video streams was chosen.",
         "Several camera angles or qualities in one file.",
         "Nothing; the manifest says which, and ffmpeg's -map takes another one out."},
    [MEDIA_SEVERAL_AUDIO_STREAMS] =
        {"several_audio_streams", "One of several audio streams was chosen.",
         "Several languages, or a commentary.",
         "Nothing; the manifest says which, and ffmpeg's -map takes another one out."},
    [MEDIA_STILL_IMAGE] = {"still_image", "A single picture; every frame of a clip is that picture.",
                           "A photograph among the videos.", "Leave it out if stills are not wanted."},
    [MEDIA_SIZE_CHANGES] = {"size_changes", "The picture's size changes inside the stream.",
                            "Adaptive streams and joined recordings.",
                            "Nothing: each frame is scaled from its own size."},
    [MEDIA_AV_OFFSET] = {"av_offset", "Sound and picture start more than 0.1 s apart.",
                         "Cut streams; recorders whose microphone starts late.",
                         "Nothing: the sound is placed by its time, what is missing is silence."},
    [MEDIA_AUDIO_SHORT] = {"audio_short", "The sound ends more than 0.5 s before the picture.",
                           "A microphone that was switched off, or a damaged end.",
                           "Nothing: clips at the end have silence there."},
    [MEDIA_NO_SEEK_INDEX] = {"no_seek_index",
                             "The container has no index of its own; the manifest's is used.",
                             "Transport and program streams, raw streams, live recordings.",
                             "Nothing: `xdc index` has listed its key frames. A copy into MP4 or Matroska "
                             "decodes a little faster."},
    [MEDIA_SOME_DAMAGE] = {"some_damage", "Single packets or frames are damaged; the rest decodes.",
                           "Bad reception, a few lost bytes, a cut that is not at a key frame.",
                           "Nothing, or fetch the file again."},
};

static bool is_known(unsigned code)
{
    return code < MEDIA_FACTS_END && codes[code].name;
}

const char *media_code_name(unsigned code)
{
    return is_known(code) ? codes[code].name : "unknown";
}

const char *media_code_text(unsigned code)
{
    return is_known(code) ? codes[code].text : "The code has no known number.";
}

const char *media_code_causes(unsigned code)
{
    return is_known(code) ? codes[code].causes : "";
}

const char *media_code_advice(unsigned code)
{
    return is_known(code) ? codes[code].advice : "";
}

int media_code_find(const char *name)
{
    for (int i = 0; i < MEDIA_FACTS_END; i++)
        if (codes[i].name && strcmp(codes[i].name, name) == 0)
            return i;
    return -1;
}
