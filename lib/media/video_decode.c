#include "lib/media/video_decode.h"

#include <errno.h>
#include <libavutil/display.h>
#include <math.h>
#include <string.h>
#include "lib/media/picture.h"
#include "lib/media/stream_decoder.h"

#define TOLERANCE_S 1e-6
#define SEEK_FROM_S 1.0 /* a clip that starts earlier is decoded from the beginning at once */
#define STEP_BACK_S 10.0
#define TRUNCATED_S 0.5
#define MAX_PASSES 8 /* ends the search where a damaged stream decodes differently every time */

/* How far back a pass starts: a container may seek to a key frame whose pictures come later than asked for.
 */
enum start_level { AT_TARGET, BEFORE_TARGET, AT_BEGINNING };

#define AGAIN -1 /* of a pass: start from an earlier place */

struct video {
    struct input *in;
    const struct media_job *job;
    const struct media_clip *clip;
    struct stream_decoder decoder;
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
    int rc = stream_decoder_next(&v->decoder, v->now);
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
    double from = target_s - (level == BEFORE_TARGET ? STEP_BACK_S : 0);
    int rc = level == AT_BEGINNING || from < SEEK_FROM_S
                 ? input_rewind(v->in, v->in->video, e)
                 : input_seek(v->in, v->in->video, from + v->in->origin_s, e);
    if (rc)
        return rc;
    av_frame_unref(v->now);
    av_frame_unref(v->before);
    stream_decoder_flush(&v->decoder);
    v->last_s = NAN;
    v->end_s = 0;
    v->done = 0;
    v->passed = 0;
    return 0;
}

static bool from_beginning(double target_s, enum start_level level)
{
    return level == AT_BEGINNING || target_s - (level == BEFORE_TARGET ? STEP_BACK_S : 0) < SEEK_FROM_S;
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
            if (v->last_s > t + TOLERANCE_S && !from_beginning(t, level))
                return AGAIN;
            continue;
        }
        if (!have_before)
            return from_beginning(t, level) ? 0 : AGAIN;
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
            return any || from_beginning(t, level) ? 0 : AGAIN;
        if (!any && v->last_s > t + TOLERANCE_S && !from_beginning(t, level))
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

/* The data ended well before the clip although the manifest, and the stream's own header, promise more. */
static int check_truncated(const struct video *v, struct err *e)
{
    const struct media_recipe *r = &v->job->recipe;
    double own = input_stream_duration_s(v->in, v->in->video);
    double claimed = v->job->duration_s;
    if (own > 0 && own < claimed)
        claimed = own;
    double wanted = v->clip->start_s + (r->fps > 0 ? (r->frames - 1) / r->fps : 0);
    if (v->decoder.draining && v->job->duration_s > 0 && v->end_s < fmin(wanted, claimed) - TRUNCATED_S)
        return fault_set(e, MEDIA_TRUNCATED, "video ends at %.2f s, the clip needs %.2f s of %.2f s",
                         v->end_s, wanted, v->job->duration_s);
    return 0;
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
        rc = check_truncated(v, e);
        if (rc)
            return rc;
        uint64_t lacking = frames - v->done;
        bool whole = from_beginning(t, (enum start_level)level);
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

static int finish(struct video *v, struct err *e)
{
    int rc = check_truncated(v, e);
    if (rc)
        return rc;
    if (v->done == 0 && v->decoder.faults)
        return fault_av(e, MEDIA_DECODE_ERROR, v->decoder.last_fault, "decode video");
    if (v->done == 0)
        return fault_set(e, MEDIA_ZERO_FRAMES, "no frame at %.2f s", v->clip->start_s);
    while (v->done < v->job->recipe.frames)
        repeat(v);
    return 0;
}

static int quarter_turns(const AVStream *st)
{
    size_t size = 0;
    const uint8_t *matrix = av_stream_get_side_data(st, AV_PKT_DATA_DISPLAYMATRIX, &size);
    if (!matrix || size < 9 * sizeof(int32_t))
        return 0;
    double angle = -av_display_rotation_get((const int32_t *)(const void *)matrix); /* clockwise */
    if (isnan(angle))
        return 0;
    return (int)((lround(angle / 90) % 4 + 4) % 4);
}

static int video_open(struct video *v, struct err *e)
{
    const AVStream *st = v->in->ic->streams[v->in->video];
    int rc = picture_check_size(st->codecpar->width, st->codecpar->height, e);
    if (rc)
        return rc;
    v->now = av_frame_alloc();
    v->before = av_frame_alloc();
    v->times = av_calloc(v->job->recipe.frames, sizeof *v->times);
    if (!v->now || !v->before || !v->times)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "decode video");
    return stream_decoder_open(&v->decoder, v->in, v->in->video, e);
}

int video_decode(struct input *in, const struct media_job *job, const struct media_clip *clip,
                 const struct augment *a, struct picture *p, uint8_t *out, struct err *e)
{
    struct video v = {.in = in,
                      .job = job,
                      .clip = clip,
                      .picture = p,
                      .out = out,
                      .last_s = NAN,
                      .frame_s = 1 / input_fps(in)};
    picture_begin(p, &job->recipe, a, quarter_turns(in->ic->streams[in->video]));
    int rc = video_open(&v, e);
    if (rc == 0)
        rc = job->recipe.fps > 0 ? decode_timed(&v, e) : decode_consecutive(&v, e);
    if (rc == 0)
        rc = finish(&v, e);
    stream_decoder_close(&v.decoder);
    av_frame_free(&v.now);
    av_frame_free(&v.before);
    av_free(v.times);
    return rc;
}
