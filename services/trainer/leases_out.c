#include "services/trainer/leases_out.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/log.h"
#include "lib/progress.h"
#include "services/trainer/trainer.h"

#define HEDGE_AFTER 64     /* answers that must have been timed */
#define HEDGE_LEAST_S 0.25 /* the tick is no finer */

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

static void give_slot_back(struct leases_out *l, uint32_t decoder)
{
    if (decoder < l->n && l->decoders[decoder].leased > 0)
        l->decoders[decoder].leased--;
}

static void on_leased(void *arg, struct slot_ref ref, struct batch_slot *slot)
{
    struct reclaim *r = arg;
    struct batcher *b = &r->l->trainer->batcher;
    uint64_t position = batcher_position(&b->plan, ref.batch, ref.row);
    for (uint32_t i = slot->n_leases; i-- > 0;) {
        struct slot_lease *lease = &slot->leases[i];
        if (lease->decoder != r->decoder)
            continue;
        if (r->held &&
            (r->now - lease->granted_s < LEASES_GRACE_S || is_held(r, position, ref.stream, lease->attempt)))
            continue;
        batcher_unlease(slot, lease);
        give_slot_back(r->l, r->decoder);
        r->l->regranted++;
    }
}

/* The same for leases that nobody waits for. */
static void reclaim_late(struct reclaim *r)
{
    struct leases_out *l = r->l;
    for (uint32_t i = l->n_late; i-- > 0;) {
        struct late_lease *late = &l->late[i];
        if (late->decoder != r->decoder)
            continue;
        if (r->held && (r->now - late->granted_s < LEASES_GRACE_S ||
                        is_held(r, late->position, late->stream, late->attempt)))
            continue;
        *late = l->late[--l->n_late];
        give_slot_back(l, r->decoder);
    }
}

static void drop(struct leases_out *l, struct lease_decoder *d, const char *why)
{
    struct reclaim r = {l, (uint32_t)(d - l->decoders), NULL, 0};
    uint32_t leased = d->leased;
    batcher_each_leased(&l->trainer->batcher, on_leased, &r);
    reclaim_late(&r);
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
    reclaim_late(&r);
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

static bool has_room(const struct lease_decoder *d)
{
    return d->alive && d->leased < d->slots;
}

/* The decoder with the largest share of free slots; `last` (may be NULL) only where no other has any. */
static struct lease_decoder *choose(struct leases_out *l, struct lease_decoder *last)
{
    struct lease_decoder *best = NULL;
    for (uint32_t i = 0; i < l->n; i++) {
        struct lease_decoder *d = &l->decoders[i];
        if (d != last && has_room(d) &&
            (!best || (uint64_t)d->leased * best->slots < (uint64_t)best->leased * d->slots))
            best = d;
    }
    return best || !last || !has_room(last) ? best : last;
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
    out->degrade = r->degrade;
}

/* Positions that share a grant. */
struct group {
    struct slot_ref refs[MEDIA_CLIPS_MAX];
    struct batch_slot *slots[MEDIA_CLIPS_MAX];
    uint32_t n;
};

/* What a group is written into for sending. */
struct grant_room {
    Xdc__LeaseKey keys[MEDIA_CLIPS_MAX];
    Xdc__LeaseClip clips[MEDIA_CLIPS_MAX], *pointers[MEDIA_CLIPS_MAX];
};

static uint64_t video_of(const struct trainer *t, const struct batch_slot *slot)
{
    return slot->clip / t->set.clips_per_video;
}

static void fill_clip(const struct leases_out *l, const struct group *g, uint32_t i, struct grant_room *room)
{
    const struct trainer *t = l->trainer;
    const struct plan *p = &t->batcher.plan;
    const struct manifest_video *v = &l->video;
    Xdc__LeaseKey *key = &room->keys[i];
    Xdc__LeaseClip *clip = room->pointers[i] = &room->clips[i];
    uint64_t seed = (uint64_t)t->conf.run.seed, id = g->slots[i]->clip;
    xdc__lease_key__init(key);
    key->incarnation = t->incarnation;
    key->phase = p->phase;
    key->round = p->round;
    key->epoch = p->epoch;
    key->stream = g->refs[i].stream;
    key->position = batcher_position(p, g->refs[i].batch, g->refs[i].row);
    key->clip = id;
    key->attempt = g->slots[i]->attempts + 1;
    xdc__lease_clip__init(clip);
    const struct clip_times times = conf_clip_times(&t->conf);
    clip->key = key;
    clip->start_s = clip_times_start_s(&times, id, v->duration_s, conf_clip_span_s(&t->conf, v->fps));
    clip->augment_seed =
        clip_augment_seed(seed, p->round, p->epoch + p->stream[g->refs[i].stream].augment, id);
    manifest_keyframe(t->manifest, video_of(t, g->slots[i]), clip->start_s, &clip->key_s, &clip->key_pos);
}

bool leases_out_has_clip(struct leases_out *l, uint64_t clip)
{
    const struct trainer *t = l->trainer;
    const struct clip_times times = conf_clip_times(&t->conf);
    struct manifest_video *v = &l->video;
    struct err unsaid;
    if (times.placing != CLIP_WINDOWS ||
        manifest_get(t->manifest, clip / t->set.clips_per_video, v, &unsaid) < 0)
        return true; /* the lease says what is wrong with the manifest */
    double span_s = conf_clip_span_s(&t->conf, v->fps);
    return clip % t->set.clips_per_video < clip_times_count(&times, v->duration_s, span_s);
}

static int grant(struct leases_out *l, struct lease_decoder *d, const struct group *g)
{
    struct trainer *t = l->trainer;
    const struct plan *p = &t->batcher.plan;
    struct manifest_video *v = &l->video;
    struct grant_room room;
    struct err e;
    if (manifest_get(t->manifest, video_of(t, g->slots[0]), v, &e) < 0) {
        log_error("read the manifest: %s", e.msg);
        return -EIO;
    }
    Xdc__LeaseGrant lease = XDC__LEASE_GRANT__INIT;
    Xdc__Recipe recipe;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    for (uint32_t i = 0; i < g->n; i++)
        fill_clip(l, g, i, &room);
    recipe_to_proto(&p->recipe, &recipe);
    recipe.want_video = p->stream[g->refs[0].stream].video;
    recipe.want_audio = p->stream[g->refs[0].stream].audio;
    lease.uri = v->uri;
    lease.size_bytes = v->size_bytes;
    lease.video_stream = v->video_stream;
    lease.audio_stream = v->audio_stream;
    lease.duration_s = v->duration_s;
    lease.recipe = &recipe;
    lease.clips = room.pointers;
    lease.n_clips = g->n;
    env.body_case = XDC__ENVELOPE__BODY_LEASE_GRANT;
    env.lease_grant = &lease;
    int rc = send_to(l, &d->peer, &env);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < g->n; i++)
        batcher_lease(g->slots[i], (uint32_t)(d - l->decoders), progress_now_s());
    d->leased += g->n;
    l->granted += g->n;
    return 0;
}

/* The open positions that follow the first one and are of its video. */
static void gather(struct leases_out *l, struct group *g)
{
    struct trainer *t = l->trainer;
    uint64_t bytes = t->batcher.video_bytes + MEDIA_AUDIO_FLOATS * sizeof(float);
    uint64_t most =
        LEASES_GROUP_BYTES / bytes < MEDIA_CLIPS_MAX ? LEASES_GROUP_BYTES / bytes : MEDIA_CLIPS_MAX;
    for (g->n = 1; g->n < most; g->n++) {
        struct slot_ref *ref = &g->refs[g->n];
        struct batch_slot **slot = &g->slots[g->n];
        if (!batcher_after(&t->batcher, g->refs[g->n - 1], ref, slot) || (*slot)->state != SLOT_OPEN ||
            video_of(t, *slot) != video_of(t, g->slots[0]))
            return;
    }
}

void leases_out_pump(struct leases_out *l)
{
    struct group g;
    struct lease_decoder *d;
    while ((d = choose(l, NULL)) && batcher_next(&l->trainer->batcher, &g.refs[0], &g.slots[0])) {
        uint32_t room = d->slots - d->leased;
        gather(l, &g);
        /* Slots come free one by one: a group waits for all that it needs, or would never be one. */
        if (g.n > room && d->leased > 0)
            return;
        g.n = g.n < room ? g.n : room;
        int rc = grant(l, d, &g);
        if (rc == -EHOSTUNREACH)
            drop(l, d, "is gone");
        else if (rc < 0)
            return; /* its queue is full: the next tick tries again */
    }
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* How long a lease may take before it is hedged; infinite while too little is known. */
static double patience_s(const struct leases_out *l)
{
    float sorted[LEASES_TIMES];
    size_t n = l->timed < LEASES_TIMES ? (size_t)l->timed : LEASES_TIMES;
    double factor = l->trainer->conf.decoder.hedge;
    if (factor <= 0 || n < HEDGE_AFTER)
        return INFINITY;
    memcpy(sorted, l->times_s, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_size);
    return fmax(HEDGE_LEAST_S, factor * (double)sorted[n * 99 / 100]);
}

struct hedge {
    struct leases_out *l;
    uint64_t head;
    double before_s; /* what was granted earlier is hedged */
};

static void on_hedge(void *arg, struct slot_ref ref, struct batch_slot *slot)
{
    struct hedge *h = arg;
    struct leases_out *l = h->l;
    if (ref.batch != h->head || slot->n_leases != 1 || slot->leases[0].granted_s > h->before_s ||
        l->n_late + 1 >= LEASES_LATE_MAX)
        return;
    struct group g = {.refs = {ref}, .slots = {slot}, .n = 1};
    struct lease_decoder *d = choose(l, &l->decoders[slot->leases[0].decoder]);
    if (d && grant(l, d, &g) == 0)
        l->hedged++;
}

void leases_out_tick(struct leases_out *l)
{
    double now = progress_now_s();
    for (uint32_t i = 0; i < l->n; i++)
        if (l->decoders[i].alive && now - l->decoders[i].heard_s > LEASES_SILENCE_S)
            drop(l, &l->decoders[i], "fell silent");
    struct hedge h = {l, batcher_head(&l->trainer->batcher), now - patience_s(l)};
    batcher_each_leased(&l->trainer->batcher, on_hedge, &h);
    leases_out_pump(l);
}

void leases_out_settled(struct leases_out *l, const struct slot_lease *lease, bool timed)
{
    if (timed)
        l->times_s[l->timed++ % LEASES_TIMES] = (float)(progress_now_s() - lease->granted_s);
    give_slot_back(l, lease->decoder);
}

void leases_out_abandon(struct leases_out *l, struct slot_ref ref, const struct batch_slot *slot)
{
    for (uint32_t i = 0; i < slot->n_leases; i++) {
        const struct slot_lease *lease = &slot->leases[i];
        if (l->n_late == LEASES_LATE_MAX) { /* not reached: hedges stop before */
            give_slot_back(l, lease->decoder);
            continue;
        }
        l->late[l->n_late++] = (struct late_lease){
            .decoder = lease->decoder,
            .stream = ref.stream,
            .attempt = lease->attempt,
            .position = batcher_position(&l->trainer->batcher.plan, ref.batch, ref.row),
            .granted_s = lease->granted_s,
        };
    }
}

void leases_out_late(struct leases_out *l, const Xdc__LeaseKey *key)
{
    for (uint32_t i = 0; i < l->n_late; i++) {
        struct late_lease *late = &l->late[i];
        if (late->position != key->position || late->stream != key->stream || late->attempt != key->attempt)
            continue;
        give_slot_back(l, late->decoder);
        *late = l->late[--l->n_late];
        leases_out_pump(l);
        return;
    }
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
