#include "lib/media/stream_decoder.h"

#include <errno.h>

#define MAX_PIXELS (1 << 26)
#define MAX_FAULTS 100000 /* a decoder that fails for ever without taking a packet ends here */

static int on_get_buffer(AVCodecContext *codec, AVFrame *frame, int flags)
{
    struct stream_decoder *d = codec->opaque;
    int rc = avcodec_default_get_buffer2(codec, frame, flags);
    if (rc == AVERROR(ENOMEM))
        d->out_of_memory = true;
    return rc;
}

int stream_decoder_open(struct stream_decoder *d, struct input *in, int stream, struct err *e)
{
    *d = (struct stream_decoder){.in = in, .stream = stream};
    const AVStream *st = in->ic->streams[stream];
    const AVCodec *codec = avcodec_find_decoder(st->codecpar->codec_id);
    if (!codec)
        return fault_set(e, MEDIA_UNSUPPORTED_CODEC, "no decoder for %s",
                         avcodec_get_name(st->codecpar->codec_id));
    d->codec = avcodec_alloc_context3(codec);
    d->pkt = av_packet_alloc();
    if (!d->codec || !d->pkt)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "open decoder");
    int rc = avcodec_parameters_to_context(d->codec, st->codecpar);
    if (rc < 0)
        return fault_av(e, MEDIA_UNSUPPORTED_CODEC, rc, "set up decoder");
    d->codec->pkt_timebase = st->time_base;
    d->codec->opaque = d;
    d->codec->get_buffer2 = on_get_buffer;
    d->codec->thread_count = 1;
    d->codec->max_pixels = MAX_PIXELS;
    /* Without a look at the stream the H.264 decoder does not know how far frames are reordered: it then
     * takes the greatest distance that the header allows, and frames come in order from the first. */
    if (st->codecpar->codec_id == AV_CODEC_ID_H264)
        d->codec->strict_std_compliance = FF_COMPLIANCE_STRICT;
    rc = avcodec_open2(d->codec, codec, NULL);
    if (rc < 0)
        return fault_av(e, MEDIA_UNSUPPORTED_CODEC, rc, "open decoder");
    return 0;
}

void stream_decoder_close(struct stream_decoder *d)
{
    avcodec_free_context(&d->codec);
    av_packet_free(&d->pkt);
}

void stream_decoder_flush(struct stream_decoder *d)
{
    avcodec_flush_buffers(d->codec);
    d->draining = false;
    d->read_failed = false;
}

/* Gives the codec one more packet, or the end of the stream. 0 or AVERROR(ENOMEM). */
static int feed(struct stream_decoder *d)
{
    int rc = input_read(d->in, d->stream, d->pkt);
    if (rc == AVERROR(ENOMEM))
        return rc;
    if (rc < 0) {
        d->read_failed = rc != AVERROR_EOF;
        d->draining = true;
        rc = avcodec_send_packet(d->codec, NULL);
        return rc == AVERROR(ENOMEM) ? rc : 0;
    }
    rc = avcodec_send_packet(d->codec, d->pkt);
    av_packet_unref(d->pkt);
    if (rc < 0) {
        d->faults++;
        d->last_fault = rc;
    }
    return rc == AVERROR(ENOMEM) ? rc : 0;
}

int stream_decoder_next(struct stream_decoder *d, AVFrame *frame)
{
    while (d->faults < MAX_FAULTS) {
        int rc = avcodec_receive_frame(d->codec, frame);
        if (rc >= 0)
            return 1;
        if (rc == AVERROR(ENOMEM) || d->out_of_memory)
            return AVERROR(ENOMEM);
        if (rc == AVERROR_EOF || (rc == AVERROR(EAGAIN) && d->draining))
            return 0;
        if (rc != AVERROR(EAGAIN)) {
            d->faults++;
            d->last_fault = rc;
            continue;
        }
        rc = feed(d);
        if (rc < 0)
            return rc;
    }
    return 0;
}
