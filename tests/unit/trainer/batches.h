/* A batcher over the clips of a few videos and what the lease edge does with its positions, for the tests of
 * batcher. */
#pragma once
#include <stdatomic.h>

#include "lib/ledger.h"
#include "lib/rng.h"
#include "services/trainer/batcher.h"

enum { SAMPLE_BYTES = 24, BATCH_MAX = 8, VIDEOS = 61 };

struct rig {
    struct batcher b;
    struct clip_set set;
    struct draw draw[BATCHER_STREAMS_MAX];
    struct plan plan;
    atomic_uint wakes;
    unsigned checks;
    uint64_t modulus; /* clips divisible by it are unlabelled; 0: none */
};

static inline struct batch_slot *find(struct batcher *b, uint32_t stream, uint64_t position,
                                      struct slot_ref *ref)
{
    const struct plan_key key = {(uint32_t)b->plan.phase, b->plan.round, b->plan.epoch, stream};
    const struct plan_key others[] = {{key.phase + 1, key.round, key.epoch, stream},
                                      {key.phase, key.round + 1, key.epoch, stream},
                                      {key.phase, key.round, key.epoch + 1, stream}};
    /* a lease of another phase, round or epoch is never this plan's */
    for (unsigned i = 0; i < 3; i++)
        assert_null(batcher_find(b, &others[i], position, ref));
    return batcher_find(b, &key, position, ref);
}

static inline void on_wake(void *arg)
{
    struct rig *r = arg;
    atomic_fetch_add(&r->wakes, 1);
}

static inline uint32_t check(void *arg, uint32_t stream, uint64_t clip)
{
    struct rig *r = arg;
    (void)stream;
    r->checks++;
    return r->modulus && clip % r->modulus == 0 ? LEDGER_UNLABELLED : 0;
}

/* A plan over all clips of VIDEOS videos; with two streams one wants video, the other audio. */
static inline void rig_open(struct rig *r, uint32_t streams, uint64_t positions, uint32_t batch)
{
    struct err e;
    *r = (struct rig){0};
    assert_int_equal(batcher_init(&r->b, BATCH_MAX, SAMPLE_BYTES, on_wake, r, &e), 0);
    assert_int_equal(clip_set_init(&r->set, VIDEOS, 1, &e), 0);
    for (uint64_t v = 0; v < VIDEOS; v++)
        clip_set_add(&r->set, v);
    clip_set_finish(&r->set);
    r->plan = (struct plan){.phase = PHASE_TRAIN,
                            .streams = streams,
                            .positions = positions,
                            .batch = batch,
                            .check = check,
                            .arg = r};
    for (uint32_t s = 0; s < streams; s++) {
        draw_init_shuffled(&r->draw[s], &r->set, 7, "train", 0, s, 0);
        r->plan.stream[s] = (struct plan_stream){
            .video = streams == 1 || s == 0, .audio = streams == 1 || s == 1, .draw = &r->draw[s]};
    }
}

static inline void rig_close(struct rig *r)
{
    for (unsigned s = 0; s < BATCHER_STREAMS_MAX; s++)
        draw_close(&r->draw[s]);
    clip_set_close(&r->set);
    batcher_close(&r->b);
}

/* What the lease edge does with a position. */
static inline bool lease(struct rig *r, struct slot_ref *ref, struct batch_slot **slot)
{
    if (!batcher_next(&r->b, ref, slot))
        return false;
    assert_int_equal((*slot)->state, SLOT_OPEN);
    batcher_lease(*slot, 0, 0);
    assert_int_equal((*slot)->state, SLOT_LEASED);
    return true;
}

/* All leases of a position are lost; one that is settled has none. */
static inline void reopen(struct batcher *b, struct slot_ref ref)
{
    struct batch_slot *slot = batcher_slot(b, ref);
    while (slot->state == SLOT_LEASED)
        batcher_unlease(slot, &slot->leases[0]);
}

static inline void sample_of(uint64_t clip, uint32_t stream, uint64_t out[SAMPLE_BYTES / 8])
{
    for (unsigned i = 0; i < SAMPLE_BYTES / 8; i++)
        out[i] = rng_key(clip, "sample", stream, i, 0);
}

static inline void fill(struct rig *r, struct slot_ref ref)
{
    static float audio[MEDIA_AUDIO_FLOATS];
    uint64_t video[SAMPLE_BYTES / 8];
    const struct plan_stream *ps = &r->plan.stream[ref.stream];
    uint64_t clip = batcher_slot(&r->b, ref)->clip;
    sample_of(clip, ref.stream, video);
    audio[0] = (float)clip;
    audio[MEDIA_AUDIO_FLOATS - 1] = (float)ref.stream;
    batcher_fill(&r->b, ref, ps->video ? video : NULL, ps->audio ? audio : NULL, clip ^ ref.stream);
}

/* Leases all there is now and fills it. */
static inline unsigned fill_all(struct rig *r)
{
    struct slot_ref ref;
    struct batch_slot *slot;
    unsigned n = 0;
    for (; lease(r, &ref, &slot); n++)
        fill(r, ref);
    return n;
}
