/* step: what a training step may be asked for beside plain SGD does what its name says, and nothing else. */
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

enum { CROP = 32, N = 6, THREADS = 1 };

#include "tests/unit/torch/clips.h"

static const struct net_sgd plain = {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true};

static const int64_t labels[N] = {0, 1, 2, -1, 1, 2};
/* A net whose encoder has `n` heads of three classes. */
static struct net *create(int enc, enum net_head kind, uint32_t n)
{
    const uint32_t classes[] = {3, 3};
    const uint64_t seeds[] = {100, 101};
    struct net *net = NULL;
    struct err e = {0};
    ok(net_create(&small, &net, &e), &e);
    ok(net_reset_heads(net, (enum net_encoder)enc, kind, n, classes, seeds, &e), &e);
    return net;
}

static struct net_step step(struct net *net, int enc, const struct net_sgd *sgd)
{
    const int64_t *y[] = {labels, labels};
    struct net_batch b = batch_of(enc);
    struct net_step out = {0};
    struct err e = {0};
    ok(net_train_step(net, (enum net_encoder)enc, &b, y, NULL, sgd, &out, &e), &e);
    return out;
}

static double distance(struct net *a, struct net *b, const char *name)
{
    uint64_t n, m;
    float *x = tensor_of(a, name, &n), *y = tensor_of(b, name, &m);
    double sum = 0;
    assert_int_equal(n, m);
    for (uint64_t i = 0; i < n; i++)
        sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    free(x);
    free(y);
    return sqrt(sum);
}

/* Recomputing activations changes no bit of weights, momentum or batch-norm statistics. */
static void recomputing_changes_nothing(void **state)
{
    (void)state;
    struct net_sgd again = plain;
    again.recompute = true;
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        struct net *a = create(enc, NET_HEAD_LINEAR, 1), *b = create(enc, NET_HEAD_LINEAR, 1);
        for (int i = 0; i < 3; i++) {
            struct net_step x = step(a, enc, &plain), y = step(b, enc, &again);
            assert_true(x.loss[0] == y.loss[0] && x.gradient_norm == y.gradient_norm);
        }
        assert_int_equal(hash(a), hash(b));
        net_destroy(a);
        net_destroy(b);
    }
}

/* With frozen batch-norm a batch in parts gives the whole batch's gradient; a part of the batch's size is the
 * batch, bit for bit. */
static void parts_of_a_batch_add_up(void **state)
{
    (void)state;
    struct net_sgd whole = plain, parts = plain, same = plain;
    whole.frozen = parts.frozen = true;
    parts.micro_batch = 4; /* 4 and 2 */
    same.micro_batch = N;
    struct net *a = create(NET_VIDEO, NET_HEAD_LINEAR, 1), *b = create(NET_VIDEO, NET_HEAD_LINEAR, 1);
    struct net_step x = step(a, NET_VIDEO, &whole), y = step(b, NET_VIDEO, &parts);
    assert_true(fabs(x.loss[0] - y.loss[0]) < 1e-6);
    assert_true(fabs(x.gradient_norm - y.gradient_norm) < 1e-5 * x.gradient_norm);
    assert_int_equal(x.correct[0], y.correct[0]);
    assert_int_equal(y.labelled[0], 5);
    assert_true(distance(a, b, "video.heads.0.weight") < 1e-6);
    net_destroy(a);
    net_destroy(b);
    a = create(NET_VIDEO, NET_HEAD_LINEAR, 1);
    b = create(NET_VIDEO, NET_HEAD_LINEAR, 1);
    step(a, NET_VIDEO, &plain);
    step(b, NET_VIDEO, &same);
    assert_int_equal(hash(a), hash(b));
    parts.frozen = false; /* batch-norm sees the parts: another result, but one that trains */
    y = step(b, NET_VIDEO, &parts);
    assert_true(isfinite(y.loss[0]) && hash(b) != hash(a));
    net_destroy(a);
    net_destroy(b);
}

/* A frozen encoder keeps every bit, batch-norm statistics too, while its head learns. */
static void a_frozen_encoder_stays(void **state)
{
    (void)state;
    struct net_sgd fc = plain;
    fc.frozen = true;
    fc.head_lr = 0.5;
    struct net *net = create(NET_AUDIO, NET_HEAD_LINEAR, 1);
    uint64_t before = hash(net);
    double first = step(net, NET_AUDIO, &fc).loss[0], last = 0;
    for (int i = 0; i < 20; i++)
        last = step(net, NET_AUDIO, &fc).loss[0];
    assert_true(last < 0.9 * first);
    assert_int_equal(hash(net), before);
    net_destroy(net);
}

/* The heads' own rate moves them alone: twice the rate, twice the way. */
static void heads_have_their_own_rate(void **state)
{
    (void)state;
    struct net_sgd one = plain, two = plain;
    one.weight_decay = two.weight_decay = 0;
    two.head_lr = 2 * one.lr;
    struct net *start = create(NET_AUDIO, NET_HEAD_LINEAR, 1), *a = create(NET_AUDIO, NET_HEAD_LINEAR, 1),
               *b = create(NET_AUDIO, NET_HEAD_LINEAR, 1);
    step(a, NET_AUDIO, &one);
    step(b, NET_AUDIO, &two);
    assert_int_equal(hash(a), hash(b));
    double way = distance(start, a, "audio.heads.0.weight");
    assert_true(fabs(distance(start, b, "audio.heads.0.weight") - 2 * way) < 1e-5 * way);
    net_destroy(start);
    net_destroy(a);
    net_destroy(b);
}

/* A clipped gradient moves the weights by the clip's length, in the same direction. */
static void a_gradient_is_clipped(void **state)
{
    (void)state;
    struct net_sgd cut = {.lr = 1, .clip_norm = 0.01};
    struct net *start = create(NET_AUDIO, NET_HEAD_LINEAR, 1), *a = create(NET_AUDIO, NET_HEAD_LINEAR, 1);
    struct net_step out = step(a, NET_AUDIO, &cut);
    assert_true(out.gradient_norm > 0.1); /* it is reported as it was */
    double sum = 0;
    static const char *const some[] = {"audio.conv1.weight", "audio.layer4.0.conv2.weight",
                                       "audio.heads.0.weight"};
    for (size_t i = 0; i < 3; i++)
        sum += pow(distance(start, a, some[i]), 2);
    assert_true(sqrt(sum) > 0.001 && sqrt(sum) <= 0.01);
    net_destroy(start);
    net_destroy(a);
}

/* Decay of batch-norm weights pulls them, and them alone, towards zero. */
static void norms_decay_when_asked(void **state)
{
    (void)state;
    struct net_sgd none = {.lr = 0.1}, some = {.lr = 0.1, .norm_decay = 0.5};
    struct net *a = create(NET_AUDIO, NET_HEAD_LINEAR, 1), *b = create(NET_AUDIO, NET_HEAD_LINEAR, 1);
    step(a, NET_AUDIO, &none);
    step(b, NET_AUDIO, &some);
    uint64_t n;
    float *x = tensor_of(a, "audio.bn1.weight", &n), *y = tensor_of(b, "audio.bn1.weight", &n);
    for (uint64_t i = 0; i < n; i++)
        assert_true(fabsf(x[i] - y[i] - 0.05f) < 1e-6f); /* they were 1: lr x decay x 1 */
    assert_true(distance(a, b, "audio.conv1.weight") == 0);
    free(x);
    free(y);
    net_destroy(a);
    net_destroy(b);
}

/* A head of factor 0 teaches nothing; factors scale the gradient. */
static void heads_are_weighed(void **state)
{
    (void)state;
    static const float first[] = {1, 0}, third[] = {3};
    struct net_sgd sgd = {.lr = 0.05}, tripled = {.lr = 0.05, .head_weights = third};
    struct net *one = create(NET_AUDIO, NET_HEAD_LINEAR, 1), *two = create(NET_AUDIO, NET_HEAD_LINEAR, 2),
               *start = create(NET_AUDIO, NET_HEAD_LINEAR, 2), *three = create(NET_AUDIO, NET_HEAD_LINEAR, 1);
    double norm = step(one, NET_AUDIO, &sgd).gradient_norm;
    sgd.head_weights = first;
    struct net_step out = step(two, NET_AUDIO, &sgd);
    assert_true(distance(start, two, "audio.heads.1.weight") == 0);
    assert_true(distance(start, two, "audio.heads.0.weight") > 0);
    assert_true(out.loss[1] > 0); /* still measured */
    assert_true(distance(one, two, "audio.conv1.weight") < 1e-6);
    assert_true(fabs(step(three, NET_AUDIO, &tripled).gradient_norm - 3 * norm) < 1e-4 * norm);
    net_destroy(one);
    net_destroy(two);
    net_destroy(three);
    net_destroy(start);
}

/* SeLaVi's head: what it drops follows from the seed alone, it learns, and a checkpoint holds all of it. */
static void an_mlp_head_learns_and_is_kept(void **state)
{
    (void)state;
    const char *path = at("net.safetensors");
    struct err e = {0};
    struct net_sgd sgd = plain;
    sgd.seed = 7;
    struct net *a = create(NET_AUDIO, NET_HEAD_MLP, 1), *b = create(NET_AUDIO, NET_HEAD_MLP, 1),
               *c = create(NET_AUDIO, NET_HEAD_MLP, 1);
    double same = step(a, NET_AUDIO, &sgd).loss[0];
    assert_true(step(b, NET_AUDIO, &sgd).loss[0] == same);
    sgd.seed = 8;
    assert_true(step(c, NET_AUDIO, &sgd).loss[0] != same);
    ok(net_save(a, path, &e), &e);
    net_destroy(b);
    ok(net_create(&small, &b, &e), &e);
    ok(net_load(b, path, &e), &e);
    unlink(path);
    double last = same;
    for (uint64_t i = 0; i < 60; i++) {
        sgd.seed = i;
        last = step(a, NET_AUDIO, &sgd).loss[0];
        assert_true(step(b, NET_AUDIO, &sgd).loss[0] == last);
    }
    assert_true(last < 0.7 * same);
    assert_true(distance(a, b, "audio.heads.0.2.running_var") == 0);
    uint32_t classes[NET_HEADS_MAX];
    assert_int_equal(net_heads(b, NET_AUDIO, classes), 1);
    assert_int_equal(classes[0], 3);
    net_destroy(a);
    net_destroy(b);
    net_destroy(c);
}

/* A step gives out the features that it computes, in train mode, of the weights before it, every row in its
 * place, also of a batch in parts and with activations computed anew; asking changes nothing. A part's
 * features are those of a step on its clips alone. */
static void features_are_given_out(void **state)
{
    (void)state;
    static float whole[N * DIM], got[N * DIM], eval[N * DIM];
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        struct net *asked = create(enc, NET_HEAD_LINEAR, 1), *silent = create(enc, NET_HEAD_LINEAR, 1);
        struct net_batch b = batch_of(enc);
        struct err e = {0};
        ok(net_features(asked, (enum net_encoder)enc, &b, eval, &e), &e);
        struct net_sgd sgd = plain;
        sgd.features = whole;
        step(asked, enc, &sgd);
        step(silent, enc, &plain);
        assert_int_equal(hash(asked), hash(silent));
        assert_memory_not_equal(whole, eval, sizeof whole);
        sgd.features = got;
        step(silent, enc, &sgd); /* of other weights */
        assert_memory_not_equal(whole, got, sizeof whole);
        net_destroy(asked);
        net_destroy(silent);

        sgd.recompute = true;
        struct net *again = create(enc, NET_HEAD_LINEAR, 1), *parts = create(enc, NET_HEAD_LINEAR, 1);
        step(again, enc, &sgd);
        assert_memory_equal(whole, got, sizeof whole);
        sgd.recompute = false;
        sgd.micro_batch = 4; /* 4 and 2 */
        memset(got, 0, sizeof got);
        step(parts, enc, &sgd);
        net_destroy(again);
        net_destroy(parts);
        for (uint32_t first = 0; first < N; first += 4) {
            static float part[N * DIM];
            struct net *alone = create(enc, NET_HEAD_LINEAR, 1);
            const int64_t *y = labels + first;
            size_t clip = enc == NET_VIDEO ? VIDEO_CLIP : AUDIO_CLIP * sizeof(float);
            struct net_batch rows = {first ? 2 : 4, (const char *)b.data + first * clip};
            struct net_step out;
            sgd.features = part;
            sgd.micro_batch = 0;
            ok(net_train_step(alone, (enum net_encoder)enc, &rows, &y, NULL, &sgd, &out, &e), &e);
            assert_memory_equal(got + (size_t)first * DIM, part, rows.n * DIM * sizeof(float));
            net_destroy(alone);
        }
    }
}

/* With frozen batch-norm they are those of net_features. Without a label nothing is computed or given out. */
static void frozen_features_and_none(void **state)
{
    (void)state;
    static float eval[N * DIM], got[N * DIM];
    static const int64_t none[N] = {-1, -1, -1, -1, -1, -1};
    const int64_t *y = none;
    struct net_step out;
    struct err e = {0};
    struct net *net = create(NET_AUDIO, NET_HEAD_LINEAR, 1);
    struct net_batch b = batch_of(NET_AUDIO);
    struct net_sgd sgd = plain;
    sgd.frozen = true;
    sgd.features = got;
    ok(net_features(net, NET_AUDIO, &b, eval, &e), &e);
    ok(net_train_step(net, NET_AUDIO, &b, &y, NULL, &sgd, &out, &e), &e);
    assert_int_equal(out.labelled[0], 0);
    for (size_t i = 0; i < N * DIM; i++)
        assert_true(got[i] == 0);
    step(net, NET_AUDIO, &sgd);
    assert_memory_equal(got, eval, sizeof got);
    net_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recomputing_changes_nothing), cmocka_unit_test(parts_of_a_batch_add_up),
        cmocka_unit_test(a_frozen_encoder_stays),      cmocka_unit_test(heads_have_their_own_rate),
        cmocka_unit_test(a_gradient_is_clipped),       cmocka_unit_test(norms_decay_when_asked),
        cmocka_unit_test(heads_are_weighed),           cmocka_unit_test(an_mlp_head_learns_and_is_kept),
        cmocka_unit_test(features_are_given_out),      cmocka_unit_test(frozen_features_and_none),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
