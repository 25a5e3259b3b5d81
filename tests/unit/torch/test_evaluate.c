/* evaluate: its sums are those of a training step that changes nothing, they add up over batches, and nothing
 * of the net moves. ema: the average is the recurrence, it is saved, and a net that goes on from the file has
 * the same one. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "lib/rng.h"
#include "lib/tensor.h"
#include "lib/torch/net.h"

enum { FRAMES = 4, CROP = 16, N = 6, VIDEO_CLIP = FRAMES * CROP * CROP * 3, AUDIO_CLIP = 40 * 100 };

static const struct net_spec small = {.video_depth = 10,
                                      .video_width = 4,
                                      .audio_depth = 10,
                                      .audio_width = 4,
                                      .frames = FRAMES,
                                      .crop = CROP,
                                      .seed = 5,
                                      .threads = 1};
static const struct net_sgd sgd = {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true};

static uint8_t video[N * VIDEO_CLIP];
static float audio[N * AUDIO_CLIP];
static const int64_t first[N] = {0, 2, -1, 1, 2, 2}, second[N] = {-1, 3, 1, -1, 0, 2};
static const int64_t *const labels[2] = {first, second};
static char dir[64];

static int setup(void **state)
{
    struct rng r;
    (void)state;
    rng_init(&r, 1);
    for (size_t i = 0; i < sizeof video; i++)
        video[i] = (uint8_t)rng_next(&r);
    for (size_t i = 0; i < N * AUDIO_CLIP; i++)
        audio[i] = (float)rng_normal(&r);
    strcpy(dir, "/tmp/xdc-test-evaluate-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static const char *at(const char *name)
{
    static char path[2][96];
    static unsigned turn;
    turn ^= 1;
    snprintf(path[turn], sizeof path[0], "%s/%s", dir, name);
    return path[turn];
}

static struct net_batch rows(int enc, uint32_t from, uint32_t n)
{
    return (struct net_batch){n, enc == NET_VIDEO ? (const void *)(video + (size_t)from * VIDEO_CLIP)
                                                  : (const void *)(audio + (size_t)from * AUDIO_CLIP)};
}

/* With two heads of 3 and 4 classes on each encoder. */
static struct net *make_net(enum net_head kind, double decay)
{
    static const uint32_t classes[2] = {3, 4};
    static const uint64_t seeds[2] = {8, 9};
    struct net *net = NULL;
    struct err e = {0};
    int rc = net_create(&small, &net, &e);
    if (rc == 0)
        rc = net_set_ema(net, decay, &e);
    for (int enc = 0; rc == 0 && enc < NET_ENCODERS; enc++)
        rc = net_reset_heads(net, (enum net_encoder)enc, kind, 2, classes, seeds, &e);
    if (rc < 0)
        fail_msg("%s", e.msg);
    return net;
}

static void train(struct net *net, int steps, const struct net_sgd *o, struct net_step out[NET_ENCODERS])
{
    struct err e = {0};
    for (int i = 0; i < steps; i++)
        for (int enc = 0; enc < NET_ENCODERS; enc++) {
            struct net_batch b = rows(enc, 0, N);
            if (net_train_step(net, (enum net_encoder)enc, &b, labels, NULL, o, &out[enc], &e) < 0)
                fail_msg("%s", e.msg);
        }
}

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

static char *saved(struct net *net, const char *name, size_t *size)
{
    struct err e = {0};
    char *data = NULL;
    if (net_save(net, at(name), &e) < 0 || fs_read(at(name), 1 << 26, &data, size, &e) < 0)
        fail_msg("%s", e.msg);
    return data;
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
        char *before = saved(net, "before", &size);
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
        char *now = saved(net, "after", &after);
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

/* What a file holds of a tensor; the caller frees. */
static float *tensor_of(const char *path, const char *name, size_t *n)
{
    struct safetensors *file;
    struct err e = {0};
    if (safetensors_open(path, &file, &e) < 0)
        fail_msg("%s", e.msg);
    const struct tensor *t = safetensors_find(file, name);
    if (!t)
        fail_msg("no %s", name);
    *n = tensor_count(t);
    float *out = malloc(*n * sizeof *out);
    memcpy(out, t->data, *n * sizeof *out);
    safetensors_close(file);
    return out;
}

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
        struct err e = {0};
        o.frozen = step == 4;
        if (step > 0)
            train(net, 1, &o, out);
        assert_int_equal(net_save(net, at("net"), &e), 0);
        for (int i = 0; i < 2; i++) {
            size_t n, m;
            float *w = tensor_of(at("net"), sources[i], &n), *average = tensor_of(at("net"), names[i], &m);
            assert_int_equal(n, m);
            if (!want[i])
                want[i] = calloc(n, sizeof *want[i]);
            double moved = 0;
            for (size_t j = 0; j < n; j++) {
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
    char *one = saved(straight, "straight", &a), *other = saved(resumed, "resumed", &b);
    assert_int_equal(a, b);
    assert_memory_equal(one, other, a);
    free(one);
    free(other);
    assert_int_equal(net_load(without, at("net"), &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "ema."));
    char *plain = saved(without, "plain", &a);
    assert_null(memmem(plain, a, "ema.", 4));
    free(plain);
    assert_int_equal(net_load(straight, at("plain"), &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "ema."));
    assert_int_equal(net_set_ema(straight, 1, &e), -EINVAL);
    net_destroy(straight);
    net_destroy(resumed);
    net_destroy(without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_a_step), cmocka_unit_test(evaluating_changes_nothing),
        cmocka_unit_test(a_wrong_label_is_refused), cmocka_unit_test(the_average_is_the_recurrence),
        cmocka_unit_test(averages_are_saved),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
