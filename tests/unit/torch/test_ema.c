/* ema: the average is the recurrence, it is saved, and a net that goes on from the file has the same one. */
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

/* After every step average = decay average + (1 - decay) weights, from the weights at the beginning on; a
 * step on a frozen encoder leaves it. */
static void the_average_is_the_recurrence(void **state)
{
    (void)state;
    static const char *const names[] = {"video.ema.stem.0.weight", "audio.ema.layer1.0.bn1.bias"};
    static const char *const sources[] = {"video.stem.0.weight", "audio.layer1.0.bn1.bias"};
    const double decay = 0.75;
    struct net *net = make_net(NET_HEAD_LINEAR, decay);
    double *want[2] = {NULL, NULL};
    for (int step = 0; step <= 6; step++) {
        struct net_step out[NET_ENCODERS];
        struct net_sgd o = sgd;
        o.frozen = step == 4;
        if (step > 0)
            train(net, 1, &o, out);
        for (int i = 0; i < 2; i++) {
            uint64_t n, m;
            float *w = tensor_of(net, sources[i], &n), *average = tensor_of(net, names[i], &m);
            assert_int_equal(n, m);
            if (!want[i])
                want[i] = calloc(n, sizeof *want[i]);
            double moved = 0;
            for (uint64_t j = 0; j < n; j++) {
                if (step == 0)
                    want[i][j] = (double)w[j];
                else if (!o.frozen)
                    want[i][j] = decay * want[i][j] + (1 - decay) * (double)w[j];
                assert_true(fabs((double)average[j] - want[i][j]) < 1e-5);
                moved = fmax(moved, fabs((double)(w[j] - average[j])));
            }
            assert_true(step == 0 || moved > 1e-4); /* it is not just the weights */
            free(w);
            free(average);
        }
    }
    free(want[0]);
    free(want[1]);
    net_destroy(net);
}

/* Without an average a file is as it was before there were any; with one, a net that goes on from the file
 * ends with the same bytes; nets that differ in having one refuse each other's files by the tensor's name. */
static void averages_are_saved(void **state)
{
    (void)state;
    struct net_step out[NET_ENCODERS];
    struct err e = {0};
    size_t a, b;
    struct net *straight = make_net(NET_HEAD_LINEAR, 0.9), *resumed = make_net(NET_HEAD_LINEAR, 0.9),
               *without = make_net(NET_HEAD_LINEAR, 0);
    train(straight, 3, &sgd, out);
    train(without, 3, &sgd, out);
    assert_int_equal(net_save(straight, at("net"), &e), 0);
    assert_int_equal(net_load(resumed, at("net"), &e), 0);
    train(straight, 3, &sgd, out);
    train(resumed, 3, &sgd, out);
    char *one = file_of(straight, &a), *other = file_of(resumed, &b);
    assert_int_equal(a, b);
    assert_memory_equal(one, other, a);
    free(one);
    free(other);
    assert_int_equal(net_load(without, at("net"), &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "ema."));
    char *plain = file_of(without, &a);
    assert_null(memmem(plain, a, "ema.", 4));
    free(plain);
    assert_int_equal(net_save(without, at("net"), &e), 0);
    assert_int_equal(net_load(straight, at("net"), &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "ema."));
    unlink(at("net"));
    assert_int_equal(net_set_ema(straight, 1, &e), -EINVAL);
    net_destroy(straight);
    net_destroy(resumed);
    net_destroy(without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_average_is_the_recurrence),
        cmocka_unit_test(averages_are_saved),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
