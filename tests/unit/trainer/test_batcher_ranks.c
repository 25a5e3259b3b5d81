/* batcher over ranks: the ranks' shares of a plan are its positions, each once, with the same number of
 * batches everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/ledger.h"
#include "services/trainer/batcher.h"

enum { VIDEOS = 37, POSITIONS_MAX = 64, BATCH_MAX = 12 };

static void on_wake(void *arg)
{
    (void)arg;
}

struct rig {
    struct clip_set set;
    struct draw draw;
    struct batcher b;
};

static void rig_open(struct rig *r, uint32_t rank, uint32_t world, uint64_t positions, uint32_t batch)
{
    struct err e;
    *r = (struct rig){0};
    assert_int_equal(clip_set_init(&r->set, VIDEOS, 1, &e), 0);
    for (uint64_t v = 0; v < VIDEOS; v++)
        clip_set_add(&r->set, v);
    clip_set_finish(&r->set);
    draw_init_shuffled(&r->draw, &r->set, 5, "train", 0, 0, 0);
    assert_int_equal(batcher_init(&r->b, batch / world, 8, on_wake, r, &e), 0);
    const struct plan plan = {.phase = PHASE_TRAIN,
                              .streams = 1,
                              .stream = {{true, false, &r->draw}},
                              .positions = positions,
                              .batch = batch,
                              .rank = rank,
                              .world = world};
    batcher_begin(&r->b, &plan);
}

static void rig_close(struct rig *r)
{
    draw_close(&r->draw);
    clip_set_close(&r->set);
    batcher_close(&r->b);
}

/* Fills whatever can be leased; every position is found by its number again. */
static void fill(struct rig *r)
{
    struct slot_ref ref, found;
    struct batch_slot *slot;
    while (batcher_next(&r->b, &ref, &slot)) {
        uint64_t position = batcher_position(&r->b.plan, ref.batch, ref.row), clip = slot->clip;
        const struct plan_key key = {PHASE_TRAIN, 0, 0, 0};
        assert_ptr_equal(batcher_find(&r->b, &key, position, &found), slot);
        assert_null(r->b.plan.world > 1 ? batcher_find(&r->b, &key, position ^ 1, &found) : NULL);
        batcher_lease(slot, 0, 0);
        batcher_fill(&r->b, ref, &clip, NULL, position);
    }
}

/* Puts the clips of a rank at their positions; the number of its batches. */
static unsigned collect(uint32_t rank, uint32_t world, uint64_t positions, uint32_t batch, uint64_t *clips)
{
    struct rig r;
    struct batch *b;
    unsigned n = 0;
    rig_open(&r, rank, world, positions, batch);
    for (;; n++) {
        fill(&r);
        if (batcher_take(&r.b, &b) != 0)
            break;
        assert_int_equal(b->first, (uint64_t)n * batch);
        assert_true(b->n <= batch / world && b->end <= positions);
        for (uint32_t row = 0; row < b->n; row++) {
            uint64_t at = batcher_position(&r.b.plan, b->index, row), clip;
            assert_true(at >= b->first && at < b->end && at % world == rank);
            memcpy(&clip, b->stream[0].video + row * sizeof clip, sizeof clip);
            assert_int_equal(clip, b->stream[0].slots[row].clip);
            assert_int_equal(clips[at], UINT64_MAX);
            clips[at] = clip;
        }
        batcher_give(&r.b, b);
    }
    rig_close(&r);
    return n;
}

/* Over 1, 2 and 3 ranks, with last batches that are short or empty for some of them. */
static void shares_make_the_whole(void **state)
{
    (void)state;
    for (uint64_t positions = 1; positions <= POSITIONS_MAX; positions += 3) {
        uint64_t whole[POSITIONS_MAX], parts[POSITIONS_MAX];
        memset(whole, 0xff, sizeof whole);
        unsigned batches = collect(0, 1, positions, BATCH_MAX, whole);
        for (uint32_t world = 2; world <= 3; world++) {
            memset(parts, 0xff, sizeof parts);
            for (uint32_t rank = 0; rank < world; rank++)
                assert_int_equal(collect(rank, world, positions, BATCH_MAX, parts), batches);
            assert_memory_equal(parts, whole, positions * sizeof *whole);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shares_make_the_whole)};
    return cmocka_run_group_tests_name("batcher over ranks", tests, NULL, NULL);
}
