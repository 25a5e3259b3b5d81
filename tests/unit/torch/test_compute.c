/* compute: bfloat16, padded channels and the self-test change how convolutions are computed, and nothing
 * else. */
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

/* The networks have 5, 18, 27 and more channels within their factored convolutions, none of them a multiple
 * of 8. */
enum { CROP = 32, N = 6, THREADS = 1, STEPS = 20 };

#include "tests/unit/torch/clips.h"

static const struct net_sgd sgd = {.lr = 0.01, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true};

static const int64_t labels[N] = {0, 1, 2, -1, 1, 2};
static struct net *create(const struct net_spec *spec)
{
    const uint32_t classes[] = {3};
    const uint64_t seeds[] = {100};
    struct net *net = NULL;
    struct err e = {0};
    ok(net_create(spec, &net, &e), &e);
    for (int enc = 0; enc < NET_ENCODERS; enc++)
        ok(net_reset_heads(net, (enum net_encoder)enc, NET_HEAD_LINEAR, 1, classes, seeds, &e), &e);
    return net;
}

static double step(struct net *net, int enc, bool recompute)
{
    const int64_t *y[] = {labels};
    struct net_batch b = batch_of(enc);
    struct net_sgd o = sgd;
    struct net_step out = {0};
    struct err e = {0};
    o.recompute = recompute;
    ok(net_train_step(net, (enum net_encoder)enc, &b, y, NULL, &o, &out, &e), &e);
    assert_true(isfinite(out.gradient_norm));
    return out.loss[0];
}

/* Of two lists of numbers: the largest difference as a share of the largest number. */
static double apart(const float *a, const float *b, uint64_t n)
{
    double most = 0, largest = 1e-30;
    for (uint64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return most / largest;
}

/* Of two nets: the tensor that differs most, all f32: weights, momentum and batch-norm statistics. */
static double distance(struct net *a, struct net *b)
{
    double worst = 0;
    struct safetensors *x = saved(a), *y = saved(b);
    assert_int_equal(safetensors_count(x), safetensors_count(y));
    for (size_t i = 0; i < safetensors_count(x); i++) {
        const struct tensor *p = safetensors_at(x, i), *q = safetensors_find(y, p->name);
        assert_non_null(q);
        assert_int_equal(p->dtype, q->dtype);
        assert_int_equal(tensor_count(p), tensor_count(q));
        if (p->dtype == TENSOR_F32)
            worst = fmax(worst, apart(p->data, q->data, tensor_count(p)));
    }
    safetensors_close(x);
    safetensors_close(y);
    return worst;
}

static float *features(struct net *net, int enc, uint64_t *out_n)
{
    struct net_batch b = batch_of(enc);
    struct err e = {0};
    *out_n = (uint64_t)N * net_feature_dim(net, (enum net_encoder)enc);
    float *f = malloc(*out_n * sizeof *f);
    assert_non_null(f);
    ok(net_features(net, (enum net_encoder)enc, &b, f, &e), &e);
    return f;
}

static double features_apart(struct net *a, struct net *b, int enc)
{
    uint64_t n;
    float *x = features(a, enc, &n), *y = features(b, enc, &n);
    double d = apart(x, y, n);
    free(x);
    free(y);
    return d;
}

/* In bfloat16 the features lie within 2 % of the largest of them, the losses of 20 steps within 5 % of the
 * first one of f32's; something differs, two runs have the same bits, and recomputing changes none of them.
 */
static void bf16_trains_as_f32_does(void **state)
{
    (void)state;
    struct net_spec half = small;
    half.amp = NET_AMP_BF16;
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        struct net *full = create(&small), *a = create(&half), *b = create(&half);
        assert_int_equal(hash(full), hash(a)); /* the same weights to begin with */
        double far = features_apart(a, full, enc), worst = 0, first = 0, last = 0;
        for (int i = 0; i < STEPS; i++) {
            double want = step(full, enc, false);
            last = step(a, enc, false);
            assert_true(step(b, enc, true) == last);
            first = i == 0 ? want : first;
            worst = fmax(worst, fabs(last - want) / first);
        }
        printf("features %.2g apart, losses %.2g, the last %.3g\n", far, worst, last);
        assert_true(far > 0 && far < 0.02);
        assert_true(worst > 0 && worst < 0.05);
        assert_true(last < 0.7);
        assert_int_equal(hash(a), hash(b));
        assert_true(distance(a, b) == 0);
        net_destroy(full);
        net_destroy(a);
        net_destroy(b);
    }
}

/* A checkpoint of a net that computes in bfloat16 is f32 throughout: it continues one that does not. */
static void a_checkpoint_of_bf16_is_f32(void **state)
{
    (void)state;
    struct net_spec half = small;
    half.amp = NET_AMP_BF16;
    half.pad_channels = NET_ON;
    struct net *a = create(&half), *b = create(&small);
    const char *path = at("half.safetensors");
    struct err e = {0};
    step(a, NET_VIDEO, false);
    assert_true(distance(a, b) > 0); /* which compares types and shapes too */
    ok(net_save(a, path, &e), &e);
    ok(net_load(b, path, &e), &e);
    unlink(path);
    assert_true(distance(a, b) == 0);
    net_destroy(a);
    net_destroy(b);
}

/* Channels padded with zeros change features, and after a step weights, momentum (which holds the gradients)
 * and batch-norm statistics by rounding alone. */
static void padding_changes_nothing(void **state)
{
    (void)state;
    static const enum net_video kinds[] = {NET_R2PLUS1D, NET_S3D};
    for (size_t i = 0; i < 2; i++)
        for (int recompute = 0; recompute < 2; recompute++) {
            struct net_spec thin = small, wide = small;
            thin.video = wide.video = kinds[i];
            thin.flavour = wide.flavour = kinds[i] == NET_R2PLUS1D ? NET_XDC : NET_TORCHVISION;
            wide.pad_channels = NET_ON;
            struct net *a = create(&thin), *b = create(&wide);
            double flop[2] = {0, 0};
            struct err e = {0};
            ok(net_flop_per_clip(a, NET_VIDEO, &flop[0], &e), &e);
            ok(net_flop_per_clip(b, NET_VIDEO, &flop[1], &e), &e);
            assert_true(flop[0] == flop[1]); /* zeros are no work done */
            double before = features_apart(b, a, NET_VIDEO);
            double x = step(a, NET_VIDEO, false), y = step(b, NET_VIDEO, recompute != 0);
            double after = distance(b, a);
            printf("network %d: features %.2g apart, tensors after a step %.2g\n", kinds[i], before, after);
            assert_true(before < 1e-5 && fabs(x - y) < 1e-5 && after < 1e-5);
            net_destroy(a);
            net_destroy(b);
        }
}

/* Padding and bfloat16 are no part of an encoder's file. */
static void exports_are_the_same(void **state)
{
    (void)state;
    struct net_spec other = small;
    other.pad_channels = NET_ON;
    other.amp = NET_AMP_BF16;
    const struct net_spec *specs[] = {&small, &other};
    const char *path = at("encoder.safetensors");
    char *bytes[2];
    size_t size[2];
    struct err e = {0};
    for (int i = 0; i < 2; i++) {
        struct net *net = create(specs[i]);
        ok(net_write_encoder(net, NET_VIDEO, 0, NULL, 0, path, &e), &e);
        ok(fs_read(path, 1 << 26, &bytes[i], &size[i], &e), &e);
        unlink(path);
        net_destroy(net);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    free(bytes[0]);
    free(bytes[1]);
}

/* The convolutions of every network are right, in f32 and bfloat16, padded or not, and testing leaves the net
 * as it was. */
static void convolutions_are_right(void **state)
{
    (void)state;
    for (int video_net = NET_R2PLUS1D; video_net <= NET_S3D; video_net++)
        for (int how = 0; how < 4; how += video_net == NET_R2PLUS1D ? 1 : 3) {
            struct net_spec spec = small;
            spec.video = (enum net_video)video_net;
            spec.flavour = video_net == NET_R2PLUS1D ? NET_XDC : NET_TORCHVISION;
            spec.audio_stem = video_net % 2 ? NET_STEM_VMZ : NET_STEM_TORCHVISION;
            spec.amp = how & 1 ? NET_AMP_BF16 : NET_AMP_OFF;
            spec.pad_channels = how & 2 ? NET_ON : NET_OFF;
            struct net *net = create(&spec);
            struct err e = {0};
            uint64_t before = hash(net);
            ok(net_self_test(net, 0, &e), &e);
            assert_int_equal(hash(net), before);
            net_destroy(net);
        }
}

/* A convolution that errs by more than is allowed is named, with what to try. A net may be asked to test
 * itself where it is made. */
static void a_wrong_convolution_is_named(void **state)
{
    (void)state;
    static const char *const said[] = {"convolution [5, 3, 1, 7, 7] of stride 1, 2, padded to [8, 3]",
                                       "train.amp: off", "another libtorch", "is off by"};
    struct net_spec spec = small;
    spec.pad_channels = spec.self_test = NET_ON;
    struct net *net = create(&spec);
    struct err e = {0};
    assert_int_equal(net_self_test(net, 1e-12, &e), XDC_ETORCH);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (!strstr(e.msg, said[i]))
            fail_msg("\"%s\" is not in: %s", said[i], e.msg);
    net_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_trains_as_f32_does), cmocka_unit_test(a_checkpoint_of_bf16_is_f32),
        cmocka_unit_test(padding_changes_nothing), cmocka_unit_test(exports_are_the_same),
        cmocka_unit_test(convolutions_are_right),  cmocka_unit_test(a_wrong_convolution_is_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
