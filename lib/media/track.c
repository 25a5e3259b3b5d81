#include "lib/media/track.h"

#include <libavutil/samplefmt.h>
#include <math.h>
#include "lib/media/facts.h"
#include "lib/media/picture.h"

#define JUMP_S 600.0    /* no film stands still for that long */
#define BACK_S 1.0      /* further back than any reordering */
#define UNEVEN 0.25     /* of a frame's distance */
#define UNEVEN_S 0.0021 /* Matroska and FLV round to a millisecond */
#define SHARE 20        /* one step in so many makes a fault or a fact */

static int open_decoder(struct track *t, struct err *e)
{
    const AVCodecParameters *p = t->in->ic->streams[t->stream]->codecpar;
    if (p->codec_type == AVMEDIA_TYPE_VIDEO && avcodec_find_decoder(p->codec_id)) {
        int rc = picture_check_size(p->width, p->height, e);
        if (rc)
            return rc;
    }
    return stream_decoder_open(&t->decoder, t->in, t->stream, e);
}

void track_open(struct track *t, struct input *in, int stream)
{
    *t = (struct track){.in = in, .stream = stream};
    if (stream >= 0)
        t->reason = open_decoder(t, &t->why);
}

void track_close(struct track *t)
{
    if (t->decoder.pkt)
        stream_decoder_close(&t->decoder);
}

static double peak_f32(const float *p, int n, bool *out_nonfinite)
{
    float peak = 0;
    for (int i = 0; i < n; i++) {
        *out_nonfinite |= !isfinite(p[i]);
        peak = fmaxf(peak, fabsf(p[i]));
    }
    return (double)peak;
}

static double peak_f64(const double *p, int n, bool *out_nonfinite)
{
    double peak = 0;
    for (int i = 0; i < n; i++) {
        *out_nonfinite |= !isfinite(p[i]);
        peak = fmax(peak, fabs(p[i]));
    }
    return peak;
}

static double peak_int(const uint8_t *p, int n, int bytes)
{
    double peak = 0;
    for (int i = 0; i < n; i++) {
        double v = bytes == 1   ? ((double)p[i] - 128) / 128
                   : bytes == 2 ? (double)((const int16_t *)(const void *)p)[i] / 0x1p15
                   : bytes == 4 ? (double)((const int32_t *)(const void *)p)[i] / 0x1p31
                                : (double)((const int64_t *)(const void *)p)[i] / 0x1p63;
        peak = fmax(peak, fabs(v));
    }
    return peak;
}

static void take_sound(struct track *t, const AVFrame *f)
{
    bool planar = av_sample_fmt_is_planar((enum AVSampleFormat)f->format);
    enum AVSampleFormat packed = av_get_packed_sample_fmt((enum AVSampleFormat)f->format);
    int channels = f->ch_layout.nb_channels, planes = planar ? channels : 1;
    int n = planar ? f->nb_samples : f->nb_samples * channels;
    t->samples += (uint64_t)f->nb_samples;
    for (int i = 0; i < planes; i++) {
        const void *p = f->extended_data[i];
        double peak = packed == AV_SAMPLE_FMT_FLT   ? peak_f32(p, n, &t->nonfinite)
                      : packed == AV_SAMPLE_FMT_DBL ? peak_f64(p, n, &t->nonfinite)
                                                    : peak_int(p, n, av_get_bytes_per_sample(packed));
        t->loudest = fmaxf(t->loudest, (float)peak);
    }
}

static void take_picture(struct track *t, const AVFrame *f)
{
    t->facts |= facts_of_frame(f);
    if (t->width && (f->width != t->width || f->height != t->height))
        t->facts |= media_fact_bit(MEDIA_SIZE_CHANGES);
    t->width = f->width;
    t->height = f->height;
}

static void take_step(struct track *t, double at_s)
{
    double step = at_s - t->last_s;
    if (step < 0)
        t->backwards++;
    if (step > JUMP_S || step < -BACK_S)
        t->jump_s = fabs(step) > fabs(t->jump_s) ? step : t->jump_s;
    double off = fabs(step - t->last_step_s);
    if (t->last_step_s > 0 && off > UNEVEN_S && off > UNEVEN * fmin(step, t->last_step_s))
        t->uneven++;
    t->last_step_s = step;
}

static void take_frame(struct track *t, const AVFrame *f)
{
    const AVStream *st = t->in->ic->streams[t->stream];
    t->frames++;
    t->damaged += (f->flags & AV_FRAME_FLAG_CORRUPT) || f->decode_error_flags;
    if (f->pts != AV_NOPTS_VALUE) {
        double at_s = (double)f->pts * av_q2d(st->time_base);
        if (t->framed)
            take_step(t, at_s);
        else
            t->frame_start_s = at_s;
        t->framed = true;
        t->last_s = at_s;
    }
    if (st->codecpar->codec_type == AVMEDIA_TYPE_VIDEO)
        take_picture(t, f);
    else
        take_sound(t, f);
}

static void take_time(struct track *t, const AVPacket *pkt)
{
    int64_t ts = pkt->pts != AV_NOPTS_VALUE ? pkt->pts : pkt->dts;
    double tick = av_q2d(t->in->ic->streams[t->stream]->time_base);
    t->packets += !(pkt->flags & AV_PKT_FLAG_DISCARD);
    if (ts == AV_NOPTS_VALUE) {
        t->undated++;
        return;
    }
    double from = (double)ts * tick, to = from + (double)(pkt->duration > 0 ? pkt->duration : 0) * tick;
    t->start_s = t->dated ? fmin(t->start_s, from) : from;
    t->end_s = t->dated ? fmax(t->end_s, to) : to;
    t->dated = true;
}

int track_take(struct track *t, const AVPacket *pkt, AVFrame *frame, struct err *e)
{
    if (pkt)
        take_time(t, pkt);
    if (t->reason)
        return 0;
    int rc = stream_decoder_send(&t->decoder, pkt);
    while (rc == 0 && (rc = stream_decoder_receive(&t->decoder, frame)) == 1) {
        take_frame(t, frame);
        av_frame_unref(frame);
        rc = 0;
    }
    if (rc < 0)
        return fault_av(e, MEDIA_MEMORY_LIMIT, rc, "decode");
    return 0;
}

uint64_t track_faults(const struct track *t)
{
    return t->damaged + t->decoder.faults;
}

bool track_is_vfr(const struct track *t)
{
    uint64_t lost = 2 * track_faults(t); /* a frame that was lost makes two uneven steps */
    return t->uneven > lost + 1 && (t->uneven - lost) * SHARE > t->frames;
}

bool track_bad_times(const struct track *t, struct err *e)
{
    bool expected = !(t->in->ic->iformat->flags & AVFMT_NOTIMESTAMPS);
    const char *kind = av_get_media_type_string(t->in->ic->streams[t->stream]->codecpar->codec_type);
    if (expected && 2 * t->undated > t->packets)
        err_set(e, XDC_EMEDIA, "%llu of %llu %s packets have no time stamp", (unsigned long long)t->undated,
                (unsigned long long)t->packets, kind);
    else if (t->jump_s != 0)
        err_set(e, XDC_EMEDIA, "%s time stamps jump by %.1f s", kind, t->jump_s);
    else if (t->backwards > 1 && t->backwards * SHARE > t->frames)
        err_set(e, XDC_EMEDIA, "%s time stamps run backwards %llu times in %llu frames", kind,
                (unsigned long long)t->backwards, (unsigned long long)t->frames);
    else
        return false;
    return true;
}
