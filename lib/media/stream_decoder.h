/* stream_decoder: packets of one stream in, frames out, and the codec that is kept between files.
 * Used by video_decode, audio_decode, examine and input; one thread. Owns codec and packet; borrows the
 * input. Functions that can fail return 0 or an enum media_reason and a sentence. */
#pragma once
#include <libavcodec/avcodec.h>
#include "lib/media/input.h"

/* The video codec that the last file used, flushed. A zeroed struct is empty. Sound is always decoded by a
 * new one: what AAC fills in for noise comes from a generator that a flush does not set back, so that a clip
 * would depend on those before it. */
struct codec_cache {
    AVCodecContext *codec;         /* owned */
    AVCodecParameters *parameters; /* owned: what it was opened with */
    AVRational timebase;
};

struct stream_decoder {
    struct input *in; /* its `codecs` are used where not NULL */
    int stream;
    AVCodecContext *codec; /* owned */
    AVPacket *pkt;         /* owned */
    bool draining;         /* the end of the stream has been passed on */
    bool read_failed;      /* it was no proper end */
    bool out_of_memory;
    unsigned faults; /* packets or frames refused since open */
    int last_fault;  /* AVERROR */
};

void codec_cache_close(struct codec_cache *c);

int stream_decoder_open(struct stream_decoder *d, struct input *in, int stream, struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void stream_decoder_close(struct stream_decoder *d);
/* After a seek of the input: forgets what was decoded, not the count of faults. */
void stream_decoder_flush(struct stream_decoder *d);
/* 1: the next frame, in order of presentation; 0: the end; AVERROR(ENOMEM). Bad packets are counted and
 * passed over. Reads the input by itself. */
int stream_decoder_next(struct stream_decoder *d, AVFrame *frame) WARN_UNUSED;
/* For who reads the packets himself: gives the codec one (NULL: the end). 0 or AVERROR(ENOMEM). */
int stream_decoder_send(struct stream_decoder *d, const AVPacket *pkt) WARN_UNUSED;
/* 1: a frame; 0: it wants another packet, or has ended; AVERROR(ENOMEM). */
int stream_decoder_receive(struct stream_decoder *d, AVFrame *frame) WARN_UNUSED;
