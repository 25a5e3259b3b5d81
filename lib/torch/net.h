/* net: the two encoders with their heads and optimisers, as C. The only way to libtorch.
 * Used by the trainer and export. One thread at a time per net. Owns all tensors. Every call returns 0 or a
 * negative code; a C++ exception becomes XDC_ETORCH with its sentence. After a failed train step the weights
 * are as they were before the optimiser's step. Given the labels nothing couples the encoders: each has its
 * own weights, heads and optimiser. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum net_encoder { NET_VIDEO = 0, NET_AUDIO = 1, NET_ENCODERS = 2 };
#define NET_HEADS_MAX 16

struct net_spec {
    uint32_t video_depth,
        video_width; /* R(2+1)D: depth 10 or 18; width 64 = the published xdc flavour (algorithms.md 1.3) */
    uint32_t audio_depth, audio_width; /* 2-D ResNet, stem A (algorithms.md 1.6) */
    uint32_t frames, crop;             /* input [B, T, P, P, 3] */
    uint64_t seed;                     /* initial weights: a function of (seed, encoder) */
    int threads;                       /* intra-op threads; 0: one per CPU */
};

/* A mini-batch of one encoder. video: u8 [n, T, P, P, 3]; audio: f32 [n, 40, 100] log-mel, not yet
 * standardised. */
struct net_batch {
    uint32_t n;
    const void *data;
};

struct net;

int net_create(const struct net_spec *spec, struct net **out, struct err *e) WARN_UNUSED;
/* NULL is fine. */
void net_destroy(struct net *net);

/* Features per clip: 8 x width. */
uint32_t net_feature_dim(const struct net *net, enum net_encoder enc);

/* Mean and deviation with which log-mel is standardised. */
int net_set_audio_stats(struct net *net, double mean, double deviation, struct err *e) WARN_UNUSED;

/* Forward in train mode without gradient: batch-norm statistics become the cumulative mean over calls index =
 * 0, 1, ... (index 0 forgets what was). algorithms.md 1.8. */
int net_warm_batchnorm(struct net *net, enum net_encoder enc, const struct net_batch *b, uint32_t index,
                       struct err *e) WARN_UNUSED;

/* Replaces the heads of an encoder by n fresh linear ones, head h with classes[h] outputs: weights N(0,
 * 0.01), bias 0, drawn from seeds[h]; the encoder's optimiser starts anew (momentum zero). n <=
 * NET_HEADS_MAX. */
int net_reset_heads(struct net *net, enum net_encoder enc, uint32_t n, const uint32_t *classes,
                    const uint64_t *seeds, struct err *e) WARN_UNUSED;

struct net_sgd {
    double lr, momentum, weight_decay; /* decay on conv and fc weights only */
    bool nesterov;
};

struct net_step {
    double loss[NET_HEADS_MAX];      /* mean over the labelled clips of head h, before the step */
    uint32_t correct[NET_HEADS_MAX]; /* argmax equals label */
    uint32_t labelled[NET_HEADS_MAX];
};

/* One SGD step: loss = sum over heads of sum_i w[h][i] CE(head_h(f_i), y[h][i]) / sum_i w[h][i] over clips
 * with a label. labels: heads pointers to i64 [n], -1 = none; weights: heads pointers to f32 [n], or NULL for
 * all ones. */
int net_train_step(struct net *net, enum net_encoder enc, const struct net_batch *b,
                   const int64_t *const *labels, const float *const *weights, const struct net_sgd *sgd,
                   struct net_step *out, struct err *e) WARN_UNUSED;

/* Pooled features in eval mode without gradient: f32 [n, dim]. A clip's features do not depend on the others'
 * contents. */
int net_features(struct net *net, enum net_encoder enc, const struct net_batch *b, float *out,
                 struct err *e) WARN_UNUSED;

/* XXH3 over all parameters and buffers of both encoders (not heads, not optimiser). */
int net_hash(struct net *net, uint64_t *out, struct err *e) WARN_UNUSED;

/* Everything (encoders, heads, momentum, audio stats) to and from one safetensors file; lib/export.h takes an
 * encoder out of it. load restores bit for bit; a file of another architecture is XDC_EMISMATCH, naming the
 * first tensor that does not fit. */
int net_save(struct net *net, const char *path, struct err *e) WARN_UNUSED;
int net_load(struct net *net, const char *path, struct err *e) WARN_UNUSED;

/* A copy in host memory of all that net_save writes, so that the net can go on while it is written. Once
 * made, any one thread may use it, beside the net's. */
struct net_snapshot;
int net_snapshot_create(struct net *net, struct net_snapshot **out, struct err *e) WARN_UNUSED;
/* The file that net_save would have written at that moment. */
int net_snapshot_write(const struct net_snapshot *s, const char *path, struct err *e) WARN_UNUSED;
/* Compares the file with the copy, byte for byte: XDC_EFORMAT names the first tensor that differs. */
int net_snapshot_compare(const struct net_snapshot *s, const char *path, struct err *e) WARN_UNUSED;
/* NULL is fine. */
void net_snapshot_destroy(struct net_snapshot *s);

/* libtorch's version, "1.13.1". */
const char *net_torch_version(void);

#ifdef __cplusplus
}
#endif
