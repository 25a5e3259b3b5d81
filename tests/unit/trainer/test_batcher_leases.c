/* batcher: what is out on lease is known, found and leased again, and nothing outlives the end of a plan. */
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
        cmocka_unit_test(reopened_positions_are_leased_again),
        cmocka_unit_test(a_hedge_is_a_second_lease),
        cmocka_unit_test(positions_follow_one_another),
        cmocka_unit_test(leases_are_listed_and_found),
        cmocka_unit_test(end_lets_go_of_the_plan),
        cmocka_unit_test(a_new_plan_starts_clean),
        cmocka_unit_test(a_drained_plan_leaves_no_lease),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
