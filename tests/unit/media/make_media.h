/* make_media: writes small real media files for tests, whose frames and samples tell their own place.
 * Used by the media tests; each includes it once. Fails the test on any error. Frame n is uniform grey of
 * luma 16 + 4 n, so frame_number() reads n back from decoded RGB; sample n of the sound is given by a
 * function. */
#pragma once
#include <fcntl.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK_AV(x) make_media_check((x), #x)

struct make_media {
    const char *path;
    int frames;                           /* 0: no video; at most 55 */
    int fps;                              /* of the frames where times_ms is NULL */
    const int *times_ms;                  /* of every frame: a variable frame rate */
    int start_ms;                         /* of both streams */
    int width, height;                    /* 0: 64 x 48 */
    const char *video_codec;              /* NULL: mpeg4 */
    int gop;                              /* 0: 12 */
    int degrees;                          /* clockwise, from the stored to the displayed picture */
    double audio_s;                       /* 0: no sound */
    int audio_start_ms;                   /* beside start_ms */
    int rate, channels;                   /* 0: 16000, 1 */
    enum AVCodecID audio_codec;           /* 0: PCM of 16 bits */
    double (*sample)(int n, int channel); /* NULL: silence */
};

struct make_media_stream {
    AVStream *st;
    AVCodecContext *codec;
    int64_t duration; /* of a packet, where the encoder does not say; without it MP4 loses the last frame */
};

static void make_media_check(int rc, const char *what)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    if (rc >= 0)
        return;
    av_strerror(rc, text, sizeof text);
    fail_msg("%s: %s", what, text);
}

static void make_media_packets(AVFormatContext *oc, struct make_media_stream *s, const AVFrame *f)
{
    AVPacket *pkt = av_packet_alloc();
    CHECK_AV(avcodec_send_frame(s->codec, f));
    int rc;
    while ((rc = avcodec_receive_packet(s->codec, pkt)) >= 0) {
        if (!pkt->duration)
            pkt->duration = s->duration;
        av_packet_rescale_ts(pkt, s->codec->time_base, s->st->time_base);
        pkt->stream_index = s->st->index;
        CHECK_AV(av_interleaved_write_frame(oc, pkt));
    }
    assert_true(rc == AVERROR(EAGAIN) || rc == AVERROR_EOF);
    av_packet_free(&pkt);
}

static void make_media_open(AVFormatContext *oc, struct make_media_stream *s, const AVCodec *codec)
{
    if (oc->oformat->flags & AVFMT_GLOBALHEADER)
        s->codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    s->codec->flags |= AV_CODEC_FLAG_BITEXACT;
    CHECK_AV(avcodec_open2(s->codec, codec, NULL));
    s->st = avformat_new_stream(oc, NULL);
    assert_non_null(s->st);
    s->st->time_base = s->codec->time_base;
    CHECK_AV(avcodec_parameters_from_context(s->st->codecpar, s->codec));
}

static void make_media_video_open(AVFormatContext *oc, struct make_media_stream *s,
                                  const struct make_media *m)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(m->video_codec ? m->video_codec : "mpeg4");
    if (!codec)
        skip();
    s->codec = avcodec_alloc_context3(codec);
    s->codec->width = m->width ? m->width : 64;
    s->codec->height = m->height ? m->height : 48;
    s->codec->pix_fmt = AV_PIX_FMT_YUV420P;
    /* AVI counts frames: in milliseconds it would be full of empty ones. */
    bool counted = strstr(m->path, ".avi") != NULL;
    s->codec->time_base = (AVRational){1, counted ? m->fps : 1000};
    s->duration = counted ? 1 : m->fps ? 1000 / m->fps : 40;
    if (m->fps)
        s->codec->framerate = (AVRational){m->fps, 1};
    s->codec->gop_size = m->gop ? m->gop : 12;
    s->codec->max_b_frames = 2;
    s->codec->global_quality = 2 * FF_QP2LAMBDA;
    s->codec->flags |= AV_CODEC_FLAG_QSCALE;
    make_media_open(oc, s, codec);
    if (m->degrees > 0) {
        int32_t *matrix = (int32_t *)(void *)av_stream_new_side_data(s->st, AV_PKT_DATA_DISPLAYMATRIX, 36);
        const int32_t c = m->degrees == 180 ? -65536 : 0, n = m->degrees == 90    ? 65536
                                                              : m->degrees == 270 ? -65536
                                                                                  : 0;
        const int32_t values[9] = {c, n, 0, -n, c, 0, 0, 0, 1 << 30};
        memcpy(matrix, values, sizeof values);
    }
}

static void make_media_video(AVFormatContext *oc, struct make_media_stream *s, const struct make_media *m)
{
    AVFrame *f = av_frame_alloc();
    f->format = s->codec->pix_fmt;
    f->width = s->codec->width;
    f->height = s->codec->height;
    CHECK_AV(av_frame_get_buffer(f, 0));
    for (int n = 0; n < m->frames; n++) {
        CHECK_AV(av_frame_make_writable(f));
        memset(f->data[0], 16 + 4 * n, (size_t)f->linesize[0] * (size_t)f->height);
        memset(f->data[1], 128, (size_t)f->linesize[1] * (size_t)((f->height + 1) / 2));
        memset(f->data[2], 128, (size_t)f->linesize[2] * (size_t)((f->height + 1) / 2));
        int ms = m->start_ms + (m->times_ms ? m->times_ms[n] : n * 1000 / m->fps);
        f->pts = av_rescale_q(ms, (AVRational){1, 1000}, s->codec->time_base);
        make_media_packets(oc, s, f);
    }
    make_media_packets(oc, s, NULL);
    av_frame_free(&f);
}

static void make_media_audio_open(AVFormatContext *oc, struct make_media_stream *s,
                                  const struct make_media *m)
{
    const AVCodec *codec = avcodec_find_encoder(m->audio_codec ? m->audio_codec : AV_CODEC_ID_PCM_S16LE);
    if (!codec)
        skip();
    s->codec = avcodec_alloc_context3(codec);
    s->codec->sample_rate = m->rate ? m->rate : 16000;
    s->codec->sample_fmt = codec->sample_fmts[0];
    s->codec->bit_rate = 128000;
    av_channel_layout_default(&s->codec->ch_layout, m->channels ? m->channels : 1);
    s->codec->time_base = (AVRational){1, s->codec->sample_rate};
    make_media_open(oc, s, codec);
}

static void make_media_put_sample(const AVFrame *f, int n, int channel, int channels, double x)
{
    if (f->format == AV_SAMPLE_FMT_S16)
        ((int16_t *)(void *)f->data[0])[n * channels + channel] = (int16_t)lround(x * 32767);
    else if (f->format == AV_SAMPLE_FMT_FLT)
        ((float *)(void *)f->data[0])[n * channels + channel] = (float)x;
    else if (f->format == AV_SAMPLE_FMT_FLTP)
        ((float *)(void *)f->data[channel])[n] = (float)x;
    else
        fail_msg("sample format %d", f->format);
}

static void make_media_audio(AVFormatContext *oc, struct make_media_stream *s, const struct make_media *m)
{
    int channels = s->codec->ch_layout.nb_channels;
    int total = (int)lround(m->audio_s * s->codec->sample_rate);
    /* Whole milliseconds, which Matroska can write exactly. */
    int step = s->codec->frame_size ? s->codec->frame_size : s->codec->sample_rate / 10;
    for (int done = 0; done < total; done += step) {
        AVFrame *f = av_frame_alloc();
        f->format = s->codec->sample_fmt;
        f->nb_samples = total - done < step ? total - done : step;
        f->sample_rate = s->codec->sample_rate;
        CHECK_AV(av_channel_layout_copy(&f->ch_layout, &s->codec->ch_layout));
        CHECK_AV(av_frame_get_buffer(f, 0));
        f->pts = done + (int64_t)(m->start_ms + m->audio_start_ms) * s->codec->sample_rate / 1000;
        for (int n = 0; n < f->nb_samples; n++)
            for (int c = 0; c < channels; c++)
                make_media_put_sample(f, n, c, channels, m->sample ? m->sample(done + n, c) : 0);
        make_media_packets(oc, s, f);
        av_frame_free(&f);
    }
    make_media_packets(oc, s, NULL);
}

static void make_media(const struct make_media *m)
{
    AVFormatContext *oc = NULL;
    struct make_media_stream video = {0}, audio = {0};
    av_log_set_level(AV_LOG_QUIET);
    CHECK_AV(avformat_alloc_output_context2(&oc, NULL, NULL, m->path));
    oc->flags |= AVFMT_FLAG_BITEXACT;
    oc->avoid_negative_ts = AVFMT_AVOID_NEG_TS_MAKE_NON_NEGATIVE;
    oc->max_interleave_delta =
        0; /* the streams are written one after the other: hold all packets until the end */
    if (m->frames)
        make_media_video_open(oc, &video, m);
    if (m->audio_s > 0)
        make_media_audio_open(oc, &audio, m);
    CHECK_AV(avio_open(&oc->pb, m->path, AVIO_FLAG_WRITE));
    CHECK_AV(avformat_write_header(oc, NULL));
    if (m->frames)
        make_media_video(oc, &video, m);
    if (m->audio_s > 0)
        make_media_audio(oc, &audio, m);
    CHECK_AV(av_write_trailer(oc));
    CHECK_AV(avio_closep(&oc->pb));
    avcodec_free_context(&video.codec);
    avcodec_free_context(&audio.codec);
    avformat_free_context(oc);
}

/* The number of a decoded frame, read from its first pixel; -1 for a colour that make_media does not write.
 */
static inline int frame_number(const uint8_t *rgb)
{
    double luma = rgb[1] * 219 / 255.0 + 16;
    int n = (int)lround((luma - 16) / 4);
    return fabs(16 + 4 * n - luma) <= 1.9 ? n : -1;
}

static char make_media_dir[64];

/* A path in the test's own directory. */
static inline const char *media_path(char out[128], const char *name)
{
    snprintf(out, 128, "%s/%s", make_media_dir, name);
    return out;
}

static inline int media_dir_setup(void **state)
{
    (void)state;
    strcpy(make_media_dir, "/tmp/xdc-test-media-XXXXXX");
    return mkdtemp(make_media_dir) ? 0 : -1;
}

static inline int media_dir_teardown(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -r '%s'", make_media_dir);
    return system(command);
}

static inline int open_media(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}
