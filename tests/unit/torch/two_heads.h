/* two_heads: small networks with two heads on each encoder, for the tests of evaluate and ema. As clips.h,
 * which it includes. */
#pragma once
#include "lib/fsutil.h"

enum { CROP = 16, N = 6, THREADS = 1 };

#include "tests/unit/torch/clips.h"

static const struct net_sgd sgd = {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true};
static const int64_t first[N] = {0, 2, -1, 1, 2, 2}, second[N] = {-1, 3, 1, -1, 0, 2};
static const int64_t *const labels[2] = {first, second};

/* Heads of 3 and 4 classes. */
static inline struct net *make_net(enum net_head kind, double decay)
{
    static const uint32_t classes[2] = {3, 4};
    static const uint64_t seeds[2] = {8, 9};
    struct net *net = NULL;
    struct err e = {0};
    ok(net_create(&small, &net, &e), &e);
    ok(net_set_ema(net, decay, &e), &e);
    for (int enc = 0; enc < NET_ENCODERS; enc++)
        ok(net_reset_heads(net, (enum net_encoder)enc, kind, 2, classes, seeds, &e), &e);
    return net;
}

static inline void train(struct net *net, int steps, const struct net_sgd *o,
                         struct net_step out[NET_ENCODERS])
{
    struct err e = {0};
    for (int i = 0; i < steps; i++)
        for (int enc = 0; enc < NET_ENCODERS; enc++) {
            struct net_batch b = batch_of(enc);
            ok(net_train_step(net, (enum net_encoder)enc, &b, labels, NULL, o, &out[enc], &e), &e);
        }
}

/* The bytes of the file that the net would be saved as; the caller frees. */
static inline char *file_of(struct net *net, size_t *size)
{
    struct err e = {0};
    char *data = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/file", dir);
    ok(net_save(net, path, &e), &e);
    ok(fs_read(path, 1 << 26, &data, size, &e), &e);
    unlink(path);
    return data;
}
