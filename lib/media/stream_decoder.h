/* stream_decoder: packets of one stream of an input in, frames out, with damage counted and passed over.
 * Used by video_decode and audio_decode inside the media worker. One thread. Owns codec and packet, borrows
 * the input. */
#pragma once
#include <libavcodec/avcodec.h>
#include "lib/media/input.h"

struct stream_decoder {
    struct input *in;
    int stream;
    AVCodecContext *codec; /* owned */
    AVPacket *pkt;         /* owned */
    bool draining;
    bool read_failed;   /* the demuxer ended with an error, not with the end of the file */
    bool out_of_memory; /* for a frame; some codecs turn that into an error of another name */
    unsigned faults;    /* packets that did not decode */
    int last_fault;     /* AVERROR of the last of them */
};

/* 0 or an enum media_reason; the struct must not move until stream_decoder_close, which cleans up after
 * either. */
int stream_decoder_open(struct stream_decoder *d, struct input *in, int stream, struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void stream_decoder_close(struct stream_decoder *d);
/* After a seek. */
void stream_decoder_flush(struct stream_decoder *d);
/* 1: a frame; 0: the end; negative: AVERROR(ENOMEM). */
int stream_decoder_next(struct stream_decoder *d, AVFrame *frame) WARN_UNUSED;
