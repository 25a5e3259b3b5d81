/* What the trainer tells about itself. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include "lib/progress.h"
#include "services/trainer/trainer.h"

static json_t *wire_json(const struct wire *w)
{
    const struct wire_counters *c = wire_counters(w);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "received", (json_int_t)c->received, "sent",
                     (json_int_t)c->sent, "bytes_in", (json_int_t)c->bytes_in, "bytes_out",
                     (json_int_t)c->bytes_out, "malformed", (json_int_t)c->malformed, "oversized",
                     (json_int_t)c->oversized, "unsent", (json_int_t)c->unsent);
}

static json_t *decoders_json(const struct leases_out *l)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < l->n; i++)
        if (l->decoders[i].alive)
            json_array_append_new(list,
                                  json_pack("{s:s, s:i, s:i}", "name", l->decoders[i].name, "slots",
                                            (int)l->decoders[i].slots, "leased", (int)l->decoders[i].leased));
    return list;
}

static json_t *reasons_json(const struct samples_in_counters *c)
{
    json_t *o = json_object();
    for (unsigned i = 1; i < MEDIA_REASONS; i++)
        if (c->reasons[i])
            json_object_set_new(o, media_code_name(i), json_integer((json_int_t)c->reasons[i]));
    return o;
}

/* Of each encoder: its lowest loss on the hold-out in this round (null: none yet), and whether it learns no
 * more. */
static json_t *holdout_json(const char *const names[NET_ENCODERS],
                            const struct early_stop early[NET_ENCODERS])
{
    json_t *j = json_object();
    for (unsigned i = 0; i < NET_ENCODERS; i++)
        json_object_set_new(j, names[i],
                            json_pack("{s:o, s:b}", "best_loss",
                                      early[i].measured ? json_real(early[i].best) : json_null(), "stopped",
                                      early[i].stopped));
    return j;
}

/* A number of each encoder; null of one that the run is not of. */
static json_t *figures_json(const struct trainer *t, const char *const names[NET_ENCODERS],
                            const double value[NET_ENCODERS])
{
    json_t *j = json_object();
    for (unsigned i = 0; i < NET_ENCODERS; i++)
        json_object_set_new(j, names[i],
                            trainer_wants(t, (enum net_encoder)i) ? json_real(value[i]) : json_null());
    return j;
}

static json_t *phase_json(struct trainer *t)
{
    struct trainer_shared *s = &t->shared;
    const char *const names[NET_ENCODERS] = {net_encoder_name(t->method.pair, NET_VIDEO),
                                             net_encoder_name(t->method.pair, NET_AUDIO)};
    pthread_mutex_lock(&s->lock);
    double seconds = progress_now_s() - s->phase_start_s;
    double rate = seconds > 0 ? (double)(s->done - s->phase_first) / seconds : 0;
    double left = rate > 0 ? (double)(s->total - s->done) / rate : -1;
    json_t *j =
        json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:f, s:f, s:o, s:o, s:O?, "
                  "s:o, s:o, s:o}",
                  "phase", phase_name(s->phase), "phase_ends_when", phase_ends(s->phase), "round",
                  (int)s->round, "rounds", (int)t->conf.train.rounds, "epoch", (int)s->epoch, "epochs",
                  (int)t->conf.train.epochs, "step", (json_int_t)s->step, "done", (json_int_t)s->done,
                  "total", (json_int_t)s->total, "clips_per_s", rate, "left_s", left, "loss",
                  figures_json(t, names, s->loss), "accuracy", figures_json(t, names, s->accuracy), "quality",
                  s->quality, "warnings", s->warnings ? json_deep_copy(s->warnings) : json_array(), "holdout",
                  holdout_json(names, s->early), "paused", *s->paused ? json_string(s->paused) : json_null());
    pthread_mutex_unlock(&s->lock);
    return j;
}

json_t *trainer_status(void *trainer)
{
    struct trainer *t = trainer;
    uint64_t ready, open, filled;
    char run[17];
    snprintf(run, sizeof run, "%016" PRIx64, t->run);
    batcher_progress(&t->batcher, &ready, &open, &filled);
    json_t *j = phase_json(t);
    json_t *more = json_pack(
        "{s:s, s:i, s:i, s:s, s:b, s:o, s:{s:I, s:I, s:I}, s:{s:I, s:I, s:I, s:I, s:I}, "
        "s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}, s:i, s:I, s:o, s:o}",
        "daemon", "trainer", "pid", (int)getpid(), "rank", (int)t->meet.rank, "run", run, "stopping",
        (int)atomic_load(&t->stop), "decoders", decoders_json(&t->leases), "batches", "ready",
        (json_int_t)ready, "open", (json_int_t)open, "positions_done", (json_int_t)filled, "leases",
        "granted", (json_int_t)t->leases.granted, "regranted", (json_int_t)t->leases.regranted, "refused",
        (json_int_t)t->leases.refused, "decoders_lost", (json_int_t)t->leases.lost_decoders, "hedged",
        (json_int_t)t->leases.hedged, "samples", "taken", (json_int_t)t->samples.taken, "stale",
        (json_int_t)t->samples.stale, "malformed", (json_int_t)t->samples.malformed, "lost",
        (json_int_t)t->samples.lost, "quarantined", (json_int_t)t->samples.quarantined, "padded",
        (json_int_t)t->samples.padded, "looped", (json_int_t)t->samples.looped, "silent",
        (json_int_t)t->samples.silent, "quarantined", (int)quarantine_count(&t->quarantine), "faulty_videos",
        (json_int_t)t->faulty_videos, "reasons", reasons_json(&t->samples), "wire", wire_json(t->clips));
    if (j && more)
        json_object_update(j, more);
    json_decref(more);
    return j;
}

const char *trainer_unhealthy(void *trainer)
{
    struct trainer *t = trainer;
    pthread_mutex_lock(&t->shared.lock);
    snprintf(t->unhealthy, sizeof t->unhealthy, "%s", t->shared.paused);
    pthread_mutex_unlock(&t->shared.lock);
    if (*t->unhealthy)
        return t->unhealthy;
    for (uint32_t i = 0; i < t->leases.n; i++)
        if (t->leases.decoders[i].alive)
            return NULL;
    pthread_mutex_lock(&t->shared.lock);
    enum phase p = t->shared.phase;
    double seconds = progress_now_s() - t->shared.phase_start_s;
    pthread_mutex_unlock(&t->shared.lock);
    if (p == PHASE_LABELS || p == PHASE_EXPORT || p == PHASE_DONE || seconds < 30)
        return NULL;
    return "no decoder has joined: start xdc-decoder with the same configuration";
}
