#include "lib/media/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/media/audio_decode.h"
#include "lib/media/examine.h"
#include "lib/media/facts.h"
#include "lib/media/logmel.h"
#include "lib/media/probe.h"
#include "lib/media/stream_decoder.h"
#include "lib/media/video_decode.h"
#include "lib/media/wide.h"

#define FIRST_MAX (INT64_C(1) << 48) /* beyond any sample's number */

_Static_assert(sizeof(struct audio_span) <= WIDE_HEAD, "the head of wide sound");

struct media_session {
    struct codec_cache codecs;
    struct video_decoder video;
    struct audio_decoder audio;
    struct logmel *logmel; /* owned */
    float *wave;           /* owned: LOGMEL_SAMPLES, a view's */
    float *span;           /* owned: what it is taken from */
    uint64_t span_samples; /* room there */
    XXH3_state_t *hash;    /* owned */
};

/* A job while it runs. */
struct run {
    struct media_session *s;
    const struct media_job *job;
    struct input in;
    uint8_t *slot;
    uint64_t slot_bytes;
    media_session_answer answer;
    void *arg;
    struct media_probe probe;
    bool keep; /* as the job asks, if there are wide clips of the file */
    struct wide_video head;
    struct media_job wide; /* what makes their frames */
};

/* What a sample is made of. */
struct source {
    const struct wide_video *head; /* NULL: the frames are the sample's own, in their place */
    const uint8_t *frames;
    const struct audio_span *span;
    const float *wave;
};

int media_session_create(struct media_session **out, struct err *e)
{
    struct media_session *s = calloc(1, sizeof *s);
    *out = s;
    if (!s)
        return err_sys(e, ENOMEM, "media session");
    s->wave = malloc(LOGMEL_SAMPLES * sizeof *s->wave);
    s->hash = XXH3_createState();
    int rc = s->wave && s->hash ? logmel_create(&s->logmel, e) : err_sys(e, ENOMEM, "media session");
    if (rc < 0) {
        media_session_destroy(s);
        *out = NULL;
    }
    return rc;
}

void media_session_destroy(struct media_session *s)
{
    if (!s)
        return;
    codec_cache_close(&s->codecs);
    video_decoder_close(&s->video);
    audio_decoder_close(&s->audio);
    logmel_destroy(s->logmel);
    free(s->wave);
    free(s->span);
    XXH3_freeState(s->hash);
    free(s);
}

static void begin_result(const struct media_job *job, uint32_t clip, struct media_result *out)
{
    memset(out, 0, sizeof *out);
    out->id = job->id;
    out->clip = clip;
    out->probe.video_stream = out->probe.audio_stream = -1;
}

static bool end_result(struct run *r, struct media_result *out, int reason, const struct err *e)
{
    out->reason = (uint32_t)reason;
    if (reason)
        snprintf(out->detail, sizeof out->detail, "%.*s", (int)sizeof out->detail - 1, e->msg);
    return r->answer(r->arg, out);
}

static void hash_sample(const struct run *r, struct media_result *out)
{
    XXH3_state_t *h = r->s->hash;
    if (!out->video_bytes && !out->audio_bytes)
        return;
    XXH3_64bits_reset(h);
    XXH3_64bits_update(h, r->slot + out->video_offset, out->video_bytes);
    XXH3_64bits_update(h, r->slot + out->audio_offset, out->audio_bytes);
    out->hash = XXH3_64bits_digest(h);
}

static uint8_t *sample_of(const struct run *r, uint32_t clip)
{
    return r->slot + clip * media_clip_bytes(r->job);
}

static uint8_t *part_of(const struct run *r, uint32_t clip, enum media_part part)
{
    return r->slot + media_wide_offset(r->job, clip, part);
}

/* The view's frames, where they are not in their place already. */
static int view_frames(struct run *r, const struct augment *a, const struct source *from,
                       struct media_result *out, struct err *e)
{
    const struct media_recipe *q = &r->job->recipe;
    const struct wide_video *head = from->head;
    uint64_t bytes = (uint64_t)q->crop * q->crop * 3;
    uint8_t *to = sample_of(r, out->clip);
    for (uint32_t i = 0; head && i < q->frames; i++) {
        uint64_t at = i * 3 * (uint64_t)head->w * (uint64_t)head->h;
        if (!wide_cut(head, q, a, from->frames + at, to + i * bytes))
            return fault_set(e, MEDIA_DECODE_ERROR, "no pictures are kept of this crop");
        int rc = picture_degrade(&r->s->video.picture, q, to + i * bytes, e);
        if (rc)
            return rc;
    }
    out->video_offset = (uint64_t)(to - r->slot);
    out->video_bytes = (uint32_t)(q->frames * bytes);
    return 0;
}

/* The view's log-mel. 0, also for what stands for sound that is not there, or a reason; it is made after 0
 * and MEDIA_AUDIO_SILENT. */
static int view_sound(struct run *r, const struct media_clip *c, const struct augment *a,
                      const struct source *from, struct media_result *out, struct err *e)
{
    struct media_session *s = r->s;
    const struct media_recipe *q = &r->job->recipe;
    int rc = audio_window(from->span, from->wave, r->job, c, a, s->wave, &out->flags, e);
    if (rc && rc != MEDIA_AUDIO_SILENT)
        return rc;
    uint64_t offset = (uint64_t)(sample_of(r, out->clip) - r->slot) + ((out->video_bytes + 63) & ~63u);
    float *logmel = (float *)(void *)(r->slot + offset);
    logmel_compute(s->logmel, (enum media_frontend)q->frontend, s->wave, logmel);
    augment_mask(a, logmel);
    out->audio_offset = offset;
    out->audio_bytes = MEDIA_AUDIO_FLOATS * sizeof(float);
    return rc;
}

/* Where the sound of a clip goes that is not kept. */
static float *span_of(struct run *r)
{
    struct media_session *s = r->s;
    uint64_t samples = wide_samples_max(&r->job->recipe);
    if (samples > s->span_samples) {
        free(s->span);
        s->span = malloc(samples * sizeof *s->span);
        s->span_samples = s->span ? samples : 0;
    }
    return s->span;
}

static int decode_sound(struct run *r, const struct video_clip *c, struct media_result *out, struct err *e)
{
    uint8_t *part = r->keep ? part_of(r, out->clip, MEDIA_PART_AUDIO) : NULL;
    float *wave = part ? (float *)(void *)(part + WIDE_HEAD) : span_of(r);
    struct audio_span span;
    if (!wave)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "decode sound");
    int rc = audio_decode(&r->s->audio, &r->in, r->job, c->clip, wave, &span, e);
    if (rc)
        return rc;
    if (part) {
        memset(part, 0, WIDE_HEAD);
        memcpy(part, &span, sizeof span);
        out->wide_bytes[MEDIA_PART_AUDIO] = WIDE_HEAD + (uint64_t)span.samples * sizeof *wave;
    }
    return view_sound(r, c->clip, &c->augment, &(struct source){.span = &span, .wave = wave}, out, e);
}

static int finish_frames(struct run *r, const struct video_clip *c, struct media_result *out, struct err *e)
{
    struct source from = {0};
    if (r->keep) {
        uint8_t *part = part_of(r, out->clip, MEDIA_PART_VIDEO);
        r->head.flags = c->flags;
        memset(part, 0, WIDE_HEAD);
        memcpy(part, &r->head, sizeof r->head);
        out->wide_bytes[MEDIA_PART_VIDEO] = WIDE_HEAD + wide_pack(&r->head, &r->wide, part + WIDE_HEAD);
        from = (struct source){.head = &r->head, .frames = part + WIDE_HEAD};
    }
    return view_frames(r, &c->augment, &from, out, e);
}

/* The rest of a clip whose frames are made. */
static bool finish_clip(struct run *r, struct video_clip *c, uint32_t index, uint32_t missing, int reason,
                        struct err *e)
{
    const struct media_recipe *q = &r->job->recipe;
    struct media_result out;
    begin_result(r->job, index, &out);
    out.probe = r->probe;
    out.missing = missing;
    out.flags = c->flags;
    int rc = c->reason;
    if (rc)
        *e = c->err;
    else if (q->want_video && r->in.video >= 0)
        rc = finish_frames(r, c, &out, e);
    if (rc == 0 && q->want_audio && (r->in.audio >= 0 || q->keep_silent)) {
        rc = decode_sound(r, c, &out, e);
        reason = reason ? reason : rc;
    } else if (rc) {
        reason = rc;
    }
    hash_sample(r, &out);
    return end_result(r, &out, reason, e);
}

/* Clips [first, first + n) of the job, whose frames come from one pass. What is there is decoded even where
 * the other stream is missing: the caller may do without it. */
static bool decode_group(struct run *r, uint32_t first, uint32_t n, uint32_t missing, int reason,
                         const struct err *why)
{
    const struct media_recipe *q = &r->job->recipe;
    const struct media_job *job = r->keep ? &r->wide : r->job;
    struct video_clip clips[MEDIA_CLIPS_MAX] = {0};
    for (uint32_t i = 0; i < n; i++) {
        struct video_clip *c = &clips[i];
        c->clip = &r->job->clip[first + i];
        c->out = r->keep ? part_of(r, first + i, MEDIA_PART_VIDEO) + WIDE_HEAD : sample_of(r, first + i);
        augment_draw(&job->recipe, c->clip->augment_seed, &c->augment);
    }
    r->s->video.picture.unusual = false;
    if (q->want_video && r->in.video >= 0)
        video_decode(&r->s->video, &r->in, job, clips, n);
    if (r->keep && r->s->video.picture.unusual) { /* pictures of several sizes */
        r->keep = false;
        bool done = decode_group(r, first, n, missing, reason, why);
        r->keep = true;
        return done;
    }
    bool heard = true;
    for (uint32_t i = 0; i < n && heard; i++) {
        struct err e = *why;
        augment_draw(q, clips[i].clip->augment_seed, &clips[i].augment);
        heard = finish_clip(r, &clips[i], first + i, missing, reason, &e);
    }
    return heard;
}

/* The same reason for every clip, or for the one answer of another job. */
static void refuse_all(struct run *r, uint32_t missing, int reason, const struct err *e)
{
    bool heard = true;
    uint32_t n = r->job->kind == MEDIA_JOB_DECODE ? r->job->clips : 1;
    for (uint32_t i = 0; i < n && heard; i++) {
        struct media_result out;
        begin_result(r->job, i, &out);
        out.probe = r->probe;
        out.missing = missing;
        heard = end_result(r, &out, reason, e);
    }
}

static void plan_wide(struct run *r)
{
    const struct media_job *job = r->job;
    struct picture *p = &r->s->video.picture;
    struct err e;
    r->keep = job->keep;
    r->wide = *job;
    if (r->keep && job->recipe.want_video && r->in.video >= 0)
        r->keep = video_decode_size(&r->s->video, &r->in, &job->recipe, &e) == 0 &&
                  wide_plan(job, p->usual_width, p->usual_height, &r->head, &r->wide);
}

static void decode(struct run *r, int file)
{
    const struct media_job *job = r->job;
    struct err e = {0};
    uint32_t missing = 0;
    bool known = job->duration_s > 0 && job->recipe.fps > 0;
    int rc = input_open(&r->in, file, &job->window, job->video_stream, job->audio_stream,
                        known ? INPUT_LOOK_LEAST : INPUT_LOOK_LITTLE, &e);
    r->in.codecs = &r->s->codecs;
    if (rc == 0)
        rc = input_find_origin(&r->in, &e);
    if (rc == 0) {
        probe_fill(&r->in, &r->probe);
        double duration = job->duration_s > 0 ? job->duration_s : r->in.duration_s;
        rc = probe_check(&r->in, &job->recipe, duration, &missing, &e);
    }
    if (rc && rc != MEDIA_NO_AUDIO && rc != MEDIA_NO_VIDEO) {
        refuse_all(r, missing, rc, &e);
        return;
    }
    plan_wide(r);
    bool heard = true;
    for (uint32_t i = 0, n; i < job->clips && heard; i += n) {
        n = job->recipe.want_video && r->in.video >= 0 ? video_decode_together(&r->in, job, i) : 1;
        heard = decode_group(r, i, n, missing, rc, &e);
    }
}

/* Reads a part of a wide clip to where such a part would have been left; NULL: there is less than it says. */
static const uint8_t *read_part(struct run *r, int file, enum media_part part)
{
    const struct media_window *w = &r->job->wide[part];
    uint8_t *to = part_of(r, 0, part);
    if (w->bytes < WIDE_HEAD || w->bytes > media_wide_bytes(r->job, part))
        return NULL;
    ssize_t n = 1;
    uint64_t done = 0;
    while (n > 0 && done != w->bytes) {
        n = pread(file, to + done, w->bytes - done, (off_t)(w->offset + done));
        done += n > 0 ? (uint64_t)n : 0;
    }
    return done == w->bytes ? to : NULL;
}

/* Both heads may have been written by a worker that a file had taken over. */
static bool read_frames(struct run *r, int file, struct source *out, struct wide_video *head)
{
    const uint8_t *part = read_part(r, file, MEDIA_PART_VIDEO);
    if (!part)
        return false;
    memcpy(head, part, sizeof *head);
    out->head = head;
    out->frames = part + WIDE_HEAD;
    bool sound = head->frames == r->job->recipe.frames && head->width > 0 && head->width <= UINT16_MAX &&
                 head->height > 0 && head->height <= UINT16_MAX && head->w > 0 && head->w <= head->width &&
                 head->h > 0 && head->h <= head->height && head->x >= 0 && head->x <= head->width &&
                 head->y >= 0 && head->y <= head->height;
    uint64_t bytes = sound ? head->frames * 3 * (uint64_t)head->w * (uint64_t)head->h : 0;
    return sound && r->job->wide[MEDIA_PART_VIDEO].bytes - WIDE_HEAD == bytes;
}

static bool read_sound(struct run *r, int file, struct source *out, struct audio_span *span)
{
    const uint8_t *part = read_part(r, file, MEDIA_PART_AUDIO);
    if (!part)
        return false;
    memcpy(span, part, sizeof *span);
    out->span = span;
    out->wave = (const float *)(const void *)(part + WIDE_HEAD);
    uint64_t room = (r->job->wide[MEDIA_PART_AUDIO].bytes - WIDE_HEAD) / sizeof(float);
    return span->samples >= 0 && (uint64_t)span->samples <= room && span->first > -FIRST_MAX &&
           span->first < FIRST_MAX;
}

/* One view of a clip that is kept. */
static void cut(struct run *r, int file)
{
    const struct media_recipe *q = &r->job->recipe;
    const struct media_clip *c = &r->job->clip[0];
    struct augment a;
    struct source from = {0};
    struct wide_video head = {0};
    struct audio_span span;
    struct media_result out;
    struct err e = {0};
    int rc = 0;
    begin_result(r->job, 0, &out);
    augment_draw(q, c->augment_seed, &a);
    if ((q->want_video && !read_frames(r, file, &from, &head)) ||
        (q->want_audio && !read_sound(r, file, &from, &span)))
        rc = fault_set(&e, MEDIA_DECODE_ERROR, "the kept clip is damaged");
    out.flags = head.flags;
    if (rc == 0 && q->want_video)
        rc = view_frames(r, &a, &from, &out, &e);
    if (rc == 0 && q->want_audio)
        rc = view_sound(r, c, &a, &from, &out, &e);
    hash_sample(r, &out);
    end_result(r, &out, rc, &e);
}

/* What only a reading of the whole file tells. */
static int scan(struct run *r, struct media_result *out, struct err *e)
{
    struct input *in = &r->in;
    bool measure = in->ic->duration_estimation_method == AVFMT_DURATION_FROM_BITRATE || in->duration_s <= 0;
    bool room = r->slot_bytes >= MEDIA_KEYFRAMES_MAX * sizeof(struct media_keyframe);
    struct media_keyframe *keys =
        room && facts_lack_index(in) ? (struct media_keyframe *)(void *)r->slot : NULL;
    if ((in->video < 0 && in->audio < 0) || (!measure && !keys))
        return 0;
    if (measure)
        in->duration_s = 0;
    int rc = input_find_origin(in, e);
    return rc ? rc : probe_scan(in, measure, keys, &out->keyframes, e);
}

static int probe(struct run *r, int file, struct media_result *out, struct err *e)
{
    struct input *in = &r->in;
    int rc =
        input_open(in, file, &r->job->window, r->job->video_stream, r->job->audio_stream, INPUT_LOOK_FULL, e);
    if (rc == 0)
        out->facts = facts_of_input(in);
    if (rc == 0 && in->still)
        in->duration_s = 0;
    else if (rc == 0)
        rc = scan(r, out, e);
    if (rc == 0) {
        probe_fill(in, &out->probe);
        rc = probe_check(in, &r->job->recipe, in->duration_s, &out->missing, e);
    }
    return rc;
}

static int examine(struct run *r, int file, struct media_result *out, struct err *e)
{
    int rc = input_open(&r->in, file, &r->job->window, r->job->video_stream, r->job->audio_stream,
                        INPUT_LOOK_FULL, e);
    if (rc)
        return rc;
    probe_fill(&r->in, &out->probe);
    return examine_file(&r->in, r->job, out, e);
}

void media_session_run(struct media_session *s, const struct media_job *job, int file, uint8_t *slot,
                       uint64_t slot_bytes, media_session_answer answer, void *arg)
{
    struct run r = {.s = s,
                    .job = job,
                    .in = {.video = -1, .audio = -1},
                    .slot = slot,
                    .slot_bytes = slot_bytes,
                    .answer = answer,
                    .arg = arg,
                    .probe = {.video_stream = -1, .audio_stream = -1}};
    struct err e = {0};
    struct media_result out;
    if (file < 0)
        refuse_all(&r, 0, fault_set(&e, MEDIA_OPEN_FAILED, "no descriptor came with the job"), &e);
    else if (job->kind == MEDIA_JOB_DECODE)
        decode(&r, file);
    else if (job->kind == MEDIA_JOB_CUT)
        cut(&r, file);
    else {
        begin_result(job, 0, &out);
        int reason = job->kind == MEDIA_JOB_EXAMINE ? examine(&r, file, &out, &e) : probe(&r, file, &out, &e);
        end_result(&r, &out, reason, &e);
    }
    input_close(&r.in);
}
