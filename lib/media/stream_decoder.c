#include "lib/media/stream_decoder.h"

#include <errno.h>
#include <string.h>

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

void codec_cache_close(struct codec_cache *c)
{
    avcodec_free_context(&c->codec);
    avcodec_parameters_free(&c->parameters);
}

static struct codec_cache *cache_of(const struct stream_decoder *d)
{
    return d->in->ic && d->stream == d->in->video ? d->in->codecs : NULL;
}

/* Everything that a codec may take from the header. */
static bool same_parameters(const AVCodecParameters *a, const AVCodecParameters *b)
{
    return a->codec_id == b->codec_id && a->codec_tag == b->codec_tag && a->format == b->format &&
           a->profile == b->profile && a->level == b->level && a->width == b->width &&
           a->height == b->height && a->field_order == b->field_order && a->video_delay == b->video_delay &&
           a->color_range == b->color_range && a->color_space == b->color_space &&
           a->color_primaries == b->color_primaries && a->color_trc == b->color_trc &&
           a->chroma_location == b->chroma_location && a->sample_rate == b->sample_rate &&
           av_cmp_q(a->sample_aspect_ratio, b->sample_aspect_ratio) == 0 &&
           av_channel_layout_compare(&a->ch_layout, &b->ch_layout) == 0 &&
           a->bits_per_coded_sample == b->bits_per_coded_sample &&
           a->bits_per_raw_sample == b->bits_per_raw_sample && a->block_align == b->block_align &&
           a->frame_size == b->frame_size && a->initial_padding == b->initial_padding &&
           a->seek_preroll == b->seek_preroll && a->extradata_size == b->extradata_size &&
           (a->extradata_size == 0 || memcmp(a->extradata, b->extradata, (size_t)a->extradata_size) == 0);
}

static bool take_cached(struct stream_decoder *d)
{
    struct codec_cache *c = cache_of(d);
    const AVStream *st = d->in->ic->streams[d->stream];
    if (!c || !c->codec || av_cmp_q(c->timebase, st->time_base) != 0 ||
        !same_parameters(c->parameters, st->codecpar))
        return false;
    d->codec = c->codec;
    d->codec->opaque = d;
    c->codec = NULL;
    return true;
}

/* A codec in which anything went wrong is not kept. */
static void give_cached(struct stream_decoder *d)
{
    struct codec_cache *c = d->codec ? cache_of(d) : NULL;
    if (!c || !avcodec_is_open(d->codec) || d->faults || d->out_of_memory)
        return;
    d->codec->skip_frame = AVDISCARD_DEFAULT;
    codec_cache_close(c);
    const AVStream *st = d->in->ic->streams[d->stream];
    c->parameters = avcodec_parameters_alloc();
    if (!c->parameters || avcodec_parameters_copy(c->parameters, st->codecpar) < 0)
        return;
    avcodec_flush_buffers(d->codec);
    d->codec->opaque = NULL;
    c->timebase = st->time_base;
    c->codec = d->codec;
    d->codec = NULL;
}

static int open_codec(struct stream_decoder *d, struct err *e)
{
    const AVStream *st = d->in->ic->streams[d->stream];
    const AVCodec *codec = avcodec_find_decoder(st->codecpar->codec_id);
    if (!codec)
        return fault_set(e, MEDIA_UNSUPPORTED_CODEC, "no decoder for %s",
                         avcodec_get_name(st->codecpar->codec_id));
    d->codec = avcodec_alloc_context3(codec);
    if (!d->codec)
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

int stream_decoder_open(struct stream_decoder *d, struct input *in, int stream, struct err *e)
{
    *d = (struct stream_decoder){.in = in, .stream = stream};
    d->pkt = av_packet_alloc();
    if (!d->pkt)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "open decoder");
    return take_cached(d) ? 0 : open_codec(d, e);
}

void stream_decoder_close(struct stream_decoder *d)
{
    give_cached(d);
    avcodec_free_context(&d->codec);
    av_packet_free(&d->pkt);
}

void stream_decoder_flush(struct stream_decoder *d)
{
    avcodec_flush_buffers(d->codec);
    d->draining = false;
    d->read_failed = false;
}

int stream_decoder_send(struct stream_decoder *d, const AVPacket *pkt)
{
    d->draining |= !pkt;
    int rc = avcodec_send_packet(d->codec, pkt);
    if (rc < 0 && pkt) {
        d->faults++;
        d->last_fault = rc;
    }
    return rc == AVERROR(ENOMEM) || d->out_of_memory ? AVERROR(ENOMEM) : 0;
}

int stream_decoder_receive(struct stream_decoder *d, AVFrame *frame)
{
    while (d->faults < MAX_FAULTS) {
        int rc = avcodec_receive_frame(d->codec, frame);
        if (rc >= 0)
            return 1;
        if (rc == AVERROR(ENOMEM) || d->out_of_memory)
            return AVERROR(ENOMEM);
        if (rc == AVERROR_EOF || rc == AVERROR(EAGAIN))
            return 0;
        d->faults++;
        d->last_fault = rc;
    }
    return 0;
}

/* Gives the codec one more packet, or the end of the stream. 0 or AVERROR(ENOMEM). */
static int feed(struct stream_decoder *d)
{
    int rc = input_read(d->in, d->stream, d->pkt);
    if (rc == AVERROR(ENOMEM))
        return rc;
    if (rc < 0) {
        d->read_failed = rc != AVERROR_EOF;
        return stream_decoder_send(d, NULL);
    }
    rc = stream_decoder_send(d, d->pkt);
    av_packet_unref(d->pkt);
    return rc;
}

int stream_decoder_next(struct stream_decoder *d, AVFrame *frame)
{
    while (d->faults < MAX_FAULTS) {
        int rc = stream_decoder_receive(d, frame);
        if (rc != 0 || d->draining)
            return rc;
        rc = feed(d);
        if (rc < 0)
            return rc;
    }
    return 0;
}
