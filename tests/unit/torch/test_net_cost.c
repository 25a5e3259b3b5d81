/* net_cost: networks are counted without libtorch exactly as lib/torch has them. */
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

#include "lib/net_cost.h"
#include "lib/tensor.h"

static const uint32_t depths[] = {10, 18, 34};

static void compare(struct net *net, const struct net_spec *s, enum net_encoder enc)
{
    struct net_cost n;
    struct err e;
    double flop;
    assert_int_equal(net_flop_per_clip(net, enc, &flop, &e), 0);
    net_cost(s, enc, &n);
    if (n.parameters != (double)net_parameters(net, enc) || 2 * n.multiply_adds != flop ||
        n.dim != net_feature_dim(net, enc))
        fail_msg("video %d flavour %d depth %u width %u, stem %d depth %u width %u, %u x %u, encoder %d: "
                 "%.0f parameters for %llu, %.0f operations for %.0f, %.0f features for %u",
                 s->video, s->flavour, s->video_depth, s->video_width, s->audio_stem, s->audio_depth,
                 s->audio_width, s->frames, s->crop, enc, n.parameters,
                 (unsigned long long)net_parameters(net, enc), 2 * n.multiply_adds, flop, n.dim,
                 net_feature_dim(net, enc));
    assert_true(n.largest <= n.block + n.between && n.largest < n.elements);
    assert_true(n.recomputed < n.multiply_adds);
    assert_int_equal(n.recomputed > 0, net_modality(s->pair, enc) == NET_AUDIO || s->video != NET_S3D);
}

static void compare_both(const struct net_spec *s)
{
    struct net *net;
    struct err e;
    assert_int_equal(net_create(s, &net, &e), 0);
    compare(net, s, NET_VIDEO);
    compare(net, s, NET_AUDIO);
    net_destroy(net);
}

/* Parameters, operations and features of every video network, depth and flavour, at odd widths, frames and
 * crops, beside every audio stem, depth and several widths. */
static void every_network_is_counted(void **state)
{
    (void)state;
    static const uint32_t widths[] = {4, 5, 7, 9, 16}, crops[] = {16, 33, 40, 47},
                          frames[] = {1, 4, 5, 9, 17};
    unsigned i = 0;
    for (int video = NET_R2PLUS1D; video <= NET_S3D; video++)
        for (int flavour = NET_XDC; flavour <= NET_TORCHVISION; flavour++)
            for (unsigned depth = 0; depth < 3; depth++)
                for (unsigned stem = 0; stem < 2; stem++, i++) {
                    struct net_spec s = {.video = (enum net_video)video,
                                         .flavour = (enum net_flavour)flavour,
                                         .video_depth = depths[depth],
                                         .video_width = widths[i % 5],
                                         .audio_stem = (enum net_stem)stem,
                                         .audio_depth = depths[(depth + i / 6) % 3],
                                         .audio_width = widths[(i + 1 + i / 5) % 5],
                                         .frames = frames[i % 5],
                                         .crop = video == NET_S3D ? 32 + crops[i % 4] : crops[i % 4],
                                         .seed = 1,
                                         .threads = 1};
                    compare_both(&s);
                    s.maps = true;
                    compare_both(&s);
                }
}

/* Two encoders of one kind are counted as what they see. */
static void pairs_are_counted(void **state)
{
    (void)state;
    for (int pair = NET_PAIR_VIDEO; pair <= NET_PAIR_AUDIO; pair++) {
        struct net_spec s = {.pair = (enum net_pair)pair,
                             .video_depth = 18,
                             .video_width = 6,
                             .audio_depth = 18,
                             .audio_width = 6,
                             .frames = 3,
                             .crop = 24,
                             .threads = 1};
        compare_both(&s);
    }
}

/* algorithms.md 1.3 and 1.6: parameters, GMAC and outputs of the published networks. */
static void published_networks(void **state)
{
    (void)state;
    static const struct {
        enum net_flavour flavour;
        uint32_t frames, crop;
        double parameters, gmac;
    } rows[] = {{NET_XDC, 8, 112, 33165639, 20.75},          {NET_XDC, 16, 112, 33165639, 41.50},
                {NET_XDC, 8, 224, 33165639, 82.99},          {NET_XDC, 32, 112, 33165639, 82.99},
                {NET_XDC, 32, 224, 33165639, 331.97},        {NET_TORCHVISION, 8, 112, 31300125, 20.26},
                {NET_TORCHVISION, 16, 112, 31300125, 40.52}, {NET_TORCHVISION, 8, 224, 31300125, 81.04}};
    struct net_spec s = {.video_depth = 18, .video_width = 64, .audio_depth = 18, .audio_width = 64};
    struct net_cost n;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        s.flavour = rows[i].flavour;
        s.frames = rows[i].frames;
        s.crop = rows[i].crop;
        net_cost(&s, NET_VIDEO, &n);
        assert_true(n.parameters == rows[i].parameters);
        assert_true(round(n.multiply_adds / 1e7) == round(rows[i].gmac * 100));
        if (s.flavour == NET_XDC && s.frames == 8)
            assert_true(fabs(n.elements / (s.crop == 112 ? 31.7e6 : 126.8e6) - 1) < 0.005);
    }
    net_cost(&s, NET_AUDIO, &n);
    assert_true(n.parameters == 11170240 && round(n.multiply_adds / 1e6) == 185);
    s.audio_stem = NET_STEM_VMZ;
    net_cost(&s, NET_AUDIO, &n);
    assert_true(n.parameters == 11202528 && round(n.multiply_adds / 1e6) == 230);
}

/* What a saved net has: all its numbers are the parameters of encoders and heads, each with its momentum, and
 * the statistics. Counters, which are whole numbers, are left out. */
static void files_have_what_is_counted(void **state)
{
    (void)state;
    char path[] = "/tmp/xdc-test-net-cost-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (int kind = NET_HEAD_LINEAR; kind <= NET_HEAD_MLP; kind++) {
        struct net_spec s = {.audio_stem = NET_STEM_VMZ,
                             .video_depth = 10,
                             .video_width = 5,
                             .audio_depth = 10,
                             .audio_width = 6,
                             .frames = 2,
                             .crop = 16,
                             .threads = 1};
        const uint32_t classes[] = {3, 7};
        const uint64_t seeds[] = {1, 2};
        struct net *net;
        struct err e;
        struct safetensors *file;
        double counted = 0, found = 0;
        assert_int_equal(net_create(&s, &net, &e), 0);
        for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
            struct net_cost n, head;
            assert_int_equal(
                net_reset_heads(net, (enum net_encoder)enc, (enum net_head)kind, 2, classes, seeds, &e), 0);
            net_cost(&s, (enum net_encoder)enc, &n);
            counted += 2 * n.parameters + n.statistics;
            for (unsigned h = 0; h < 2; h++) {
                net_cost_head(kind == NET_HEAD_MLP, n.dim, classes[h], &head);
                counted += 2 * head.parameters + head.statistics;
            }
        }
        assert_int_equal(net_save(net, path, &e), 0);
        assert_int_equal(safetensors_open(path, &file, &e), 0);
        for (size_t i = 0; i < safetensors_count(file); i++) {
            const struct tensor *t = safetensors_at(file, i);
            found += t->dtype == TENSOR_F32 ? (double)tensor_count(t) : 0;
        }
        safetensors_close(file);
        net_destroy(net);
        if (found != counted)
            fail_msg("heads of kind %d: %.0f numbers, %.0f are counted", kind, found, counted);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_network_is_counted),
        cmocka_unit_test(pairs_are_counted),
        cmocka_unit_test(published_networks),
        cmocka_unit_test(files_have_what_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
