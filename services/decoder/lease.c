#include "services/decoder/lease.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Larger than any configuration allows; keeps the arithmetic on slots far from overflow. */
#define FRAMES_MAX 4096
#define SIDE_MAX 4096

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
    };
}

static const char *fault_of(const Xdc__LeaseGrant *g)
{
    if (g->n_clips != 1)
        return "no clip, or too many";
    if (!g->clips[0]->key)
        return "no key";
    if (!g->uri || !g->uri[0])
        return "no uri";
    if (!g->recipe)
        return "no recipe";
    const Xdc__Recipe *r = g->recipe;
    if (r->want_video && (!r->frames || r->frames > FRAMES_MAX || !r->crop || r->crop > SIDE_MAX))
        return "frames or crop out of range";
    if (r->resize_min > SIDE_MAX || r->resize_max > SIDE_MAX)
        return "resize out of range";
    if (!isfinite(g->clips[0]->start_s) || !isfinite(g->duration_s) || !isfinite(r->fps) ||
        !isfinite(r->flip_probability) || !isfinite(r->audio_shift_s))
        return "a number that is not finite";
    return NULL;
}

int lease_from_grant(const Xdc__LeaseGrant *grant, unsigned link, struct lease **out, struct err *e)
{
    const char *fault = fault_of(grant);
    if (fault)
        return err_set(e, XDC_EFORMAT, "lease: %s", fault);
    struct lease *l = calloc(1, sizeof *l);
    char *uri = strdup(grant->uri);
    if (!l || !uri) {
        free(l);
        free(uri);
        return err_sys(e, ENOMEM, "lease");
    }
    const Xdc__LeaseKey *k = grant->clips[0]->key;
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
    l->link = link;
    l->uri = uri;
    l->size_bytes = grant->size_bytes;
    l->video_stream = grant->video_stream;
    l->audio_stream = grant->audio_stream;
    l->start_s = grant->clips[0]->start_s;
    l->augment_seed = grant->clips[0]->augment_seed;
    l->duration_s = grant->duration_s;
    copy_recipe(grant->recipe, &l->recipe);
    *out = l;
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
