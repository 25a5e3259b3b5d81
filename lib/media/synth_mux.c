/* Made-up clips as mp4 files: H.264 by libx264, AAC by FFmpeg's own encoder, moov at the end. */
#include "lib/media/synth.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>

/* One encoder and its stream. */
struct track {
    AVCodecContext *codec; /* owned */
    AVStream *stream;      /* the muxer's */
    AVFrame *frame;        /* owned */
    int64_t next;          /* pts of the next frame, in codec time base */
};

struct writer {
    const struct synth_clip *clip;
    const char *path;
    AVFormatContext *format;   /* owned */
    AVPacket *packet;          /* owned */
    struct SwsContext *scaler; /* owned */
    uint8_t *rgb;              /* owned: one frame */
    float *pcm;                /* owned: the whole sound */
    struct track video, audio;
};

/* FFmpeg's codes for system errors are negative errnos already; its own become XDC_EMEDIA. */
static int media_error(struct err *e, int code, const char *what)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(code, text, sizeof text);
    return err_set(e, code > -1000 && code < 0 ? code : XDC_EMEDIA, "%s: %s", what, text);
}

static int track_open(struct writer *w, struct track *t, const AVCodec *codec, AVDictionary **options,
                      struct err *e)
{
    if (w->format->oformat->flags & AVFMT_GLOBALHEADER)
        t->codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    t->codec->flags |= AV_CODEC_FLAG_BITEXACT;
    t->codec->thread_count =
        1; /* the number of threads shapes the stream; files are made in parallel instead */
    int rc = avcodec_open2(t->codec, codec, options);
    if (rc < 0)
        return media_error(e, rc, "open encoder");
    t->stream = avformat_new_stream(w->format, NULL);
    t->frame = av_frame_alloc();
    if (!t->stream || !t->frame)
        return err_sys(e, ENOMEM, "add stream");
    t->stream->time_base = t->codec->time_base;
    rc = avcodec_parameters_from_context(t->stream->codecpar, t->codec);
    return rc < 0 ? media_error(e, rc, "describe stream") : 0;
}

static int video_open(struct writer *w, struct err *e)
{
    const struct synth_clip *c = w->clip;
    struct track *t = &w->video;
    const AVCodec *codec = avcodec_find_encoder_by_name("libx264");
    if (!codec)
        return err_set(e, XDC_EMEDIA, "this FFmpeg has no libx264 encoder");
    t->codec = avcodec_alloc_context3(codec);
    if (!t->codec)
        return err_sys(e, ENOMEM, "allocate encoder");
    t->codec->width = (int)c->width;
    t->codec->height = (int)c->height;
    t->codec->pix_fmt = AV_PIX_FMT_YUV420P;
    t->codec->time_base = (AVRational){1, SYNTH_FPS};
    t->codec->framerate = (AVRational){SYNTH_FPS, 1};
    t->codec->gop_size = (int)c->gop;
    AVDictionary *options = NULL;
    av_dict_set(&options, "preset", "ultrafast", 0);
    av_dict_set(&options, "crf", "23", 0);
    int rc = track_open(w, t, codec, &options, e);
    av_dict_free(&options);
    if (rc)
        return rc;
    t->stream->avg_frame_rate = t->codec->framerate;
    t->frame->format = AV_PIX_FMT_YUV420P;
    t->frame->width = t->codec->width;
    t->frame->height = t->codec->height;
    rc = av_frame_get_buffer(t->frame, 0);
    if (rc < 0)
        return media_error(e, rc, "allocate picture");
    w->scaler =
        sws_getContext(t->codec->width, t->codec->height, AV_PIX_FMT_RGB24, t->codec->width, t->codec->height,
                       AV_PIX_FMT_YUV420P, SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT, NULL, NULL, NULL);
    w->rgb = malloc((size_t)c->width * c->height * 3);
    return w->scaler && w->rgb ? 0 : err_sys(e, ENOMEM, "allocate picture");
}

static int audio_open(struct writer *w, struct err *e)
{
    const struct synth_clip *c = w->clip;
    struct track *t = &w->audio;
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_AAC);
    if (!codec)
        return err_set(e, XDC_EMEDIA, "this FFmpeg has no AAC encoder");
    t->codec = avcodec_alloc_context3(codec);
    if (!t->codec)
        return err_sys(e, ENOMEM, "allocate encoder");
    t->codec->sample_fmt = AV_SAMPLE_FMT_FLTP;
    t->codec->sample_rate = (int)c->sample_rate;
    t->codec->bit_rate = c->sample_rate > 16000 ? 96000 : 64000;
    t->codec->time_base = (AVRational){1, (int)c->sample_rate};
    av_channel_layout_default(&t->codec->ch_layout, 1);
    int rc = track_open(w, t, codec, NULL, e);
    if (rc)
        return rc;
    t->frame->format = t->codec->sample_fmt;
    t->frame->sample_rate = t->codec->sample_rate;
    t->frame->nb_samples = t->codec->frame_size;
    rc = av_channel_layout_copy(&t->frame->ch_layout, &t->codec->ch_layout);
    if (rc >= 0)
        rc = av_frame_get_buffer(t->frame, 0);
    if (rc < 0)
        return media_error(e, rc, "allocate sound");
    w->pcm = malloc(c->samples * sizeof *w->pcm);
    if (!w->pcm)
        return err_sys(e, ENOMEM, "allocate sound");
    synth_sound(c, w->pcm);
    return 0;
}

/* Encodes one frame, or with NULL drains the encoder, and hands what comes out to the muxer. */
static int encode(struct writer *w, struct track *t, const AVFrame *frame, struct err *e)
{
    int rc = avcodec_send_frame(t->codec, frame);
    if (rc < 0)
        return media_error(e, rc, "encode");
    for (;;) {
        rc = avcodec_receive_packet(t->codec, w->packet);
        if (rc == AVERROR(EAGAIN) || rc == AVERROR_EOF)
            return 0;
        if (rc < 0)
            return media_error(e, rc, "encode");
        if (t == &w->video)
            w->packet->duration = 1;
        av_packet_rescale_ts(w->packet, t->codec->time_base, t->stream->time_base);
        w->packet->stream_index = t->stream->index;
        rc = av_interleaved_write_frame(w->format, w->packet);
        if (rc < 0)
            return media_error(e, rc, "write");
    }
}

static int encode_picture(struct writer *w, struct err *e)
{
    struct track *t = &w->video;
    int rc = av_frame_make_writable(t->frame);
    if (rc < 0)
        return media_error(e, rc, "allocate picture");
    synth_frame(w->clip, (uint32_t)t->next, w->rgb);
    const uint8_t *const planes[1] = {w->rgb};
    const int strides[1] = {(int)w->clip->width * 3};
    sws_scale(w->scaler, planes, strides, 0, (int)w->clip->height, t->frame->data, t->frame->linesize);
    t->frame->pts = t->next++;
    return encode(w, t, t->frame, e);
}

static int encode_sound(struct writer *w, struct err *e)
{
    struct track *t = &w->audio;
    int rc = av_frame_make_writable(t->frame);
    if (rc < 0)
        return media_error(e, rc, "allocate sound");
    int64_t left = (int64_t)w->clip->samples - t->next;
    t->frame->nb_samples = (int)(left < t->codec->frame_size ? left : t->codec->frame_size);
    float *out = (float *)(void *)t->frame->data[0];
    for (int i = 0; i < t->frame->nb_samples; i++)
        out[i] = w->pcm[t->next + i];
    t->frame->pts = t->next;
    t->next += t->frame->nb_samples;
    return encode(w, t, t->frame, e);
}

/* Pictures and sound in order of time, so that the muxer holds little back. */
static int encode_all(struct writer *w, struct err *e)
{
    const struct synth_clip *c = w->clip;
    int rc = 0;
    while (!rc && (w->video.next < c->frames || w->audio.next < c->samples)) {
        bool picture = w->video.next < c->frames;
        if (picture && w->audio.next < c->samples)
            picture = w->video.next * c->sample_rate <= w->audio.next * SYNTH_FPS;
        rc = picture ? encode_picture(w, e) : encode_sound(w, e);
    }
    if (!rc)
        rc = encode(w, &w->video, NULL, e);
    if (!rc && c->samples)
        rc = encode(w, &w->audio, NULL, e);
    return rc;
}

/* Half of the truncated files keep their index, in front, and lose pictures; the others lose the index. */
static bool moov_in_front(const struct synth_clip *c)
{
    return c->flaw == SYNTH_TRUNCATED && c->index % 2 == 1;
}

static int write_container(struct writer *w, struct err *e)
{
    int rc = avformat_alloc_output_context2(&w->format, NULL, "mp4", w->path);
    if (rc < 0)
        return media_error(e, rc, "create mp4");
    w->format->flags |= AVFMT_FLAG_BITEXACT; /* no date and no version: the same clip gives the same bytes */
    w->packet = av_packet_alloc();
    if (!w->packet)
        return err_sys(e, ENOMEM, "allocate packet");
    rc = video_open(w, e);
    if (!rc && w->clip->samples)
        rc = audio_open(w, e);
    if (rc)
        return rc;
    rc = avio_open(&w->format->pb, w->path, AVIO_FLAG_WRITE);
    if (rc < 0)
        return media_error(e, rc, "create");
    AVDictionary *options = NULL;
    if (moov_in_front(w->clip))
        av_dict_set(&options, "movflags", "+faststart", 0);
    rc = avformat_write_header(w->format, &options);
    av_dict_free(&options);
    if (rc < 0)
        return media_error(e, rc, "write header");
    rc = encode_all(w, e);
    if (rc)
        return rc;
    rc = av_write_trailer(w->format);
    if (rc >= 0)
        rc = avio_closep(&w->format->pb);
    return rc < 0 ? media_error(e, rc, "finish") : 0;
}

static void writer_close(struct writer *w)
{
    if (w->format && w->format->pb)
        avio_closep(&w->format->pb);
    avcodec_free_context(&w->video.codec);
    avcodec_free_context(&w->audio.codec);
    av_frame_free(&w->video.frame);
    av_frame_free(&w->audio.frame);
    av_packet_free(&w->packet);
    avformat_free_context(w->format);
    sws_freeContext(w->scaler);
    free(w->rgb);
    free(w->pcm);
}

/* Cuts the file at 40 % of its bytes. */
static int cut(const char *path, struct err *e)
{
    struct stat st;
    if (stat(path, &st) || truncate(path, st.st_size * 2 / 5))
        return err_sys(e, errno, "truncate");
    return 0;
}

int synth_write(const struct synth_clip *c, const char *path, struct err *e)
{
    char part[PATH_MAX];
    int n = snprintf(part, sizeof part, "%s.part", path);
    if (n < 0 || (size_t)n >= sizeof part)
        return err_set(e, -ENAMETOOLONG, "%s.part: path too long", path);
    av_log_set_level(AV_LOG_QUIET);
    struct writer w = {.clip = c, .path = part};
    int rc = write_container(&w, e);
    writer_close(&w);
    if (!rc && c->flaw == SYNTH_TRUNCATED)
        rc = cut(part, e);
    if (!rc && rename(part, path))
        rc = err_sys(e, errno, "rename");
    if (rc) {
        unlink(part);
        err_wrap(e, "%s", path);
    }
    return rc;
}
