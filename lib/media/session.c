#include "lib/media/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "lib/media/audio_decode.h"
#include "lib/media/examine.h"
#include "lib/media/facts.h"
#include "lib/media/logmel.h"
#include "lib/media/probe.h"
#include "lib/media/stream_decoder.h"
#include "lib/media/video_decode.h"

struct media_session {
    struct codec_cache codecs;
    struct video_decoder video;
    struct audio_decoder audio;
    struct logmel *logmel; /* owned */
    float *wave;           /* owned: LOGMEL_SAMPLES */
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

/* 0, also for what stands for sound that is not there, or a reason; the log-mel is made after 0 and
 * MEDIA_AUDIO_SILENT. */
static int decode_sound(struct run *r, const struct video_clip *c, struct media_result *out, struct err *e)
{
    struct media_session *s = r->s;
    const struct media_recipe *q = &r->job->recipe;
    int rc = 0;
    if (r->in.audio < 0)
        audio_silence(s->wave, &out->flags);
    else
        rc = audio_decode(&s->audio, &r->in, r->job, c->clip, &c->augment, s->wave, &out->flags, e);
    if (rc && rc != MEDIA_AUDIO_SILENT)
        return rc;
    uint64_t offset = (uint64_t)(c->out - r->slot) + ((out->video_bytes + 63) & ~63u);
    float *logmel = (float *)(void *)(r->slot + offset);
    logmel_compute(s->logmel, (enum media_frontend)q->frontend, s->wave, logmel);
    augment_mask(&c->augment, logmel);
    out->audio_offset = offset;
    out->audio_bytes = MEDIA_AUDIO_FLOATS * sizeof(float);
    return rc;
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
    if (q->want_video && r->in.video >= 0 && c->reason == 0) {
        out.video_offset = (uint64_t)(c->out - r->slot);
        out.video_bytes = q->frames * q->crop * q->crop * 3;
    }
    if (c->reason) {
        reason = c->reason;
        *e = c->err;
    } else if (q->want_audio && (r->in.audio >= 0 || q->keep_silent)) {
        int rc = decode_sound(r, c, &out, e);
        reason = reason ? reason : rc;
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
    struct video_clip clips[MEDIA_CLIPS_MAX] = {0};
    for (uint32_t i = 0; i < n; i++) {
        clips[i].clip = &r->job->clip[first + i];
        clips[i].out = r->slot + (first + i) * media_slot_bytes(q);
        augment_draw(q, clips[i].clip->augment_seed, &clips[i].augment);
    }
    if (q->want_video && r->in.video >= 0)
        video_decode(&r->s->video, &r->in, r->job, clips, n);
    bool heard = true;
    for (uint32_t i = 0; i < n && heard; i++) {
        struct err e = *why;
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
    bool heard = true;
    for (uint32_t i = 0, n; i < job->clips && heard; i += n) {
        n = job->recipe.want_video && r->in.video >= 0 ? video_decode_together(&r->in, job, i) : 1;
        heard = decode_group(r, i, n, missing, rc, &e);
    }
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
    else {
        begin_result(job, 0, &out);
        int reason = job->kind == MEDIA_JOB_EXAMINE ? examine(&r, file, &out, &e) : probe(&r, file, &out, &e);
        end_result(&r, &out, reason, &e);
    }
    input_close(&r.in);
}
