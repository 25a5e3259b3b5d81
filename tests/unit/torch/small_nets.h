/* Small nets with two heads on each encoder, clips to train them on and a directory for their files, for the
 * tests of evaluate and ema. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/fsutil.h"
#include "lib/rng.h"
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

static inline int setup(void **state)
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

static inline int teardown(void **state)
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

static inline struct net_batch rows(int enc, uint32_t from, uint32_t n)
{
    return (struct net_batch){n, enc == NET_VIDEO ? (const void *)(video + (size_t)from * VIDEO_CLIP)
                                                  : (const void *)(audio + (size_t)from * AUDIO_CLIP)};
}

/* With two heads of 3 and 4 classes on each encoder. */
static inline struct net *make_net(enum net_head kind, double decay)
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

static inline void train(struct net *net, int steps, const struct net_sgd *o,
                         struct net_step out[NET_ENCODERS])
{
    struct err e = {0};
    for (int i = 0; i < steps; i++)
        for (int enc = 0; enc < NET_ENCODERS; enc++) {
            struct net_batch b = rows(enc, 0, N);
            if (net_train_step(net, (enum net_encoder)enc, &b, labels, NULL, o, &out[enc], &e) < 0)
                fail_msg("%s", e.msg);
        }
}

static inline char *saved(struct net *net, const char *name, size_t *size)
{
    struct err e = {0};
    char *data = NULL;
    if (net_save(net, at(name), &e) < 0 || fs_read(at(name), 1 << 26, &data, size, &e) < 0)
        fail_msg("%s", e.msg);
    return data;
}
