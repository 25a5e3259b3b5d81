/* Warnings of a run: the log, an event and /status hear of each once a round. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "lib/log.h"
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

bool train_show_warning(struct train_loop *l, const char *code, const char *kind, const char *name,
                        double value, const char *sentence)
{
    struct trainer_shared *s = &l->t->shared;
    bool known = false;
    size_t i;
    json_t *w;
    pthread_mutex_lock(&s->lock);
    if (!s->warnings)
        s->warnings = json_array();
    json_array_foreach(s->warnings, i, w)
    {
        const char *there = json_string_value(json_object_get(w, kind));
        known |= there && strcmp(there, name) == 0 &&
                 strcmp(json_string_value(json_object_get(w, "code")), code) == 0;
    }
    if (!known && s->warnings)
        json_array_append_new(s->warnings, json_pack("{s:s, s:s, s:f, s:s}", "code", code, kind, name,
                                                     "value", value, "sentence", sentence));
    pthread_mutex_unlock(&s->lock);
    return !known;
}

int train_warn(struct train_loop *l, enum run_warning warning, const char *kind, const char *name,
               double value, struct err *e, const char *fmt, ...)
{
    char said[512], sentence[1536];
    const char *code = run_warning_name(warning);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(said, sizeof said, fmt, ap);
    va_end(ap);
    snprintf(sentence, sizeof sentence, "%s. To do: %s", said, run_warning_advice(warning));
    if (!train_show_warning(l, code, kind, name, value, sentence))
        return 0;
    log_warn("%s: %s", code, sentence);
    return events_write(&l->events, "warning",
                        json_pack("{s:s, s:s, s:f, s:s, s:i}", "code", code, kind, name, "value", value,
                                  "sentence", sentence, "round", (int)l->state.round),
                        e);
}

int train_warn_loss(struct train_loop *l, enum net_encoder enc, double loss, struct err *e)
{
    uint32_t k = l->targets.classes[enc][0], epoch = l->state.epoch;
    if (!health_loss_at_chance(loss, k, epoch))
        return 0;
    return train_warn(
        l, WARNING_LOSS_AT_CHANCE, "encoder", train_encoder(l, enc), loss, e,
        "the %s encoder's loss of %.4g in epoch %u of round %u is no better than guessing among %u "
        "classes, which has %.4g",
        train_encoder(l, enc), loss, epoch, l->state.round, k, log(k));
}

/* True when an encoder or head before this one learns the same source. */
static bool seen_before(const struct targets_method *m, unsigned enc, uint32_t head)
{
    for (unsigned i = 0; i <= enc; i++)
        for (uint32_t h = 0; h < (i < enc ? m->heads[i] : head); h++)
            if (strcmp(m->source[i][h], m->source[enc][head]) == 0)
                return true;
    return false;
}

int train_warn_clusters(struct train_loop *l, struct err *e)
{
    const struct targets *t = &l->targets;
    int rc = 0;
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
        for (uint32_t h = 0; rc == 0 && h < t->method->heads[enc]; h++) {
            struct health_clusters c;
            uint32_t k = t->classes[enc][h];
            const char *source = t->method->source[enc][h];
            if (seen_before(t->method, enc, h) ||
                !health_collapsed(t->counts[enc][h], k, t->labelled[enc][h], &c))
                continue;
            rc = train_warn(l, WARNING_COLLAPSED_CLUSTERS, "source", source, c.largest, e,
                            "source %s of round %u: %.0f %% of the clips are in the largest cluster, and %u "
                            "of %u clusters are used",
                            source, l->state.round, 100 * c.largest, c.used, k);
        }
    }
    return rc;
}

int train_warn_features(struct train_loop *l, enum net_encoder enc, const struct health_range *r,
                        struct err *e)
{
    uint32_t dead;
    if (!health_range_dead(r, &dead))
        return 0;
    return train_warn(l, WARNING_DEAD_FEATURES, "encoder", train_encoder(l, enc), (double)dead / r->dim, e,
                      "%u of %u feature dimensions of the %s encoder are the same for all %" PRIu64
                      " clips of round %u",
                      dead, r->dim, train_encoder(l, enc), r->rows, l->state.round);
}
