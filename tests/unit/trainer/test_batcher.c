/* batcher: whatever order samples come in, batches go out in strict order with every position once, and
 * nothing outlives the end of a plan. */
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

static struct batch_slot *find(struct batcher *b, uint32_t stream, uint64_t position, struct slot_ref *ref)
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

static void on_wake(void *arg)
{
    struct rig *r = arg;
    atomic_fetch_add(&r->wakes, 1);
}

static uint32_t check(void *arg, uint32_t stream, uint64_t clip)
{
    struct rig *r = arg;
    (void)stream;
    r->checks++;
    return r->modulus && clip % r->modulus == 0 ? LEDGER_UNLABELLED : 0;
}

/* A plan over all clips of VIDEOS videos; with two streams one wants video, the other audio. */
static void rig_open(struct rig *r, uint32_t streams, uint64_t positions, uint32_t batch)
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
        r->plan.stream[s] = (struct plan_stream){streams == 1 || s == 0, streams == 1 || s == 1, &r->draw[s]};
    }
}

static void rig_close(struct rig *r)
{
    for (unsigned s = 0; s < BATCHER_STREAMS_MAX; s++)
        draw_close(&r->draw[s]);
    clip_set_close(&r->set);
    batcher_close(&r->b);
}

/* What the lease edge does with a position. */
static bool lease(struct rig *r, struct slot_ref *ref, struct batch_slot **slot)
{
    if (!batcher_next(&r->b, ref, slot))
        return false;
    assert_int_equal((*slot)->state, SLOT_OPEN);
    batcher_lease(*slot, 0, 0);
    assert_int_equal((*slot)->state, SLOT_LEASED);
    return true;
}

/* All leases of a position are lost; one that is settled has none. */
static void reopen(struct batcher *b, struct slot_ref ref)
{
    struct batch_slot *slot = batcher_slot(b, ref);
    while (slot->state == SLOT_LEASED)
        batcher_unlease(slot, &slot->leases[0]);
}

static void sample_of(uint64_t clip, uint32_t stream, uint64_t out[SAMPLE_BYTES / 8])
{
    for (unsigned i = 0; i < SAMPLE_BYTES / 8; i++)
        out[i] = rng_key(clip, "sample", stream, i, 0);
}

static void fill(struct rig *r, struct slot_ref ref)
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
static unsigned fill_all(struct rig *r)
{
    struct slot_ref ref;
    struct batch_slot *slot;
    unsigned n = 0;
    for (; lease(r, &ref, &slot); n++)
        fill(r, ref);
    return n;
}

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

/* A lost lease is offered again before anything new, with its attempts counted on; a settled position is not.
 */
static void reopened_positions_are_leased_again(void **state)
{
    (void)state;
    struct rig r;
    struct slot_ref first, second, again;
    struct batch_slot *a, *b, *c;
    rig_open(&r, 1, 50, 4);
    batcher_begin(&r.b, &r.plan);
    assert_true(lease(&r, &first, &a));
    assert_true(lease(&r, &second, &b));
    reopen(&r.b, first);
    assert_true(lease(&r, &again, &c));
    assert_ptr_equal(c, a);
    assert_memory_equal(&again, &first, sizeof again);
    assert_int_equal(c->attempts, 2);
    assert_int_equal(b->attempts, 1);
    fill(&r, first);
    reopen(&r.b, first);
    assert_int_equal(a->state, SLOT_DONE);
    assert_true(lease(&r, &again, &c));
    assert_int_equal(again.row, 2);
    rig_close(&r);
}

struct seen {
    unsigned n;
    struct slot_ref refs[16];
};

static void on_leased(void *arg, struct slot_ref ref, struct batch_slot *slot)
{
    struct seen *s = arg;
    assert_int_equal(slot->state, SLOT_LEASED);
    s->refs[s->n++] = ref;
}

/* Only what is out on lease is listed, and a position is found by its number while it is in the window. */
static void leases_are_listed_and_found(void **state)
{
    (void)state;
    struct rig r;
    struct slot_ref refs[6], ref;
    struct batch_slot *slot;
    struct seen seen = {0};
    rig_open(&r, 2, 50, 2);
    batcher_begin(&r.b, &r.plan);
    for (unsigned i = 0; i < 6; i++)
        assert_true(lease(&r, &refs[i], &slot));
    fill(&r, refs[1]);
    reopen(&r.b, refs[4]);
    batcher_each_leased(&r.b, on_leased, &seen);
    assert_int_equal(seen.n, 4);
    for (unsigned i = 0; i < seen.n; i++)
        assert_true(memcmp(&seen.refs[i], &refs[1], sizeof ref) != 0 &&
                    memcmp(&seen.refs[i], &refs[4], sizeof ref) != 0);
    for (unsigned i = 0; i < 6; i++) {
        slot = find(&r.b, refs[i].stream, refs[i].batch * 2 + refs[i].row, &ref);
        assert_ptr_equal(slot, batcher_slot(&r.b, refs[i]));
        assert_memory_equal(&ref, &refs[i], sizeof ref);
    }
    assert_null(find(&r.b, 2, 0, &ref));
    assert_null(find(&r.b, 0, 50, &ref));
    assert_null(find(&r.b, 0, UINT64_MAX, &ref));
    assert_null(find(&r.b, 0, 4, &ref)); /* not yet opened */
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

/* After batcher_end the loop thread neither draws nor checks, finds nothing and lists nothing. */
static void end_lets_go_of_the_plan(void **state)
{
    (void)state;
    struct rig r;
    struct slot_ref ref;
    struct batch_slot *slot;
    struct seen seen = {0};
    rig_open(&r, 1, 50, 2);
    batcher_begin(&r.b, &r.plan);
    for (unsigned i = 0; i < 8; i++)
        assert_true(lease(&r, &ref, &slot));
    assert_false(batcher_next(&r.b, &ref, &slot));
    struct batch *b;
    for (unsigned i = 0; i < 2; i++)
        fill(&r, (struct slot_ref){0, 0, i});
    assert_int_equal(batcher_take(&r.b, &b), 0);
    batcher_give(&r.b, b);
    unsigned checks = r.checks;
    batcher_end(&r.b);
    clip_set_close(&r.set); /* a draw would now read freed memory */
    memset(&r.draw[0], 0, sizeof r.draw[0]);
    assert_false(batcher_next(&r.b, &ref, &slot));
    assert_int_equal(r.checks, checks);
    assert_null(find(&r.b, 0, 2, &ref));
    batcher_each_leased(&r.b, on_leased, &seen);
    assert_int_equal(seen.n, 0);
    rig_close(&r);
}

/* A position may have two leases: each is found by its number, and it is open again when both are lost. */
static void a_hedge_is_a_second_lease(void **state)
{
    (void)state;
    struct rig r;
    struct slot_ref ref;
    struct batch_slot *slot;
    rig_open(&r, 1, 50, 4);
    batcher_begin(&r.b, &r.plan);
    assert_true(lease(&r, &ref, &slot));
    batcher_lease(slot, 7, 1.5);
    assert_int_equal(slot->n_leases, 2);
    assert_int_equal(batcher_live(slot, 1)->decoder, 0);
    assert_int_equal(batcher_live(slot, 2)->decoder, 7);
    assert_null(batcher_live(slot, 3));
    batcher_unlease(slot, batcher_live(slot, 1));
    assert_null(batcher_live(slot, 1));
    assert_int_equal(batcher_live(slot, 2)->decoder, 7);
    assert_int_equal(slot->state, SLOT_LEASED);
    batcher_unlease(slot, batcher_live(slot, 2));
    assert_int_equal(slot->state, SLOT_OPEN);
    assert_null(batcher_live(slot, 2));
    assert_true(lease(&r, &ref, &slot));
    assert_int_equal(slot->attempts, 3);
    rig_close(&r);
}

/* The positions after one follow it through the window, and end with it. */
static void positions_follow_one_another(void **state)
{
    (void)state;
    struct rig r;
    struct slot_ref ref, next;
    struct batch_slot *slot, *after;
    rig_open(&r, 1, 10, 4);
    batcher_begin(&r.b, &r.plan);
    for (unsigned i = 0; i < 6; i++) /* opens two batches */
        assert_true(lease(&r, &ref, &slot));
    ref = (struct slot_ref){0, 0, 0};
    for (unsigned i = 1; i < 8; i++) {
        assert_true(batcher_after(&r.b, ref, &next, &after));
        assert_int_equal(next.batch * 4 + next.row, i);
        assert_ptr_equal(after, batcher_slot(&r.b, next));
        ref = next;
    }
    assert_false(batcher_after(&r.b, ref, &next, &after));
    rig_close(&r);
}

/* A new plan starts clean: leases of the one before are gone, its attempts too, and the loop is woken. */
static void a_new_plan_starts_clean(void **state)
{
    (void)state;
    struct rig r;
    struct slot_ref ref;
    struct batch_slot *slot;
    struct seen seen = {0};
    rig_open(&r, 1, 50, 3);
    batcher_begin(&r.b, &r.plan);
    for (unsigned i = 0; i < 5; i++)
        assert_true(lease(&r, &ref, &slot));
    batcher_end(&r.b);
    unsigned wakes = atomic_load(&r.wakes);
    batcher_begin(&r.b, &r.plan);
    assert_int_equal(atomic_load(&r.wakes), wakes + 1);
    batcher_each_leased(&r.b, on_leased, &seen);
    assert_int_equal(seen.n, 0);
    assert_true(lease(&r, &ref, &slot));
    assert_int_equal(ref.batch, 0);
    assert_int_equal(ref.row, 0);
    assert_int_equal(slot->attempts, 1);
    rig_close(&r);
}

static void *drain(void *arg)
{
    batcher_drain(arg);
    return NULL;
}

/* A plan that is given up waits for all that is leased, which is thrown away, and draws nothing more; then
 * the same plan begins again without a lease of it alive. */
static void a_drained_plan_leaves_no_lease(void **state)
{
    (void)state;
    struct rig r;
    struct slot_ref refs[4 * BATCHER_DEPTH];
    struct batch_slot *slot;
    struct batch *batch;
    struct seen seen = {0};
    pthread_t thread;
    unsigned leased = 0;
    rig_open(&r, 1, 50, 3);
    batcher_begin(&r.b, &r.plan);
    for (; leased < 7; leased++) /* two batches and one position of the third */
        assert_true(lease(&r, &refs[leased], &slot));
    for (unsigned i = 0; i < 3; i++)
        fill(&r, refs[i]);
    assert_int_equal(batcher_take(&r.b, &batch), 0);
    batcher_give(&r.b, batch);
    assert_int_equal(pthread_create(&thread, NULL, drain, &r.b), 0);
    for (unsigned i = 3; i < leased; i++)
        fill(&r, refs[i]);
    for (bool given_up = false; !given_up; usleep(1000)) {
        pthread_mutex_lock(&r.b.lock);
        given_up = r.b.batches == r.b.tail;
        pthread_mutex_unlock(&r.b.lock);
    }
    /* the third batch has open positions: they are waited for */
    while (lease(&r, &refs[leased], &slot)) {
        assert_int_equal(refs[leased].batch, 2);
        fill(&r, refs[leased++]);
    }
    assert_int_equal(leased, 9);
    assert_int_equal(pthread_join(thread, NULL), 0);
    batcher_each_leased(&r.b, on_leased, &seen);
    assert_int_equal(seen.n, 0);
    batcher_end(&r.b);
    r.plan.first_batch = 1;
    batcher_begin(&r.b, &r.plan);
    assert_true(lease(&r, &refs[0], &slot));
    assert_int_equal(refs[0].batch, 1);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_order_comes_out_strict),
        cmocka_unit_test(window_holds_depth_batches),
        cmocka_unit_test(last_batch_is_short),
        cmocka_unit_test(all_holes_pass_through),
        cmocka_unit_test(first_batch_resumes),
        cmocka_unit_test(reopened_positions_are_leased_again),
        cmocka_unit_test(a_hedge_is_a_second_lease),
        cmocka_unit_test(positions_follow_one_another),
        cmocka_unit_test(leases_are_listed_and_found),
        cmocka_unit_test(stop_wakes_the_taker),
        cmocka_unit_test(end_lets_go_of_the_plan),
        cmocka_unit_test(a_new_plan_starts_clean),
        cmocka_unit_test(a_drained_plan_leaves_no_lease),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
