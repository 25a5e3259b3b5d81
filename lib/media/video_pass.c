#include "lib/media/video_pass.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define TOLERANCE_S 1e-6
#define SEEK_FROM_S 1.0 /* a clip that starts earlier is decoded from the beginning at once */
#define TRUNCATED_S 0.5
#define MAX_PASSES 8 /* ends the search where a damaged stream decodes differently every time */

#define AGAIN -1 /* of a pass: start from an earlier place */

struct video {
    struct input *in;
    const struct media_job *job;
    const struct media_clip *clip;
    struct stream_decoder *decoder;
    struct picture *picture;
    AVFrame *now, *before; /* owned: the newest frame and the one before it */
    uint8_t *out;
    uint32_t done;   /* frames put out */
    double last_s;   /* time of the newest frame; NAN before the first */
    double end_s;    /* where it ends */
    double frame_s;  /* 1 / frame rate */
    double *times;   /* owned: of the newest `ring` frames before the target, frame n at n % ring */
    uint64_t passed; /* how many of those there were */
};

static double start_of(double target_s, enum start_level level)
{
    static const double back_s[] = {[AT_TARGET] = 0, [BEFORE_TARGET] = 2.5, [FAR_BEFORE] = 12};
    return level == AT_BEGINNING ? 0 : target_s - back_s[level];
}

bool video_pass_at_beginning(double target_s, enum start_level level)
{
    return start_of(target_s, level) < SEEK_FROM_S;
}

int video_pass_start(struct stream_decoder *d, const struct media_clip *clip, double target_s,
                     enum start_level level, struct err *e)
{
    struct input *in = d->in;
    double from = start_of(target_s, level);
    int rc;
    if (video_pass_at_beginning(target_s, level))
        rc = input_rewind(in, in->video, e);
    else if (level == AT_TARGET && clip->key_pos >= 0 && clip->key_s <= target_s)
        rc = input_seek_byte(in, in->video, clip->key_pos, from + in->origin_s, e);
    else
        rc = input_seek(in, in->video, from + in->origin_s, e);
    if (rc == 0)
        stream_decoder_flush(d);
    return rc;
}

int video_pass_check(const struct input *in, const struct media_job *job, const struct media_clip *clip,
                     const struct video_end *end, struct err *e)
{
    const struct media_recipe *r = &job->recipe;
    double own = input_stream_duration_s(in, in->video);
    double claimed = job->duration_s;
    if (own > 0 && own < claimed)
        claimed = own;
    double wanted = clip->start_s + (r->fps > 0 ? (r->frames - 1) / r->fps : 0);
    if (end->ended && job->duration_s > 0 && end->end_s < fmin(wanted, claimed) - TRUNCATED_S)
        return fault_set(e, MEDIA_TRUNCATED, "video ends at %.2f s, the clip needs %.2f s of %.2f s",
                         end->end_s, wanted, job->duration_s);
    return 0;
}

static struct video_end end_of(const struct video *v)
{
    return (struct video_end){.done = v->done, .ended = v->decoder->draining, .end_s = v->end_s};
}

static size_t frame_bytes(const struct video *v)
{
    return (size_t)v->job->recipe.crop * v->job->recipe.crop * 3;
}

/* Clip time of v->now. Time stamps that are missing are counted on, those that go back stand still. */
static void take_time(struct video *v)
{
    const AVStream *st = v->in->ic->streams[v->in->video];
    double s = isnan(v->last_s) ? 0 : v->last_s + v->frame_s;
    if (v->now->best_effort_timestamp != AV_NOPTS_VALUE)
        s = (double)v->now->best_effort_timestamp * av_q2d(st->time_base) - v->in->origin_s;
    v->last_s = isnan(v->last_s) ? s : fmax(s, v->last_s);
    double length = (double)v->now->pkt_duration * av_q2d(st->time_base);
    v->end_s = v->last_s + (length > 0 && length < 1e6 ? length : v->frame_s);
}

/* 1: v->now is the next frame, v->before the one before it; 0: the end, and v->now is empty; else
 * AVERROR(ENOMEM). */
static int next_frame(struct video *v)
{
    av_frame_unref(v->before);
    av_frame_move_ref(v->before, v->now);
    int rc = stream_decoder_next(v->decoder, v->now);
    if (rc == 1)
        take_time(v);
    return rc;
}

static int put(struct video *v, const AVFrame *frame, struct err *e)
{
    int rc = picture_make(v->picture, frame, v->out + v->done * frame_bytes(v), e);
    if (rc == 0)
        v->done++;
    return rc;
}

static void repeat(struct video *v)
{
    memcpy(v->out + v->done * frame_bytes(v), v->out + (v->done - 1) * frame_bytes(v), frame_bytes(v));
    v->done++;
}

static int start_pass(struct video *v, double target_s, enum start_level level, struct err *e)
{
    int rc = video_pass_start(v->decoder, v->clip, target_s, level, e);
    if (rc)
        return rc;
    av_frame_unref(v->now);
    av_frame_unref(v->before);
    v->last_s = NAN;
    v->end_s = 0;
    v->done = 0;
    v->passed = 0;
    return 0;
}

/* fps > 0. A frame is put out when its successor, or the end, shows that it was the last one in time. 0,
 * AGAIN or reason. */
static int pass_timed(struct video *v, enum start_level level, struct err *e)
{
    const struct media_recipe *r = &v->job->recipe;
    double t = v->clip->start_s;
    int rc = start_pass(v, t, level, e);
    if (rc)
        return rc;
    while (v->done < r->frames) {
        rc = next_frame(v);
        if (rc < 0)
            return fault_av(e, MEDIA_MEMORY_LIMIT, rc, "decode video");
        bool have_before = v->before->buf[0] != NULL;
        if (rc == 1 && !have_before) {
            if (v->last_s > t + TOLERANCE_S && !video_pass_at_beginning(t, level))
                return AGAIN;
            continue;
        }
        if (!have_before)
            return video_pass_at_beginning(t, level) ? 0 : AGAIN;
        double until = rc == 1 ? v->last_s : INFINITY;
        bool is_out = false; /* v->before has been converted */
        while (v->done < r->frames && t + v->done / r->fps + TOLERANCE_S < until) {
            if (is_out) {
                repeat(v);
                continue;
            }
            int bad = put(v, v->before, e);
            if (bad)
                return bad;
            is_out = true;
        }
        if (rc == 0)
            return 0;
    }
    return 0;
}

/* fps = 0, from the first frame at or after t. Leaves v->done < T where the video ends earlier, and in
 * v->times the times of up to T frames before t. 0, AGAIN or reason. */
static int pass_consecutive(struct video *v, double t, enum start_level level, struct err *e)
{
    uint32_t frames = v->job->recipe.frames;
    int rc = start_pass(v, t, level, e);
    if (rc)
        return rc;
    bool any = false;
    while (v->done < frames) {
        rc = next_frame(v);
        if (rc < 0)
            return fault_av(e, MEDIA_MEMORY_LIMIT, rc, "decode video");
        if (rc == 0)
            return any || video_pass_at_beginning(t, level) ? 0 : AGAIN;
        if (!any && v->last_s > t + TOLERANCE_S && !video_pass_at_beginning(t, level))
            return AGAIN;
        any = true;
        if (v->last_s + TOLERANCE_S < t) {
            v->times[v->passed++ % frames] = v->last_s;
            continue;
        }
        rc = put(v, v->now, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* Passes from ever earlier places until one of them meets the target. */
static int decode_timed(struct video *v, struct err *e)
{
    int rc = AGAIN;
    for (int level = AT_TARGET; rc == AGAIN && level <= AT_BEGINNING; level++)
        rc = pass_timed(v, (enum start_level)level, e);
    return rc;
}

static int decode_consecutive(struct video *v, struct err *e)
{
    uint32_t frames = v->job->recipe.frames;
    double t = v->clip->start_s;
    int level = AT_TARGET;
    for (int passes = 0; passes < MAX_PASSES; passes++) {
        int rc = pass_consecutive(v, t, (enum start_level)level, e);
        if (rc == AGAIN) {
            level++;
            continue;
        }
        if (rc || v->done == frames)
            return rc;
        struct video_end end = end_of(v);
        rc = video_pass_check(v->in, v->job, v->clip, &end, e);
        if (rc)
            return rc;
        uint64_t lacking = frames - v->done;
        bool whole = video_pass_at_beginning(t, (enum start_level)level);
        if (v->passed == 0 && whole)
            return 0;
        if (v->passed < lacking && !whole) {
            level++;
            continue;
        }
        /* Step back to the frame that leaves T, or to the first one. */
        uint64_t back = lacking < v->passed ? lacking : v->passed;
        t = v->times[(v->passed - back) % frames];
        level = AT_TARGET;
    }
    return 0;
}

int video_pass_decode(struct stream_decoder *d, const struct media_job *job, const struct media_clip *clip,
                      struct picture *p, uint8_t *out, struct video_end *end, struct err *e)
{
    struct video v = {.in = d->in,
                      .job = job,
                      .clip = clip,
                      .decoder = d,
                      .picture = p,
                      .out = out,
                      .now = av_frame_alloc(),
                      .before = av_frame_alloc(),
                      .times = av_calloc(job->recipe.frames, sizeof *v.times),
                      .last_s = NAN,
                      .frame_s = 1 / input_fps(d->in)};
    d->codec->skip_frame = AVDISCARD_DEFAULT;
    int rc =
        v.now && v.before && v.times ? 0 : fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "decode video");
    if (rc == 0)
        rc = job->recipe.fps > 0 ? decode_timed(&v, e) : decode_consecutive(&v, e);
    *end = end_of(&v);
    if (rc == 0)
        rc = video_pass_check(d->in, job, clip, end, e);
    if (rc == 0 && v.done == 0 && d->faults)
        rc = fault_av(e, MEDIA_DECODE_ERROR, d->last_fault, "decode video");
    else if (rc == 0 && v.done == 0)
        rc = fault_set(e, MEDIA_ZERO_FRAMES, "no frame at %.2f s", clip->start_s);
    av_frame_free(&v.now);
    av_frame_free(&v.before);
    av_free(v.times);
    return rc;
}
