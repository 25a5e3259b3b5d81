#include "services/trainer/leases_out.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "lib/log.h"
#include "lib/progress.h"
#include "services/trainer/trainer.h"

void leases_out_init(struct leases_out *l, struct trainer *t)
{
    memset(l, 0, sizeof *l);
    l->trainer = t;
}

static int send_to(struct leases_out *l, const struct wire_peer *to, Xdc__Envelope *env)
{
    env->run = l->trainer->run;
    return wire_send(l->trainer->clips, to, env, NULL, 0);
}

static struct lease_decoder *find(struct leases_out *l, const struct wire_peer *peer)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->decoders[i].peer.size == peer->size &&
            memcmp(l->decoders[i].peer.id, peer->id, peer->size) == 0)
            return &l->decoders[i];
    return NULL;
}

/* A place in the table: a new one, or that of a decoder that is gone. */
static struct lease_decoder *place(struct leases_out *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (!l->decoders[i].alive)
            return &l->decoders[i];
    return l->n < LEASES_DECODERS_MAX ? &l->decoders[l->n++] : NULL;
}

struct reclaim {
    struct leases_out *l;
    uint32_t decoder;
    const Xdc__Heartbeat *held; /* NULL: take everything back */
    double now;
};

static bool is_held(const struct reclaim *r, uint64_t position, uint32_t stream, uint32_t attempt)
{
    for (size_t i = 0; i < r->held->n_held; i++) {
        const Xdc__LeaseKey *k = r->held->held[i];
        if (k->position == position && k->stream == stream && k->attempt == attempt &&
            k->incarnation == r->l->trainer->incarnation)
            return true;
    }
    return false;
}

static void on_leased(void *arg, struct slot_ref ref, struct batch_slot *slot)
{
    struct reclaim *r = arg;
    struct batcher *b = &r->l->trainer->batcher;
    if (slot->decoder != r->decoder)
        return;
    if (r->held) {
        uint64_t position = ref.batch * b->plan.batch + ref.row;
        if (r->now - slot->granted_s < LEASES_GRACE_S || is_held(r, position, ref.stream, slot->attempt))
            return;
    }
    batcher_reopen(b, ref);
    r->l->decoders[r->decoder].leased -= r->l->decoders[r->decoder].leased > 0;
    r->l->regranted++;
}

static void drop(struct leases_out *l, struct lease_decoder *d, const char *why)
{
    struct reclaim r = {l, (uint32_t)(d - l->decoders), NULL, 0};
    uint32_t leased = d->leased;
    batcher_each_leased(&l->trainer->batcher, on_leased, &r);
    d->alive = false;
    d->leased = 0;
    l->lost_decoders++;
    log_warn("decoder %s %s: its %u leases are granted again", d->name, why, leased);
}

static void refuse(struct leases_out *l, const struct wire_peer *to, char *reason)
{
    Xdc__Refused refused = XDC__REFUSED__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    refused.reason = reason;
    env.body_case = XDC__ENVELOPE__BODY_REFUSED;
    env.refused = &refused;
    l->refused++;
    if (send_to(l, to, &env) < 0)
        log_debug("a refusal could not be sent");
}

/* An empty heartbeat answers hello and heartbeat: the decoder knows that the trainer lives. */
static void acknowledge(struct leases_out *l, const struct wire_peer *to)
{
    Xdc__Heartbeat beat = XDC__HEARTBEAT__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    beat.decoder = (char *)"";
    env.body_case = XDC__ENVELOPE__BODY_HEARTBEAT;
    env.heartbeat = &beat;
    if (send_to(l, to, &env) < 0)
        log_debug("a heartbeat could not be answered");
}

static void on_hello(struct leases_out *l, const struct wire_peer *from, const Xdc__Hello *hello)
{
    if (l->golden == 0)
        l->golden = hello->golden;
    if (hello->golden != l->golden) {
        char why[256];
        snprintf(why, sizeof why,
                 "the built-in golden clip decodes to %016llx here, %016llx at the first decoder of this "
                 "run: use the "
                 "same build of xdc and FFmpeg on every host",
                 (unsigned long long)hello->golden, (unsigned long long)l->golden);
        log_warn("decoder %.63s refused: %s", hello->decoder, why);
        refuse(l, from, why);
        return;
    }
    struct lease_decoder *d = find(l, from);
    if (!d || !d->alive) {
        if (!d)
            d = place(l);
        if (!d) {
            refuse(l, from, (char *)"this trainer serves as many decoders as it can (1024)");
            return;
        }
        *d = (struct lease_decoder){.peer = *from, .alive = true};
        snprintf(d->name, sizeof d->name, "%s", hello->decoder);
        log_info("decoder %s joins with %u slots", d->name, hello->slots);
    }
    d->slots = hello->slots;
    d->heard_s = progress_now_s();
    acknowledge(l, from);
    leases_out_pump(l);
}

static void on_heartbeat(struct leases_out *l, const struct wire_peer *from, const Xdc__Heartbeat *beat)
{
    struct lease_decoder *d = find(l, from);
    if (!d || !d->alive)
        return; /* it says hello again when it hears nothing */
    d->heard_s = progress_now_s();
    d->slots = beat->slots;
    struct reclaim r = {l, (uint32_t)(d - l->decoders), beat, d->heard_s};
    batcher_each_leased(&l->trainer->batcher, on_leased, &r);
    acknowledge(l, from);
    leases_out_pump(l);
}

void leases_out_message(struct leases_out *l, const struct wire_peer *from, const Xdc__Envelope *env)
{
    if (env->run != 0 && env->run != l->trainer->run) {
        refuse(l, from, (char *)"you serve another run: check run.dir and the endpoints");
        return;
    }
    if (env->body_case == XDC__ENVELOPE__BODY_HELLO)
        on_hello(l, from, env->hello);
    else if (env->body_case == XDC__ENVELOPE__BODY_HEARTBEAT)
        on_heartbeat(l, from, env->heartbeat);
    else
        l->refused++;
}

/* The decoder with the largest share of free slots. */
static struct lease_decoder *choose(struct leases_out *l)
{
    struct lease_decoder *best = NULL;
    for (uint32_t i = 0; i < l->n; i++) {
        struct lease_decoder *d = &l->decoders[i];
        if (!d->alive || d->leased >= d->slots)
            continue;
        if (!best || (uint64_t)d->leased * best->slots < (uint64_t)best->leased * d->slots)
            best = d;
    }
    return best;
}

static void recipe_to_proto(const struct media_recipe *r, Xdc__Recipe *out)
{
    xdc__recipe__init(out);
    out->frames = r->frames;
    out->fps = r->fps;
    out->resize_min = r->resize_min;
    out->resize_max = r->resize_max;
    out->crop = r->crop;
    out->crop_jitter_px = r->crop_jitter_px;
    out->flip_probability = r->flip_probability;
    out->audio_shift_s = r->audio_shift_s;
    out->time_mask_frames = r->time_mask_frames;
    out->augment = r->augment;
    out->scaling = r->scaling;
    out->frontend = r->frontend;
    out->short_clip = r->short_clip;
    out->min_sound_s = r->min_sound_s;
    out->keep_silent = r->keep_silent;
}

static int grant(struct leases_out *l, struct lease_decoder *d, struct slot_ref ref, struct batch_slot *slot)
{
    struct trainer *t = l->trainer;
    const struct plan *p = &t->batcher.plan;
    struct manifest_video *v = &l->video;
    struct err e;
    if (manifest_get(t->manifest, slot->clip / t->set.clips_per_video, v, &e) < 0) {
        log_error("read the manifest: %s", e.msg);
        return -EIO;
    }
    Xdc__LeaseKey key = XDC__LEASE_KEY__INIT;
    Xdc__LeaseClip clip = XDC__LEASE_CLIP__INIT, *clips[] = {&clip};
    Xdc__LeaseGrant lease = XDC__LEASE_GRANT__INIT;
    Xdc__Recipe recipe;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    key.incarnation = t->incarnation;
    key.phase = p->phase;
    key.round = p->round;
    key.epoch = p->epoch;
    key.stream = ref.stream;
    key.position = ref.batch * p->batch + ref.row;
    key.clip = slot->clip;
    key.attempt = slot->attempt + 1;
    recipe_to_proto(&p->recipe, &recipe);
    recipe.want_video = p->stream[ref.stream].video;
    recipe.want_audio = p->stream[ref.stream].audio;
    clip.augment_seed = clip_augment_seed((uint64_t)t->conf.run.seed, p->round, p->epoch, slot->clip);
    clip.key = &key;
    clip.key_pos = -1;
    lease.clips = clips;
    lease.n_clips = 1;
    lease.uri = v->uri;
    lease.size_bytes = v->size_bytes;
    lease.video_stream = v->video_stream;
    lease.audio_stream = v->audio_stream;
    lease.duration_s = v->duration_s;
    double fps = p->recipe.fps > 0 ? p->recipe.fps : v->fps > 0 ? v->fps : 30.0;
    clip.start_s =
        clip_start_s((uint64_t)t->conf.run.seed, slot->clip, v->duration_s, p->recipe.frames / fps);
    lease.recipe = &recipe;
    env.body_case = XDC__ENVELOPE__BODY_LEASE_GRANT;
    env.lease_grant = &lease;
    int rc = send_to(l, &d->peer, &env);
    if (rc < 0)
        return rc;
    slot->state = SLOT_LEASED;
    slot->attempt++;
    slot->decoder = (uint32_t)(d - l->decoders);
    slot->granted_s = progress_now_s();
    d->leased++;
    l->granted++;
    return 0;
}

void leases_out_pump(struct leases_out *l)
{
    struct slot_ref ref;
    struct batch_slot *slot;
    struct lease_decoder *d;
    while ((d = choose(l)) && batcher_next(&l->trainer->batcher, &ref, &slot)) {
        int rc = grant(l, d, ref, slot);
        if (rc == -EHOSTUNREACH)
            drop(l, d, "is gone");
        else if (rc < 0)
            return; /* its queue is full: the next tick tries again */
    }
}

void leases_out_tick(struct leases_out *l)
{
    double now = progress_now_s();
    for (uint32_t i = 0; i < l->n; i++)
        if (l->decoders[i].alive && now - l->decoders[i].heard_s > LEASES_SILENCE_S)
            drop(l, &l->decoders[i], "fell silent");
    leases_out_pump(l);
}

void leases_out_settled(struct leases_out *l, uint32_t decoder)
{
    if (decoder < l->n && l->decoders[decoder].leased > 0)
        l->decoders[decoder].leased--;
}

void leases_out_finish(struct leases_out *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        Xdc__RunFinished finished = XDC__RUN_FINISHED__INIT;
        Xdc__Envelope env = XDC__ENVELOPE__INIT;
        env.body_case = XDC__ENVELOPE__BODY_RUN_FINISHED;
        env.run_finished = &finished;
        if (l->decoders[i].alive && send_to(l, &l->decoders[i].peer, &env) < 0)
            log_debug("decoder %s does not hear that the run is finished", l->decoders[i].name);
    }
}
