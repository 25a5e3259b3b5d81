#include "services/decoder/lease.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lib/media/degrade.h"

/* Larger than any configuration allows; keeps the arithmetic on slots far from overflow. */
#define FRAMES_MAX 4096
#define SIDE_MAX 4096
#define SHIFT_MAX_S 60

static void copy_recipe(const Xdc__Recipe *m, struct media_recipe *out)
{
    *out = (struct media_recipe){
        .frames = m->frames,
        .fps = m->fps,
        .resize_min = m->resize_min,
        .resize_max = m->resize_max,
        .crop = m->crop,
        .crop_jitter_px = m->crop_jitter_px,
        .flip_probability = m->flip_probability,
        .audio_shift_s = m->audio_shift_s,
        .time_mask_frames = m->time_mask_frames,
        .augment = m->augment,
        .want_video = m->want_video,
        .want_audio = m->want_audio,
        .scaling = m->scaling,
        .frontend = m->frontend,
        .short_clip = m->short_clip,
        .min_sound_s = m->min_sound_s,
        .keep_silent = m->keep_silent,
        .degrade = m->degrade,
    };
}

static const char *clip_fault(const Xdc__LeaseClip *c)
{
    if (!c->key)
        return "no key";
    if (!isfinite(c->start_s) || !isfinite(c->key_s))
        return "a number that is not finite";
    return NULL;
}

static const char *fault_of(const Xdc__LeaseGrant *g)
{
    if (g->n_clips < 1 || g->n_clips > MEDIA_CLIPS_MAX)
        return "no clip, or too many";
    for (size_t i = 0; i < g->n_clips; i++)
        if (clip_fault(g->clips[i]))
            return clip_fault(g->clips[i]);
    if (!g->uri || !g->uri[0])
        return "no uri";
    if (!g->recipe)
        return "no recipe";
    const Xdc__Recipe *r = g->recipe;
    if (r->want_video && (!r->frames || r->frames > FRAMES_MAX || !r->crop || r->crop > SIDE_MAX))
        return "frames or crop out of range";
    if (r->resize_min > SIDE_MAX || r->resize_max > SIDE_MAX || r->crop_jitter_px > SIDE_MAX)
        return "resize or crop out of range";
    if (r->scaling > MEDIA_SCALING_EXACT || r->frontend > MEDIA_FRONTEND_VMZ ||
        r->short_clip > MEDIA_SHORT_DROP)
        return "a choice that this build does not know";
    if (r->degrade > DEGRADE_MAX)
        return "degrade out of range";
    if (!isfinite(g->duration_s) || !isfinite(r->fps) || !isfinite(r->flip_probability) ||
        !isfinite(r->audio_shift_s) || !isfinite(r->min_sound_s))
        return "a number that is not finite";
    if (fabs(r->audio_shift_s) > SHIFT_MAX_S)
        return "audio_shift_s out of range";
    return NULL;
}

static struct lease *make_lease(const Xdc__LeaseGrant *g, const Xdc__LeaseClip *c)
{
    struct lease *l = calloc(1, sizeof *l);
    char *uri = strdup(g->uri);
    if (!l || !uri) {
        free(l);
        free(uri);
        return NULL;
    }
    const Xdc__LeaseKey *k = c->key;
    l->key = (struct lease_key){
        .incarnation = k->incarnation,
        .phase = k->phase,
        .round = k->round,
        .epoch = k->epoch,
        .stream = k->stream,
        .position = k->position,
        .clip = k->clip,
        .attempt = k->attempt,
    };
    l->clip = (struct media_clip){
        .start_s = c->start_s, .augment_seed = c->augment_seed, .key_s = c->key_s, .key_pos = c->key_pos};
    l->uri = uri;
    l->size_bytes = g->size_bytes;
    l->video_stream = g->video_stream;
    l->audio_stream = g->audio_stream;
    l->duration_s = g->duration_s;
    copy_recipe(g->recipe, &l->recipe);
    return l;
}

int lease_from_grant(const Xdc__LeaseGrant *grant, unsigned link, uint64_t group,
                     struct lease *out[MEDIA_CLIPS_MAX], unsigned *out_n, struct err *e)
{
    *out_n = 0;
    const char *fault = fault_of(grant);
    if (fault)
        return err_set(e, XDC_EFORMAT, "lease: %s", fault);
    for (; *out_n < grant->n_clips; ++*out_n) {
        struct lease *l = make_lease(grant, grant->clips[*out_n]);
        if (!l) {
            while (*out_n)
                lease_destroy(out[--*out_n]);
            return err_sys(e, ENOMEM, "lease");
        }
        l->link = link;
        l->group = grant->n_clips > 1 ? group : 0;
        out[*out_n] = l;
    }
    return 0;
}

void lease_destroy(struct lease *l)
{
    if (!l)
        return;
    free(l->uri);
    free(l);
}

bool lease_key_equal(const struct lease_key *a, const struct lease_key *b)
{
    return a->incarnation == b->incarnation && a->phase == b->phase && a->round == b->round &&
           a->epoch == b->epoch && a->stream == b->stream && a->position == b->position &&
           a->clip == b->clip && a->attempt == b->attempt;
}

void lease_key_to_message(const struct lease_key *k, Xdc__LeaseKey *out)
{
    xdc__lease_key__init(out);
    out->incarnation = k->incarnation;
    out->phase = k->phase;
    out->round = k->round;
    out->epoch = k->epoch;
    out->stream = k->stream;
    out->position = k->position;
    out->clip = k->clip;
    out->attempt = k->attempt;
}
