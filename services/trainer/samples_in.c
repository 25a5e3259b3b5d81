#include "services/trainer/samples_in.h"

#include "lib/ledger.h"
#include "lib/log.h"
#include "services/trainer/sample_check.h"
#include "services/trainer/trainer.h"

/* The live lease that the key names, and its slot, or NULL. */
static struct slot_lease *live_lease(struct trainer *t, const Xdc__LeaseKey *k, struct slot_ref *ref,
                                     struct batch_slot **out_slot)
{
    if (!k || k->incarnation != t->incarnation)
        return NULL;
    const struct plan_key plan = {k->phase, k->round, k->epoch, k->stream};
    struct batch_slot *slot = batcher_find(&t->batcher, &plan, k->position, ref);
    if (!slot || slot->clip != k->clip)
        return NULL;
    *out_slot = slot;
    return batcher_live(slot, k->attempt);
}

static void count_flags(struct samples_in_counters *c, uint32_t flags)
{
    c->padded += (flags & MEDIA_FLAG_PADDED) != 0;
    c->looped += (flags & MEDIA_FLAG_LOOPED) != 0;
    c->silent += (flags & MEDIA_FLAG_SILENT) != 0;
}

void samples_in_message(struct trainer *t, const Xdc__Envelope *env, const struct wire_frame *raw,
                        size_t n_raw)
{
    const Xdc__Sample *s = env->sample;
    struct slot_ref ref;
    struct batch_slot *slot;
    struct slot_lease *lease = live_lease(t, s->key, &ref, &slot);
    if (!lease) {
        t->samples.stale++;
        if (s->key)
            leases_out_late(&t->leases, s->key);
        return;
    }
    struct slot_lease answered = *lease;
    const struct plan_stream *wanted = &t->batcher.plan.stream[ref.stream];
    const struct sample_shape shape = {wanted->video, wanted->audio, t->batcher.video_bytes};
    const void *video, *audio;
    batcher_unlease(slot, lease);
    if (s->lost) {
        t->samples.lost++;
    } else if (s->reason != MEDIA_OK) {
        t->samples.quarantined++;
        t->samples.reasons[s->reason < MEDIA_REASONS ? s->reason : MEDIA_DECODE_ERROR]++;
        log_warn("clip %llu is quarantined: %s: %s", (unsigned long long)slot->clip,
                 media_code_name(s->reason), s->detail);
        leases_out_abandon(&t->leases, ref, slot);
        batcher_hole(&t->batcher, ref, LEDGER_QUARANTINED, s->reason);
    } else if (sample_check(&shape, s, raw, n_raw, &video, &audio)) {
        t->samples.taken++;
        count_flags(&t->samples, s->flags);
        leases_out_abandon(&t->leases, ref, slot);
        batcher_fill(&t->batcher, ref, video, audio, s->hash);
    } else {
        t->samples.malformed++;
    }
    leases_out_settled(&t->leases, &answered, !s->lost);
    leases_out_pump(&t->leases);
}
