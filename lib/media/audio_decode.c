#include "lib/media/audio_decode.h"

#include <errno.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
#include <math.h>
#include <string.h>
#include "lib/media/logmel.h"
#include "lib/media/stream_decoder.h"

#define WINDOW_S 2.0
#define PREROLL_S 0.5   /* decoded before the window: more than any codec's overlap or bit reservoir */
#define MARGIN_S 0.05   /* resampled on both sides of the window: more than the filter's length */
#define GAP_SAMPLES 320 /* time stamps off by more than 20 ms are a gap, by less: rounding */
#define STEP_BACK_S 10.0
#define LATE_S 0.1 /* the first sound after a seek may be that late before the seek counts as missed */
#define TRUNCATED_S 0.5
#define SILENCE 1e-5f
#define LOUDEST 1e9f /* beyond, the power overflows: no sound, but a number that went wrong */
#define AGAIN -1 /* of a pass: start from an earlier place */

struct audio {
    struct input *in;
    const struct media_job *job;
    struct stream_decoder decoder;
    AVFrame *frame;         /* owned */
    SwrContext *swr;        /* owned */
    AVChannelLayout layout; /* owned: what swr was made for, with format and rate */
    int format, rate;
    float *scratch; /* owned */
    int scratch_samples;
    float *wave;
    double start_s;
    int64_t position; /* in wave, of the next resampled sample */
    bool any;         /* a frame has been decoded in this pass */
    double end_s;     /* where the newest frame ends */
};

double audio_window_start(const struct input *in, const struct media_job *job, const struct media_clip *clip,
                          const struct augment *a)
{
    const struct media_recipe *r = &job->recipe;
    double fps = r->fps > 0 ? r->fps : input_fps(in);
    double s = clip->start_s + r->frames / fps / 2 - WINDOW_S / 2 + a->audio_shift_s;
    double duration = job->duration_s > 0 ? job->duration_s : in->duration_s;
    if (duration > 0)
        s = fmin(s, duration - WINDOW_S);
    return fmax(s, 0);
}

/* Resamples n samples of every channel (planes NULL: what the resampler still holds) into the window. */
static int resample(struct audio *a, const uint8_t **planes, int n, struct err *e)
{
    int room = swr_get_out_samples(a->swr, n);
    if (room > a->scratch_samples) {
        av_freep(&a->scratch);
        a->scratch = av_malloc_array((size_t)room, sizeof *a->scratch);
        a->scratch_samples = a->scratch ? room : 0;
        if (!a->scratch)
            return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "resample");
    }
    uint8_t *out = (uint8_t *)a->scratch;
    int got = room > 0 ? swr_convert(a->swr, &out, room, planes, n) : 0;
    if (got < 0)
        return fault_av(e, MEDIA_DECODE_ERROR, got, "resample");
    for (int i = 0; i < got; i++) {
        int64_t at = a->position + i;
        if (at >= 0 && at < LOGMEL_SAMPLES)
            a->wave[at] = a->scratch[i];
    }
    a->position += got;
    return 0;
}

static int finish_segment(struct audio *a, struct err *e)
{
    int rc = a->swr ? resample(a, NULL, 0, e) : 0;
    swr_free(&a->swr);
    return rc;
}

static int start_segment(struct audio *a, struct err *e)
{
    const AVFrame *f = a->frame;
    AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
    AVChannelLayout in = {0};
    if (f->ch_layout.order == AV_CHANNEL_ORDER_UNSPEC)
        av_channel_layout_default(&in, f->ch_layout.nb_channels);
    else if (av_channel_layout_copy(&in, &f->ch_layout) < 0)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "resample");
    int rc = swr_alloc_set_opts2(&a->swr, &mono, AV_SAMPLE_FMT_FLT, LOGMEL_RATE, &in, f->format,
                                 f->sample_rate, 0, NULL);
    /* Else the sum of float channels would depend on the codec's sample format. */
    if (rc >= 0)
        rc = av_opt_set_double(a->swr, "rematrix_maxval", 1.0, 0);
    if (rc >= 0)
        rc = swr_init(a->swr);
    av_channel_layout_uninit(&in);
    if (rc < 0) {
        swr_free(&a->swr);
        return fault_av(e, MEDIA_DECODE_ERROR, rc, "set up resampler");
    }
    a->format = f->format;
    a->rate = f->sample_rate;
    rc = av_channel_layout_copy(&a->layout, &f->ch_layout);
    return rc < 0 ? fault_av(e, MEDIA_MEMORY_LIMIT, rc, "set up resampler") : 0;
}

static bool same_segment(const struct audio *a, int64_t at)
{
    const AVFrame *f = a->frame;
    if (!a->swr || f->format != a->format || f->sample_rate != a->rate ||
        av_channel_layout_compare(&f->ch_layout, &a->layout) != 0)
        return false;
    int64_t due = a->position + swr_get_delay(a->swr, LOGMEL_RATE);
    return llabs(due - at) <= GAP_SAMPLES;
}

static int take_frame(struct audio *a, double time_s, struct err *e)
{
    int64_t at = llround((time_s - a->start_s) * LOGMEL_RATE);
    if (!same_segment(a, at)) {
        int rc = finish_segment(a, e);
        if (rc == 0)
            rc = start_segment(a, e);
        if (rc)
            return rc;
        a->position = at;
    }
    return resample(a, (const uint8_t **)a->frame->extended_data, a->frame->nb_samples, e);
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
    swr_free(&a->swr);
    memset(a->wave, 0, LOGMEL_SAMPLES * sizeof *a->wave);
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
        if (t > a->start_s + WINDOW_S + MARGIN_S)
            break;
        if (a->end_s >= a->start_s - MARGIN_S && fabs(t) < 1e9)
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
static int check_end(const struct audio *a, struct err *e)
{
    double own = input_stream_duration_s(a->in, a->in->audio);
    double duration = a->job->duration_s > 0 ? a->job->duration_s : a->in->duration_s;
    double wanted = fmin(a->start_s + WINDOW_S, fmin(own, a->job->duration_s));
    if (a->decoder.draining && a->end_s < wanted - TRUNCATED_S)
        return fault_set(e, MEDIA_TRUNCATED, "sound ends at %.2f s, the clip needs %.2f s", a->end_s, wanted);
    if (!(duration > 0) && a->decoder.draining && a->end_s < a->job->recipe.min_sound_s)
        return fault_set(e, MEDIA_TOO_SHORT, "%.2f s of sound", a->end_s);
    if (!a->any && a->decoder.faults)
        return fault_av(e, MEDIA_DECODE_ERROR, a->decoder.last_fault, "decode sound");
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

int audio_decode(struct input *in, const struct media_job *job, const struct media_clip *clip,
                 const struct augment *aug, float *wave, struct err *e)
{
    struct audio a = {.in = in, .job = job, .wave = wave, .start_s = audio_window_start(in, job, clip, aug)};
    int rc = stream_decoder_open(&a.decoder, in, in->audio, e);
    if (rc == 0) {
        a.frame = av_frame_alloc();
        rc = a.frame ? AGAIN : fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "decode sound");
    }
    const double from[] = {a.start_s - PREROLL_S, a.start_s - STEP_BACK_S, 0};
    for (size_t i = 0; rc == AGAIN && i < sizeof from / sizeof from[0]; i++)
        rc = pass(&a, from[i], e);
    if (rc == 0)
        rc = check_end(&a, e);
    if (rc == 0)
        rc = check_wave(wave, a.start_s, e);
    stream_decoder_close(&a.decoder);
    av_frame_free(&a.frame);
    swr_free(&a.swr);
    av_channel_layout_uninit(&a.layout);
    av_freep(&a.scratch);
    return rc;
}
