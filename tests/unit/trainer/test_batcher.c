/* batcher: whatever order samples come in, batches go out in strict order with every position once. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/trainer/batches.h"

/* The training thread of a test: takes to the end and notes what it saw. */
struct taker {
    struct rig *r;
    struct draw draw[BATCHER_STREAMS_MAX]; /* its own, to compare with */
    uint64_t next;                         /* batch that must come */
    uint64_t positions, trained, quarantined, unlabelled, bad;
    int result;
    atomic_bool done;
};

static bool row_is_right(struct taker *t, const struct batch *b, uint32_t s, uint32_t row)
{
    const struct plan_stream *ps = &t->r->plan.stream[s];
    const struct batch_slot *slot = &b->stream[s].slots[row];
    uint64_t want[SAMPLE_BYTES / 8];
    t->positions++;
    if (slot->state != SLOT_DONE || slot->clip != draw_at(&t->draw[s], b->first + row))
        return false;
    bool unlabelled = t->r->modulus && slot->clip % t->r->modulus == 0;
    if (unlabelled || slot->disposition == LEDGER_UNLABELLED) {
        t->unlabelled++;
        return unlabelled && slot->disposition == LEDGER_UNLABELLED && slot->attempts == 0;
    }
    if (slot->disposition == LEDGER_QUARANTINED) {
        t->quarantined++;
        return slot->reason == 1 + slot->clip % 5;
    }
    t->trained++;
    sample_of(slot->clip, s, want);
    const float *audio = b->stream[s].audio + (size_t)row * MEDIA_AUDIO_FLOATS;
    return slot->disposition == LEDGER_TRAINED && slot->hash == (slot->clip ^ s) &&
           (!ps->video || memcmp(b->stream[s].video + row * (size_t)SAMPLE_BYTES, want, SAMPLE_BYTES) == 0) &&
           (!ps->audio || (audio[0] == (float)slot->clip && audio[MEDIA_AUDIO_FLOATS - 1] == (float)s));
}

static void *take_all(void *arg)
{
    struct taker *t = arg;
    struct batch *b;
    while ((t->result = batcher_take(&t->r->b, &b)) == 0) {
        t->bad += b->index != t->next || b->first != t->next * t->r->plan.batch || b->pending != 0;
        t->next++;
        for (uint32_t row = 0; row < b->n; row++)
            for (uint32_t s = 0; s < t->r->plan.streams; s++)
                t->bad += !row_is_right(t, b, s, row);
        if (b->index % 3 == 0)
            usleep(200); /* now and then the loop thread runs into the full window */
        batcher_give(&t->r->b, b);
    }
    batcher_end(&t->r->b);
    atomic_store(&t->done, true);
    return NULL;
}

static void taker_start(struct taker *t, struct rig *r, pthread_t *thread)
{
    *t = (struct taker){.r = r, .next = r->plan.first_batch};
    for (uint32_t s = 0; s < r->plan.streams; s++)
        draw_init_shuffled(&t->draw[s], &r->set, 7, "train", 0, s, 0);
    batcher_begin(&r->b, &r->plan);
    assert_int_equal(pthread_create(thread, NULL, take_all, t), 0);
}

/* The loop thread of a test: up to `room` leases at a time, settled in a random order, one in eight lost, one
 * in nine bad. */
static void serve(struct rig *r, struct taker *t, struct rng *rng, unsigned room)
{
    struct slot_ref held[64], ref;
    struct batch_slot *slot;
    unsigned n = 0;
    assert_true(room <= 64);
    while (!atomic_load(&t->done)) {
        while (n < room && lease(r, &ref, &slot))
            held[n++] = ref;
        uint64_t ready, open, filled;
        batcher_progress(&r->b, &ready, &open, &filled);
        assert_true(open <= BATCHER_DEPTH && ready <= open);
        if (n == 0) {
            usleep(50);
            continue;
        }
        unsigned i = (unsigned)rng_below(rng, n);
        uint64_t clip = batcher_slot(&r->b, held[i])->clip;
        if (rng_below(rng, 8) == 0)
            reopen(&r->b, held[i]);
        else if (clip % 9 == 4)
            batcher_hole(&r->b, held[i], LEDGER_QUARANTINED, 1 + (uint32_t)(clip % 5));
        else
            fill(r, held[i]);
        held[i] = held[--n];
    }
    assert_int_equal(n, 0);
}

/* Two threads, samples in random order with losses and bad clips: batches come in strict order, each position
 * once, every row with its own clip's bytes, holes in their places; whole, short and resumed plans, one
 * stream and two. */
static void random_order_comes_out_strict(void **state)
{
    (void)state;
    static const struct {
        uint32_t streams;
        uint64_t positions;
        uint32_t batch;
        uint64_t first_batch, modulus;
        unsigned room;
    } rows[] = {{1, 300, 8, 0, 0, 40}, {1, 301, 7, 0, 6, 64}, {2, 257, 8, 0, 5, 64}, {2, 123, 5, 9, 4, 3},
                {1, 100, 8, 12, 0, 9}, {1, 40, 1, 0, 3, 2},   {1, 3, 8, 0, 0, 8}};
    struct rng rng;
    rng_init(&rng, 3);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig r;
        struct taker t;
        pthread_t thread;
        rig_open(&r, rows[i].streams, rows[i].positions, rows[i].batch);
        r.modulus = rows[i].modulus;
        r.plan.first_batch = rows[i].first_batch;
        taker_start(&t, &r, &thread);
        serve(&r, &t, &rng, rows[i].room);
        assert_int_equal(pthread_join(thread, NULL), 0);
        uint64_t all = rows[i].streams * (rows[i].positions - rows[i].first_batch * rows[i].batch);
        assert_int_equal(t.result, 1);
        assert_int_equal(t.bad, 0);
        assert_int_equal(t.next, (rows[i].positions + rows[i].batch - 1) / rows[i].batch);
        assert_int_equal(t.positions, all);
        assert_int_equal(t.trained + t.quarantined + t.unlabelled, all);
        assert_int_equal(r.b.filled, all);
        assert_int_equal(r.checks, all);
        rig_close(&r);
    }
}

/* Without a taker exactly BATCHER_DEPTH batches are leased; a batch in the taker's hands still counts; giving
 * it back wakes the loop and makes room for one more. */
static void window_holds_depth_batches(void **state)
{
    (void)state;
    struct rig r;
    struct batch *b;
    uint64_t ready, open, filled;
    rig_open(&r, 1, 100, 5);
    batcher_begin(&r.b, &r.plan);
    assert_int_equal(fill_all(&r), BATCHER_DEPTH * 5);
    assert_int_equal(fill_all(&r), 0);
    batcher_progress(&r.b, &ready, &open, &filled);
    assert_int_equal(ready, BATCHER_DEPTH);
    assert_int_equal(open, BATCHER_DEPTH);
    assert_int_equal(filled, BATCHER_DEPTH * 5);
    assert_int_equal(batcher_take(&r.b, &b), 0);
    assert_int_equal(b->index, 0);
    assert_int_equal(fill_all(&r), 0);
    unsigned wakes = atomic_load(&r.wakes);
    batcher_give(&r.b, b);
    assert_int_equal(atomic_load(&r.wakes), wakes + 1);
    assert_int_equal(fill_all(&r), 5);
    assert_int_equal(fill_all(&r), 0);
    rig_close(&r);
}

/* The last batch may be short, and behind it the plan is over, also for one that begins behind its end. */
static void last_batch_is_short(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {4, 4, 2};
    struct rig r;
    struct batch *b;
    rig_open(&r, 1, 10, 4);
    batcher_begin(&r.b, &r.plan);
    assert_int_equal(fill_all(&r), 10);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(batcher_take(&r.b, &b), 0);
        assert_int_equal(b->n, sizes[i]);
        assert_int_equal(b->first, 4 * i);
        batcher_give(&r.b, b);
    }
    assert_int_equal(batcher_take(&r.b, &b), 1);
    r.plan.first_batch = 3;
    batcher_begin(&r.b, &r.plan);
    assert_int_equal(batcher_take(&r.b, &b), 1);
    rig_close(&r);
}

/* A plan of which no clip is usable gives batches of holes only; nothing is leased. */
static void all_holes_pass_through(void **state)
{
    (void)state;
    struct rig r;
    struct slot_ref ref;
    struct batch_slot *slot;
    struct batch *b;
    rig_open(&r, 1, 37, 4);
    r.modulus = 1;
    batcher_begin(&r.b, &r.plan);
    for (unsigned i = 0; i < 10; i++) {
        assert_false(batcher_next(&r.b, &ref, &slot));
        assert_int_equal(batcher_take(&r.b, &b), 0);
        assert_int_equal(b->index, i);
        for (uint32_t row = 0; row < b->n; row++)
            assert_int_equal(b->stream[0].slots[row].disposition, LEDGER_UNLABELLED);
        batcher_give(&r.b, b);
    }
    assert_int_equal(batcher_take(&r.b, &b), 1);
    assert_int_equal(r.checks, 37);
    rig_close(&r);
}

/* A resumed plan begins with the batch it names: same positions, same clips as in the uninterrupted one. */
static void first_batch_resumes(void **state)
{
    (void)state;
    struct rig r;
    struct slot_ref ref;
    struct batch_slot *slot;
    struct batch *b;
    rig_open(&r, 1, 61, 4);
    uint64_t want = draw_at(&r.draw[0], 28);
    r.plan.first_batch = 7;
    batcher_begin(&r.b, &r.plan);
    assert_true(batcher_next(&r.b, &ref, &slot));
    assert_int_equal(ref.batch, 7);
    assert_int_equal(ref.row, 0);
    assert_int_equal(slot->clip, want);
    assert_null(find(&r.b, 0, 27, &ref));
    assert_ptr_equal(find(&r.b, 0, 28, &ref), slot);
    fill_all(&r);
    assert_int_equal(batcher_take(&r.b, &b), 0);
    assert_int_equal(b->index, 7);
    assert_int_equal(b->first, 28);
    rig_close(&r);
}

/* batcher_stop wakes a taker that waits for a sample, and every later one. */
static void stop_wakes_the_taker(void **state)
{
    (void)state;
    struct rig r;
    struct taker t;
    struct batch *b;
    pthread_t thread;
    rig_open(&r, 1, 50, 4);
    taker_start(&t, &r, &thread);
    usleep(20000);
    assert_false(atomic_load(&t.done));
    batcher_stop(&r.b);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(t.result, XDC_ESTOPPED);
    assert_int_equal(t.positions, 0);
    assert_int_equal(batcher_take(&r.b, &b), XDC_ESTOPPED);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_order_comes_out_strict), cmocka_unit_test(window_holds_depth_batches),
        cmocka_unit_test(last_batch_is_short),           cmocka_unit_test(all_holes_pass_through),
        cmocka_unit_test(first_batch_resumes),           cmocka_unit_test(stop_wakes_the_taker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
