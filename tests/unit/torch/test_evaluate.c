/* evaluate: its sums are those of a training step that changes nothing, they add up over batches, and nothing
 * of the net moves. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/torch/two_heads.h"

static void evaluate(struct net *net, int enc, uint32_t from, uint32_t n, struct net_score *sums)
{
    const int64_t *part[2] = {first + from, second + from};
    struct net_batch b = rows(enc, from, n);
    struct err e = {0};
    if (net_evaluate(net, (enum net_encoder)enc, &b, part, sums, &e) < 0)
        fail_msg("%s", e.msg);
}

/* A step with a rate of 0 on frozen encoders reports the losses before it, in eval mode: means of our sums,
 * counts of our counts. */
static void sums_are_those_of_a_step(void **state)
{
    (void)state;
    struct net_sgd still = {.frozen = true};
    struct net_step out[NET_ENCODERS] = {0};
    struct net *net = make_net(NET_HEAD_LINEAR, 0);
    train(net, 5, &sgd, out);
    train(net, 1, &still, out);
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        struct net_score s = {0};
        evaluate(net, enc, 0, N, &s);
        for (unsigned h = 0; h < 2; h++) {
            assert_int_equal(s.labelled[h], h ? 4 : 5);
            assert_int_equal(s.labelled[h], out[enc].labelled[h]);
            assert_int_equal(s.correct[h], out[enc].correct[h]);
            assert_true(out[enc].loss[h] > 1e-3 && isfinite(out[enc].loss[h]));
            assert_true(fabs(s.loss[h] / (double)s.labelled[h] - out[enc].loss[h]) < 1e-6);
        }
    }
    net_destroy(net);
}

/* Parts add up to the whole, MLP heads drop nothing, a second time gives the same bits, and not a byte of
 * what would be saved has changed. */
static void evaluating_changes_nothing(void **state)
{
    (void)state;
    for (int kind = NET_HEAD_LINEAR; kind <= NET_HEAD_MLP; kind++) {
        struct net_step out[NET_ENCODERS];
        struct net *net = make_net((enum net_head)kind, 0);
        size_t size, after;
        train(net, 2, &sgd, out);
        char *before = file_of(net, &size);
        for (int enc = 0; enc < NET_ENCODERS; enc++) {
            struct net_score whole = {0}, again = {0}, parts = {0};
            evaluate(net, enc, 0, N, &whole);
            evaluate(net, enc, 0, N, &again);
            assert_memory_equal(&whole, &again, sizeof whole);
            for (uint32_t i = 0; i < N; i += 2)
                evaluate(net, enc, i, 2, &parts);
            for (unsigned h = 0; h < 2; h++) {
                assert_int_equal(parts.labelled[h], whole.labelled[h]);
                assert_int_equal(parts.correct[h], whole.correct[h]);
                assert_true(fabs(parts.loss[h] - whole.loss[h]) < 1e-5);
            }
        }
        char *now = file_of(net, &after);
        assert_int_equal(after, size);
        assert_memory_equal(before, now, size);
        free(before);
        free(now);
        net_destroy(net);
    }
}

/* A label beyond the classes is refused, and the sums are as they were. */
static void a_wrong_label_is_refused(void **state)
{
    (void)state;
    static const int64_t wrong[N] = {0, 1, 2, 3, 0, 0};
    const int64_t *const bad[2] = {wrong, wrong};
    struct net *net = make_net(NET_HEAD_LINEAR, 0);
    struct net_score s = {.loss = {1.5}, .labelled = {7}}, before = s;
    struct net_batch b = rows(NET_AUDIO, 0, N);
    struct err e = {0};
    assert_int_equal(net_evaluate(net, NET_AUDIO, &b, bad, &s, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "label 3 for 3 classes"));
    assert_memory_equal(&s, &before, sizeof s);
    net_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_a_step),
        cmocka_unit_test(evaluating_changes_nothing),
        cmocka_unit_test(a_wrong_label_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
