/* input: an opened media file: demuxer, chosen streams, time origin, seeking.
 * Used by probe, video_decode and audio_decode inside the media worker. One thread. Owns the demuxer, borrows
 * the descriptor. Functions return 0 or an enum media_reason and a sentence; input_close cleans up after any
 * of them. */
#pragma once
#include <libavformat/avformat.h>
#include <stdbool.h>
#include "lib/media/avio.h"
#include "lib/media/fault.h"
#include "lib/media/media.h"

struct codec_cache;

/* How much is found out about the streams when opening. */
enum input_look {
    INPUT_LOOK_LITTLE, /* what decoding needs; nothing is decoded in files whose header says it */
    INPUT_LOOK_LEAST,  /* the same, for who knows the duration and asks for no frame rate */
    INPUT_LOOK_FULL,   /* everything, by decoding a little of each */
};

struct input {
    struct avio_file file;
    AVFormatContext *ic; /* owned */
    AVPacket *first;     /* owned: a packet that input_find_origin read and nobody has used, or empty */
    int video, audio;    /* stream indices, or -1 */
    int wanted_video, wanted_audio; /* as the job asked, to choose again after a reopening */
    enum input_look look;
    bool still;                 /* a single picture */
    bool at_start;              /* nothing but `first` has been read since opening */
    struct codec_cache *codecs; /* borrowed; NULL: nothing is kept */
    double origin_s;            /* stream time of clip time 0 */
    double duration_s;          /* of the video, else of the sound, else of the file; 0: unknown */
};

/* window: what of the descriptor is the file. video, audio: stream index, or -1 for the best one. */
int input_open(struct input *in, int fd, const struct media_window *window, int video, int audio,
               enum input_look look, struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void input_close(struct input *in);

/* Reads ahead to the first video frame (without video: the first sound) and sets origin_s. */
int input_find_origin(struct input *in, struct err *e) WARN_UNUSED;

/* From here on only `stream` is read, from a point at or before `time_s` (stream time) as far as the
 * container can tell. */
int input_seek(struct input *in, int stream, double time_s, struct err *e) WARN_UNUSED;
/* The same by the byte that a key frame's packet starts at; by time where the container cannot. */
int input_seek_byte(struct input *in, int stream, int64_t pos, double time_s, struct err *e) WARN_UNUSED;
/* The same from the very beginning. */
int input_rewind(struct input *in, int stream, struct err *e) WARN_UNUSED;
/* The next packet of `stream`: 0 or an AVERROR. */
int input_read(struct input *in, int stream, AVPacket *pkt) WARN_UNUSED;

/* Frames per second of the video stream; 25 when nothing tells. */
double input_fps(const struct input *in);
/* Seconds that a stream says it lasts; 0: unknown. */
double input_stream_duration_s(const struct input *in, int stream);
