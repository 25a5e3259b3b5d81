#include "lib/media/examine.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include "lib/media/facts.h"
#include "lib/media/track.h"

#define SILENCE 1e-5f   /* -100 dBFS */
#define TRUNCATED_S 0.5 /* data may end that much before the header says */
#define OFFSET_S 0.1    /* MEDIA_AV_OFFSET */
#define AUDIO_SHORT_S 0.5

struct examination {
    struct input *in;
    const struct media_recipe *recipe;
    struct track video, audio;
    bool encrypted;
    bool dated;
    double start_s, end_s; /* of the packets of all streams, stream time */
    double read_s;         /* where the data ends, as generously as it can be understood */
};

static bool is_encrypted(const struct input *in, const AVPacket *pkt)
{
    size_t size;
    return av_packet_get_side_data(pkt, AV_PKT_DATA_ENCRYPTION_INFO, &size) ||
           av_stream_get_side_data(in->ic->streams[pkt->stream_index], AV_PKT_DATA_ENCRYPTION_INIT_INFO,
                                   &size);
}

static void take_time(struct examination *x, const AVPacket *pkt)
{
    int64_t ts = pkt->pts != AV_NOPTS_VALUE ? pkt->pts : pkt->dts;
    if (ts == AV_NOPTS_VALUE)
        return;
    double tick = av_q2d(x->in->ic->streams[pkt->stream_index]->time_base), from = (double)ts * tick;
    double to = from + (double)(pkt->duration > 0 ? pkt->duration : 0) * tick;
    x->start_s = x->dated ? fmin(x->start_s, from) : from;
    x->end_s = x->dated ? fmax(x->end_s, to) : to;
    x->dated = true;
}

static int take_packet(struct examination *x, const AVPacket *pkt, AVFrame *frame, struct err *e)
{
    struct track *t = pkt->stream_index == x->video.stream   ? &x->video
                      : pkt->stream_index == x->audio.stream ? &x->audio
                                                             : NULL;
    take_time(x, pkt);
    if (!t)
        return 0;
    x->encrypted |= is_encrypted(x->in, pkt);
    if (x->encrypted)
        return 0;
    return track_take(t, pkt, frame, e);
}

static int read_all(struct examination *x, AVPacket *pkt, AVFrame *frame, struct err *e)
{
    int rc = 0, got = 0;
    while (rc == 0 && (got = av_read_frame(x->in->ic, pkt)) >= 0) {
        rc = take_packet(x, pkt, frame, e);
        av_packet_unref(pkt);
    }
    if (rc == 0 && got == AVERROR(ENOMEM))
        rc = fault_av(e, MEDIA_MEMORY_LIMIT, got, "read");
    if (rc == 0 && x->video.stream >= 0)
        rc = track_take(&x->video, NULL, frame, e);
    if (rc == 0 && x->audio.stream >= 0)
        rc = track_take(&x->audio, NULL, frame, e);
    x->read_s = fmax(x->end_s, x->end_s - x->start_s);
    return rc;
}

/* MP4 says how long each stream is, others how long the file is; what was only measured or estimated promises
 * nothing. */
static bool is_truncated(const struct examination *x, const struct track *t, struct err *e)
{
    const AVFormatContext *ic = x->in->ic;
    bool mov = strncmp(ic->iformat->name, "mov,", 4) == 0;
    double claim = 0, end = x->read_s;
    if (mov && avformat_index_get_entries_count(ic->streams[t->stream]) > 0) {
        claim = input_stream_duration_s(x->in, t->stream);
        end = t->dated ? fmax(t->end_s, t->end_s - t->start_s) : 0;
    } else if (strcmp(ic->iformat->name, "avi") == 0) { /* without its index its duration is what is left */
        const AVStream *st = ic->streams[t->stream];
        claim = t == &x->video ? (double)st->nb_frames * av_q2d(st->time_base) : 0;
    } else if (!mov && ic->duration_estimation_method == AVFMT_DURATION_FROM_STREAM && ic->duration > 0) {
        claim = (double)ic->duration / AV_TIME_BASE;
    }
    if (x->in->still || end >= claim - TRUNCATED_S)
        return false;
    err_set(e, XDC_EMEDIA, "%.2f s of data, %.2f s in the header", end, claim);
    return true;
}

static int judge_track(const struct examination *x, const struct track *t, struct err *e)
{
    const char *kind = t == &x->video ? "video" : "audio";
    uint64_t faults = track_faults(t);
    if (x->encrypted)
        return fault_set(e, MEDIA_ENCRYPTED, "the packets are encrypted");
    if (t->reason) {
        *e = t->why;
        return t->reason;
    }
    if (t->frames == 0 && is_truncated(x, t, e))
        return MEDIA_TRUNCATED;
    if (t->frames == 0 && t->packets)
        return fault_set(e, MEDIA_DECODE_ERROR, "none of %llu %s packets can be decoded",
                         (unsigned long long)t->packets, kind);
    if (t->frames == 0)
        return fault_set(e, MEDIA_ZERO_FRAMES, "the %s stream has no packets", kind);
    if (!x->in->still && track_bad_times(t, e))
        return MEDIA_BAD_TIMESTAMPS;
    if (is_truncated(x, t, e))
        return MEDIA_TRUNCATED;
    if (2 * faults > t->frames + t->decoder.faults)
        return fault_set(e, MEDIA_DECODE_ERROR, "%llu faults, %llu %s frames", (unsigned long long)faults,
                         (unsigned long long)t->frames, kind);
    return 0;
}

static int judge_sound(const struct examination *x, struct err *e)
{
    double seconds = x->audio.dated ? x->audio.end_s - x->audio.start_s : 0;
    if (x->video.stream >= 0 && x->video.dated && !x->in->still)
        seconds = x->video.end_s - x->video.start_s;
    if (seconds > 0 && seconds < x->recipe->min_sound_s)
        return fault_set(e, MEDIA_TOO_SHORT, "%.2f s long", seconds);
    if (x->audio.nonfinite)
        return fault_set(e, MEDIA_AUDIO_NONFINITE, "samples of the sound are not finite");
    if (x->audio.loudest < SILENCE)
        return fault_set(e, MEDIA_AUDIO_SILENT, "no sample above -100 dBFS in %llu",
                         (unsigned long long)x->audio.samples);
    return 0;
}

/* The picture first: what is wrong with it counts more than a sound that is not there. */
static int judge(const struct examination *x, struct err *e)
{
    const struct media_recipe *q = x->recipe;
    bool video = x->video.stream >= 0, audio = x->audio.stream >= 0;
    if (!video && (q->want_video || (!audio && !q->want_audio)))
        return fault_set(e, MEDIA_NO_VIDEO, "no video stream");
    int rc = q->want_video ? judge_track(x, &x->video, e) : 0;
    if (rc == 0 && q->want_audio && !audio)
        return fault_set(e, MEDIA_NO_AUDIO, "no audio stream");
    if (rc == 0 && q->want_audio)
        rc = judge_track(x, &x->audio, e);
    if (rc == 0 && q->want_audio)
        rc = judge_sound(x, e);
    return rc;
}

static uint32_t facts_of_both(const struct examination *x)
{
    const struct track *v = &x->video, *a = &x->audio;
    uint32_t facts = v->facts | a->facts;
    if (track_is_vfr(v))
        facts |= media_fact_bit(MEDIA_VFR);
    if (track_faults(v) || track_faults(a))
        facts |= media_fact_bit(MEDIA_SOME_DAMAGE);
    if (x->in->still)
        return facts & ~media_fact_bit(MEDIA_INTERLACED);
    if (v->framed && a->framed && fabs(v->frame_start_s - a->frame_start_s) > OFFSET_S)
        facts |= media_fact_bit(MEDIA_AV_OFFSET);
    if (v->dated && a->dated && a->end_s < v->end_s - AUDIO_SHORT_S)
        facts |= media_fact_bit(MEDIA_AUDIO_SHORT);
    return facts;
}

/* Facts that say nothing beside a fault. */
static uint32_t facts_overruled(int reason)
{
    switch (reason) {
    case MEDIA_TRUNCATED:
    case MEDIA_ZERO_FRAMES:
    case MEDIA_DECODE_ERROR:
        return media_fact_bit(MEDIA_SOME_DAMAGE);
    case MEDIA_BAD_TIMESTAMPS:
        return media_fact_bit(MEDIA_VFR) | media_fact_bit(MEDIA_AV_OFFSET) |
               media_fact_bit(MEDIA_AUDIO_SHORT);
    default:
        return 0;
    }
}

static void report(const struct examination *x, struct media_result *out)
{
    const struct track *v = &x->video, *a = &x->audio;
    double origin = v->framed ? v->frame_start_s : a->framed ? a->frame_start_s : 0;
    out->missing = (v->stream < 0 ? 1u : 0) | (a->stream < 0 ? 2u : 0);
    out->facts = facts_of_input(x->in) | facts_of_both(x);
    out->examination = (struct media_examination){
        .video_frames = v->frames,
        .audio_samples = a->samples,
        .faults = track_faults(v) + track_faults(a),
        .video_end_s = v->dated ? v->end_s - origin : 0,
        .audio_end_s = a->dated ? a->end_s - origin : 0,
    };
}

int examine_file(struct input *in, const struct media_job *job, struct media_result *out, struct err *e)
{
    struct examination x = {.in = in, .recipe = &job->recipe};
    AVPacket *pkt = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    track_open(&x.video, in, in->video);
    track_open(&x.audio, in, in->audio);
    int rc = pkt && frame ? read_all(&x, pkt, frame, e)
                          : fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "examine");
    if (rc == 0) {
        report(&x, out);
        rc = judge(&x, e);
        out->facts &= ~facts_overruled(rc);
    }
    track_close(&x.video);
    track_close(&x.audio);
    av_packet_free(&pkt);
    av_frame_free(&frame);
    return rc;
}
