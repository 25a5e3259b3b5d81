#include "lib/media/audio_decode.h"

#include <errno.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
#include <math.h>
#include <string.h>
#include "lib/media/logmel.h"
#include "lib/media/stream_decoder.h"

#define WINDOW_S 2.0
#define TIME_MAX_S 1e9
#define MARGIN_S 0.05   /* resampled on both sides of the window: more than the filter's length */
#define GAP_SAMPLES 320 /* time stamps off by more than 20 ms are a gap, by less: rounding */
#define STEP_BACK_S 10.0
#define LATE_S 0.1 /* the first sound after a seek may be that late before the seek counts as missed */
#define TRUNCATED_S 0.5
#define SILENCE 1e-5f
#define LOUDEST 1e9f /* beyond, the power overflows: no sound, but a number that went wrong */
#define AGAIN -1     /* of a pass: start from an earlier place */

struct audio {
    struct audio_decoder *kept;
    struct input *in;
    struct stream_decoder decoder;
    AVFrame *frame;  /* owned */
    bool resampling; /* kept->swr has taken frames of the present segment */
    float *wave;
    int64_t samples; /* of wave */
    double start_s, span_s;
    int64_t position; /* in wave, of the next resampled sample */
    bool any;         /* a frame has been decoded in this pass */
    double end_s;     /* where the newest frame ends */
};

void audio_decoder_close(struct audio_decoder *d)
{
    swr_free(&d->swr);
    av_channel_layout_uninit(&d->layout);
    av_freep(&d->scratch);
    d->scratch_samples = 0;
}

/* Where the window of a shift starts. */
static double window_start(const struct audio_span *span, const struct media_job *job,
                           const struct media_clip *clip, double shift_s)
{
    double s = clip->start_s + job->recipe.frames / span->fps / 2 - WINDOW_S / 2 + shift_s;
    if (span->duration_s > 0)
        s = fmin(s, span->duration_s - WINDOW_S);
    return fmax(s, 0);
}

/* Resamples n samples of every channel (planes NULL: what the resampler still holds) into the window. */
static int resample(struct audio *a, const uint8_t **planes, int n, struct err *e)
{
    struct audio_decoder *k = a->kept;
    int room = swr_get_out_samples(k->swr, n);
    if (room > k->scratch_samples) {
        av_freep(&k->scratch);
        k->scratch = av_malloc_array((size_t)room, sizeof *k->scratch);
        k->scratch_samples = k->scratch ? room : 0;
        if (!k->scratch)
            return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "resample");
    }
    uint8_t *out = (uint8_t *)k->scratch;
    int got = room > 0 ? swr_convert(k->swr, &out, room, planes, n) : 0;
    if (got < 0)
        return fault_av(e, MEDIA_DECODE_ERROR, got, "resample");
    int64_t from = a->position < 0 ? -a->position : 0;
    int64_t to = a->position + got > a->samples ? a->samples - a->position : got;
    if (to > from)
        memcpy(a->wave + a->position + from, k->scratch + from, (size_t)(to - from) * sizeof *a->wave);
    a->position += got;
    return 0;
}

static int finish_segment(struct audio *a, struct err *e)
{
    int rc = a->resampling ? resample(a, NULL, 0, e) : 0;
    a->resampling = false;
    return rc;
}

static bool same_format(const struct audio *a)
{
    const struct audio_decoder *k = a->kept;
    const AVFrame *f = a->frame;
    return k->swr && f->format == k->format && f->sample_rate == k->rate &&
           av_channel_layout_compare(&f->ch_layout, &k->layout) == 0;
}

static int make_resampler(struct audio *a, struct err *e)
{
    struct audio_decoder *k = a->kept;
    const AVFrame *f = a->frame;
    AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
    AVChannelLayout in = {0};
    swr_free(&k->swr);
    if (f->ch_layout.order == AV_CHANNEL_ORDER_UNSPEC)
        av_channel_layout_default(&in, f->ch_layout.nb_channels);
    else if (av_channel_layout_copy(&in, &f->ch_layout) < 0)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "resample");
    int rc = swr_alloc_set_opts2(&k->swr, &mono, AV_SAMPLE_FMT_FLT, LOGMEL_RATE, &in, f->format,
                                 f->sample_rate, 0, NULL);
    /* Else the sum of float channels would depend on the codec's sample format. */
    if (rc >= 0)
        rc = av_opt_set_double(k->swr, "rematrix_maxval", 1.0, 0);
    av_channel_layout_uninit(&in);
    if (rc >= 0)
        rc = av_channel_layout_copy(&k->layout, &f->ch_layout);
    k->format = f->format;
    k->rate = f->sample_rate;
    if (rc < 0)
        swr_free(&k->swr);
    return rc < 0 ? fault_av(e, MEDIA_DECODE_ERROR, rc, "set up resampler") : 0;
}

/* swr_init sets a resampler back to its beginning and keeps its filters, whose making costs as much as using
 * them on two seconds. */
static int start_segment(struct audio *a, struct err *e)
{
    int rc = same_format(a) ? 0 : make_resampler(a, e);
    if (rc)
        return rc;
    rc = swr_init(a->kept->swr);
    if (rc < 0) {
        swr_free(&a->kept->swr);
        return fault_av(e, MEDIA_DECODE_ERROR, rc, "set up resampler");
    }
    a->resampling = true;
    return 0;
}

static bool same_segment(const struct audio *a, int64_t at)
{
    if (!a->resampling || !same_format(a))
        return false;
    int64_t due = a->position + swr_get_delay(a->kept->swr, LOGMEL_RATE);
    return llabs(due - at) <= GAP_SAMPLES;
}

/* Starts a segment with a frame at native sample n0 of the clip's clock. Silence before it makes the first
 * sample of the result one that lies on the clock's own 16 kHz grid: the same sound gives the same samples,
 * wherever decoding began. */
static int begin_at(struct audio *a, int64_t n0, struct err *e)
{
    int64_t rate = a->frame->sample_rate, period = rate / av_gcd(rate, LOGMEL_RATE);
    int64_t before = ((n0 % period) + period) % period;
    int rc = finish_segment(a, e);
    if (rc == 0)
        rc = start_segment(a, e);
    if (rc)
        return rc;
    a->position = (n0 - before) / period * (LOGMEL_RATE * period / rate) - llround(a->start_s * LOGMEL_RATE);
    if (before && swr_inject_silence(a->kept->swr, (int)before) < 0)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "resample");
    return 0;
}

static int take_frame(struct audio *a, double time_s, struct err *e)
{
    int64_t at = llround((time_s - a->start_s) * LOGMEL_RATE);
    int rc = same_segment(a, at) ? 0 : begin_at(a, llround(time_s * a->frame->sample_rate), e);
    return rc ? rc : resample(a, (const uint8_t **)a->frame->extended_data, a->frame->nb_samples, e);
}

/* Clip time of the frame; those without a time stamp follow on. */
static double frame_time(const struct audio *a)
{
    const AVStream *st = a->in->ic->streams[a->in->audio];
    if (a->frame->best_effort_timestamp == AV_NOPTS_VALUE)
        return a->end_s;
    return (double)a->frame->best_effort_timestamp * av_q2d(st->time_base) - a->in->origin_s;
}

static int start_pass(struct audio *a, double from, struct err *e)
{
    int rc = from <= 0 ? input_rewind(a->in, a->in->audio, e)
                       : input_seek(a->in, a->in->audio, from + a->in->origin_s, e);
    if (rc)
        return rc;
    stream_decoder_flush(&a->decoder);
    a->resampling = false;
    memset(a->wave, 0, (size_t)a->samples * sizeof *a->wave);
    a->any = false;
    a->end_s = 0;
    return 0;
}

/* 0, AGAIN or a reason. from: clip time of the seek, <= 0: the beginning. */
static int pass(struct audio *a, double from, struct err *e)
{
    int rc = start_pass(a, from, e);
    while (rc == 0) {
        av_frame_unref(a->frame);
        rc = stream_decoder_next(&a->decoder, a->frame);
        if (rc < 0)
            return fault_av(e, MEDIA_MEMORY_LIMIT, rc, "decode sound");
        if (rc == 0)
            break;
        rc = 0;
        const AVFrame *f = a->frame;
        if (f->sample_rate <= 0 || f->nb_samples <= 0 || f->ch_layout.nb_channels <= 0)
            continue;
        double t = frame_time(a);
        if (!a->any && from > 0 && t > a->start_s + LATE_S)
            return AGAIN;
        a->any = true;
        a->end_s = t + (double)f->nb_samples / f->sample_rate;
        if (t > a->start_s + a->span_s + MARGIN_S)
            break;
        if (a->end_s >= a->start_s - MARGIN_S && fabs(t) < TIME_MAX_S)
            rc = take_frame(a, t, e);
    }
    if (rc)
        return rc;
    if (!a->any && from > 0)
        return AGAIN;
    return finish_segment(a, e);
}

/* As for video: the data ended well before the window although the stream's own header promises more. A
 * stream without a duration of its own may well end before the file does. */
static int check_end(const struct audio_span *s, const struct media_job *job, double start_s, struct err *e)
{
    double wanted = fmin(start_s + WINDOW_S, fmin(s->stream_s, job->duration_s));
    if (s->ended && s->end_s < wanted - TRUNCATED_S)
        return fault_set(e, MEDIA_TRUNCATED, "sound ends at %.2f s, the clip needs %.2f s", s->end_s, wanted);
    if (!(s->duration_s > 0) && s->ended && s->end_s < job->recipe.min_sound_s)
        return fault_set(e, MEDIA_TOO_SHORT, "%.2f s of sound", s->end_s);
    if (s->fault)
        return fault_av(e, MEDIA_DECODE_ERROR, s->fault, "decode sound");
    return 0;
}

static int check_wave(const float *wave, double start_s, struct err *e)
{
    float loudest = 0;
    for (int i = 0; i < LOGMEL_SAMPLES; i++) {
        if (!(fabsf(wave[i]) < LOUDEST))
            return fault_set(e, MEDIA_AUDIO_NONFINITE, "sample %d after %.2f s is not finite", i, start_s);
        loudest = fmaxf(loudest, fabsf(wave[i]));
    }
    if (loudest < SILENCE)
        return fault_set(e, MEDIA_AUDIO_SILENT, "no sound from %.2f s to %.2f s", start_s,
                         start_s + WINDOW_S);
    return 0;
}

/* What a codec must have decoded before its output is that of a decoding from the beginning: overlap, bit
 * reservoir, prediction. */
static double priming_s(const struct input *in)
{
    const AVCodecParameters *p = in->ic->streams[in->audio]->codecpar;
    double samples;
    switch (p->codec_id) {
    case AV_CODEC_ID_AAC:
        samples = 3 * 2048;
        break;
    case AV_CODEC_ID_MP3:
        samples = 12 * 1152;
        break;
    case AV_CODEC_ID_AC3:
    case AV_CODEC_ID_EAC3:
        samples = 3 * 1536;
        break;
    case AV_CODEC_ID_FLAC:
    case AV_CODEC_ID_ALAC:
    case AV_CODEC_ID_PCM_S16LE:
        samples = 0;
        break;
    default:
        return 0.5;
    }
    return p->sample_rate > 0 ? fmin(samples / p->sample_rate, 1) : 0.5;
}

/* The window where the sound ends early or is not there, as the recipe wants it. */
static int fill_up(const struct audio_span *s, enum media_short short_clip, double start_s, float *wave,
                   uint32_t *flags, struct err *e)
{
    double end = s->ended ? s->end_s : start_s + WINDOW_S;
    int64_t own = llround((end - start_s) * LOGMEL_RATE);
    if (own >= LOGMEL_SAMPLES - GAP_SAMPLES)
        return 0;
    if (short_clip == MEDIA_SHORT_DROP)
        return fault_set(e, MEDIA_TOO_SHORT, "sound ends at %.2f s of %.2f s, the clip needs it to %.2f s",
                         end, s->duration_s, start_s + WINDOW_S);
    if (short_clip == MEDIA_SHORT_PAD || own <= 0) {
        *flags |= MEDIA_FLAG_PADDED;
        return 0;
    }
    *flags |= MEDIA_FLAG_LOOPED;
    for (int64_t i = own; i < LOGMEL_SAMPLES; i++)
        wave[i] = wave[i - own];
    return 0;
}

static int silence(float *wave, uint32_t *flags)
{
    memset(wave, 0, LOGMEL_SAMPLES * sizeof *wave);
    *flags |= MEDIA_FLAG_SILENT;
    return 0;
}

int audio_decode(struct audio_decoder *kept, struct input *in, const struct media_job *job,
                 const struct media_clip *clip, float *wave, struct audio_span *out, struct err *e)
{
    const struct media_recipe *r = &job->recipe;
    struct audio a = {.kept = kept, .in = in, .wave = wave};
    memset(out, 0, sizeof *out);
    out->none = in->audio < 0;
    out->duration_s = job->duration_s > 0 ? job->duration_s : in->duration_s;
    out->fps = r->fps > 0 ? r->fps : input_fps(in);
    if (out->none)
        return 0;
    a.start_s = window_start(out, job, clip, -fabs(r->audio_shift_s));
    double last_s = window_start(out, job, clip, fabs(r->audio_shift_s));
    if (!(last_s < TIME_MAX_S))
        return fault_set(e, MEDIA_DECODE_ERROR, "a clip at %g s", clip->start_s);
    out->first = llround(a.start_s * LOGMEL_RATE);
    a.samples = out->samples = llround(last_s * LOGMEL_RATE) - out->first + LOGMEL_SAMPLES;
    a.span_s = last_s - a.start_s + WINDOW_S;
    int rc = stream_decoder_open(&a.decoder, in, in->audio, e);
    if (rc == 0) {
        a.frame = av_frame_alloc();
        rc = a.frame ? AGAIN : fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "decode sound");
    }
    const double from[] = {a.start_s - MARGIN_S - priming_s(in), a.start_s - STEP_BACK_S, 0};
    for (size_t i = 0; rc == AGAIN && i < sizeof from / sizeof from[0]; i++)
        rc = pass(&a, from[i], e);
    out->ended = a.decoder.draining;
    out->end_s = a.end_s;
    out->stream_s = input_stream_duration_s(in, in->audio);
    out->fault = !a.any && a.decoder.faults ? a.decoder.last_fault : 0;
    stream_decoder_close(&a.decoder);
    av_frame_free(&a.frame);
    return rc;
}

int audio_window(const struct audio_span *s, const float *wave, const struct media_job *job,
                 const struct media_clip *clip, const struct augment *a, float *out, uint32_t *flags,
                 struct err *e)
{
    if (s->none)
        return silence(out, flags);
    double start_s = window_start(s, job, clip, a->audio_shift_s);
    int64_t at = start_s < TIME_MAX_S ? llround(start_s * LOGMEL_RATE) - s->first : -1;
    if (at < 0 || at > s->samples - LOGMEL_SAMPLES)
        return fault_set(e, MEDIA_DECODE_ERROR, "no sound is kept from %.2f s on", start_s);
    memcpy(out, wave + at, LOGMEL_SAMPLES * sizeof *out);
    int rc = check_end(s, job, start_s, e);
    if (rc == 0)
        rc = fill_up(s, (enum media_short)job->recipe.short_clip, start_s, out, flags, e);
    if (rc == 0)
        rc = check_wave(out, start_s, e);
    return rc == MEDIA_AUDIO_SILENT && job->recipe.keep_silent ? silence(out, flags) : rc;
}
