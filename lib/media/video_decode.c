#include "lib/media/video_decode.h"

#include <errno.h>
#include <libavutil/display.h>
#include <math.h>
#include <string.h>
#include "lib/media/stream_decoder.h"
#include "lib/media/video_pass.h"

#define UNPLANNED -1 /* what a plan could not do is done by a pass */

/* Clips that are decoded together. */
struct group {
    struct video_decoder *v;
    struct input *in;
    const struct media_job *job;
    struct video_clip *clips;
    uint32_t n;
    struct stream_decoder decoder;
    AVFrame *frame; /* owned */
    size_t *target; /* owned: [n, T]: the packet whose frame it is */
    size_t missing; /* wanted frames that have not come */
    int quarter_turns;
};

void video_decoder_close(struct video_decoder *v)
{
    picture_close(&v->picture);
    video_plan_close(&v->plan);
}

static size_t frame_bytes(const struct media_recipe *r)
{
    return (size_t)r->crop * r->crop * 3;
}

static double last_time(const struct media_recipe *r, const struct media_clip *c)
{
    return r->fps > 0 ? c->start_s + (r->frames - 1) / r->fps : c->start_s;
}

uint32_t video_decode_together(const struct input *in, const struct media_job *job, uint32_t first)
{
    AVStream *st = in->ic->streams[in->video];
    double tick = av_q2d(st->time_base);
    uint32_t n = 1;
    if (!(job->recipe.fps > 0))
        return 1;
    for (; first + n < job->clips; n++) {
        const struct media_clip *a = &job->clip[first + n - 1], *b = a + 1;
        double from = (a->start_s + in->origin_s) / tick, to = (b->start_s + in->origin_s) / tick;
        if (b->start_s < a->start_s || !(fabs(from) < 0x1p62) || !(fabs(to) < 0x1p62))
            break;
        int i = av_index_search_timestamp(st, (int64_t)from, AVSEEK_FLAG_BACKWARD);
        if (i < 0 || i != av_index_search_timestamp(st, (int64_t)to, AVSEEK_FLAG_BACKWARD))
            break;
    }
    return n;
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

static AVRational pixel_shape(const AVStream *st)
{
    return st->sample_aspect_ratio.num ? st->sample_aspect_ratio : st->codecpar->sample_aspect_ratio;
}

static void begin_picture(struct group *g, const struct video_clip *c)
{
    const AVStream *st = g->in->ic->streams[g->in->video];
    picture_begin(&g->v->picture, &g->job->recipe, &c->augment, pixel_shape(st), g->quarter_turns);
}

int video_decode_size(struct video_decoder *v, const struct input *in, const struct media_recipe *r,
                      struct err *e)
{
    const AVStream *st = in->ic->streams[in->video];
    struct augment a;
    augment_draw(r, 0, &a);
    picture_begin(&v->picture, r, &a, pixel_shape(st), quarter_turns(st));
    int rc = picture_size(&v->picture, st->codecpar->width, st->codecpar->height,
                          st->codecpar->sample_aspect_ratio, e);
    v->picture.augment = NULL;
    return rc;
}

/* Reads the packets from a point before the group. 0, UNPLANNED or a reason. */
static int read_plan(struct group *g, struct err *e)
{
    const struct media_recipe *r = &g->job->recipe;
    const struct media_clip *first = g->clips[0].clip, *last = g->clips[g->n - 1].clip;
    uint32_t count = r->fps > 0 ? 0 : r->frames;
    for (int level = AT_TARGET; level <= AT_BEGINNING; level++) {
        int rc = video_pass_start(&g->decoder, first, first->start_s, (enum start_level)level, e);
        if (rc)
            return rc;
        bool at_start = video_pass_at_beginning(first->start_s, (enum start_level)level);
        enum plan_result made =
            video_plan_read(&g->v->plan, g->in, first->start_s, last_time(r, last), count, at_start);
        if (made == PLAN_MADE)
            return 0;
        if (made == PLAN_NONE)
            break;
    }
    return UNPLANNED;
}

static int choose_frames(struct group *g)
{
    const struct media_recipe *r = &g->job->recipe;
    struct video_plan *p = &g->v->plan;
    for (uint32_t c = 0; c < g->n; c++) {
        size_t from = r->fps > 0 ? 0 : video_plan_from(p, g->clips[c].clip->start_s);
        if (r->fps <= 0 && p->n_order - from < r->frames)
            return UNPLANNED; /* steps back from the end */
        for (uint32_t i = 0; i < r->frames; i++) {
            size_t at =
                r->fps > 0 ? video_plan_at(p, g->clips[c].clip->start_s + i / r->fps) : p->order[from + i];
            g->target[c * r->frames + i] = at;
            g->missing += !p->packets[at].wanted;
            video_plan_want(p, at);
        }
    }
    return 0;
}

/* The packet whose frame this is, if it is wanted and still missing. */
static struct plan_packet *packet_of(struct group *g)
{
    struct video_plan *p = &g->v->plan;
    if (g->frame->pts == AV_NOPTS_VALUE)
        return NULL;
    double tick = av_q2d(g->in->ic->streams[g->in->video]->time_base);
    size_t i = video_plan_from(p, (double)g->frame->pts * tick - g->in->origin_s);
    for (; i < p->n_order; i++) {
        struct plan_packet *k = &p->packets[p->order[i]];
        if (k->pkt->pts >= g->frame->pts)
            return k->pkt->pts == g->frame->pts && k->wanted ? k : NULL;
    }
    return NULL;
}

/* Puts the frame to all places that it is wanted at. */
static int put(struct group *g, size_t packet, struct err *e)
{
    const struct media_recipe *r = &g->job->recipe;
    size_t bytes = frame_bytes(r);
    for (uint32_t c = 0; c < g->n; c++) {
        const uint8_t *made = NULL;
        for (uint32_t i = 0; i < r->frames; i++) {
            if (g->target[c * r->frames + i] != packet)
                continue;
            uint8_t *out = g->clips[c].out + i * bytes;
            int rc = 0;
            if (made) {
                memcpy(out, made, bytes);
            } else {
                begin_picture(g, &g->clips[c]);
                rc = picture_make(&g->v->picture, g->frame, out, e);
            }
            if (rc)
                return rc;
            made = out;
        }
    }
    return 0;
}

/* 0, UNPLANNED where a wanted frame is damaged, or a reason. */
static int take_frames(struct group *g, struct err *e)
{
    for (;;) {
        int rc = stream_decoder_receive(&g->decoder, g->frame);
        if (rc < 0)
            return fault_av(e, MEDIA_MEMORY_LIMIT, rc, "decode video");
        if (rc == 0)
            return g->decoder.faults ? UNPLANNED : 0;
        struct plan_packet *k = packet_of(g);
        if (!k)
            continue;
        if ((g->frame->flags & AV_FRAME_FLAG_CORRUPT) || g->frame->decode_error_flags)
            return UNPLANNED;
        rc = put(g, (size_t)(k - g->v->plan.packets), e);
        if (rc)
            return rc;
        k->wanted = false;
        g->missing--;
    }
}

static int run_plan(struct group *g, struct err *e)
{
    struct video_plan *p = &g->v->plan;
    int rc = 0;
    for (size_t i = 0; i <= p->last && g->missing && rc == 0; i++) {
        const struct plan_packet *k = &p->packets[i];
        if (!k->wanted && !video_plan_needed(g->in, k->pkt))
            continue;
        g->decoder.codec->skip_frame = k->wanted ? AVDISCARD_DEFAULT : AVDISCARD_NONREF;
        if (stream_decoder_send(&g->decoder, k->pkt) < 0)
            return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "decode video");
        rc = take_frames(g, e);
    }
    g->decoder.codec->skip_frame = AVDISCARD_DEFAULT;
    if (rc || !g->missing)
        return rc;
    if (stream_decoder_send(&g->decoder, NULL) < 0)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "decode video");
    rc = take_frames(g, e);
    return rc == 0 && g->missing ? UNPLANNED : rc;
}

/* 0: all frames of all clips are made. UNPLANNED or a reason. */
static int decode_planned(struct group *g, struct err *e)
{
    g->missing = 0;
    int rc = read_plan(g, e);
    if (rc == 0)
        rc = choose_frames(g);
    if (rc == 0)
        rc = run_plan(g, e);
    video_plan_clear(&g->v->plan);
    return rc;
}

/* Frames of the clip that the video has, when it ended before the clip. */
static uint32_t own_frames(const struct media_recipe *r, const struct media_clip *c,
                           const struct video_end *end)
{
    uint32_t n = end->done;
    for (; r->fps > 0 && n > 1; n--)
        if (c->start_s + (n - 1) / r->fps < end->end_s)
            break;
    return n;
}

/* What the recipe wants where there are fewer frames than T. */
static int fill_up(struct group *g, struct video_clip *c, const struct video_end *end)
{
    const struct media_recipe *r = &g->job->recipe;
    bool ended = end->ended || end->done < r->frames;
    uint32_t own = ended && !g->in->still ? own_frames(r, c->clip, end) : r->frames;
    size_t bytes = frame_bytes(r);
    if (own < r->frames && r->short_clip == MEDIA_SHORT_DROP)
        return fault_set(&c->err, MEDIA_TOO_SHORT, "the video ends at %.2f s, %u of %u frames", end->end_s,
                         own, r->frames);
    if (own < r->frames)
        c->flags |= r->short_clip == MEDIA_SHORT_LOOP ? MEDIA_FLAG_LOOPED : MEDIA_FLAG_PADDED;
    uint32_t from = r->short_clip == MEDIA_SHORT_LOOP ? own : end->done;
    for (uint32_t i = from < end->done ? from : end->done; i < r->frames; i++) {
        uint32_t source = r->short_clip == MEDIA_SHORT_LOOP && !g->in->still ? i % own : i - 1;
        memcpy(c->out + i * bytes, c->out + source * bytes, bytes);
    }
    return 0;
}

static int finish_planned(struct group *g, struct video_clip *c)
{
    const struct video_plan *p = &g->v->plan;
    struct video_end end = {.done = g->job->recipe.frames, .ended = p->ended, .end_s = p->end_s};
    int rc = video_pass_check(g->in, g->job, c->clip, &end, &c->err);
    return rc ? rc : fill_up(g, c, &end);
}

/* One clip, planned if possible. */
static int decode_one(struct group *g, struct video_clip *c)
{
    struct group one = *g;
    one.clips = c;
    one.n = 1;
    int rc = decode_planned(&one, &c->err);
    if (rc == 0)
        return finish_planned(&one, c);
    if (rc != UNPLANNED)
        return rc;
    struct video_end end;
    begin_picture(&one, c);
    rc = video_pass_decode(&one.decoder, g->job, c->clip, &g->v->picture, c->out, &end, &c->err);
    g->decoder = one.decoder;
    return rc ? rc : fill_up(g, c, &end);
}

static int open_group(struct group *g, struct err *e)
{
    const AVStream *st = g->in->ic->streams[g->in->video];
    int rc = stream_decoder_open(&g->decoder, g->in, g->in->video, e);
    if (rc == 0)
        rc = picture_check_size(st->codecpar->width, st->codecpar->height, e);
    if (rc)
        return rc;
    g->quarter_turns = quarter_turns(st);
    g->frame = av_frame_alloc();
    g->target = av_calloc((size_t)g->n * g->job->recipe.frames, sizeof *g->target);
    return g->frame && g->target ? 0 : fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "decode video");
}

void video_decode(struct video_decoder *v, struct input *in, const struct media_job *job,
                  struct video_clip *clips, uint32_t n)
{
    struct group g = {.v = v, .in = in, .job = job, .clips = clips, .n = n};
    struct err e = {0};
    int rc = open_group(&g, &e);
    int together = rc == 0 && n > 1 ? decode_planned(&g, &e) : UNPLANNED;
    for (uint32_t i = 0; i < n; i++) {
        if (rc)
            clips[i].err = e;
        clips[i].reason = rc ? rc : together == 0 ? finish_planned(&g, &clips[i]) : decode_one(&g, &clips[i]);
    }
    stream_decoder_close(&g.decoder);
    av_frame_free(&g.frame);
    av_free(g.target);
}
