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
#include "lib/pair.h"

#ifdef __cplusplus
extern "C" {
#endif

enum net_video { NET_R2PLUS1D, NET_R3D, NET_MC3, NET_S3D };
/* Of R(2+1)D: midplanes per convolution and batch-norm eps 1e-3, or torchvision's (algorithms.md 1.3). The
 * other networks are torchvision's. */
enum net_flavour { NET_XDC, NET_TORCHVISION };
enum net_stem { NET_STEM_TORCHVISION, NET_STEM_VMZ }; /* A and B of algorithms.md 1.6 */
enum net_head { NET_HEAD_LINEAR, NET_HEAD_MLP };      /* MLP: SeLaVi's, algorithms.md 4.4 */
#define NET_HEADS_MAX 16
/* What convolutions compute in: f32, or bfloat16 forward and backward; all else is f32 (on a GPU what lies
 * between two convolutions is bfloat16 too), weights, statistics and losses everywhere. */
enum net_amp { NET_AMP_OFF, NET_AMP_BF16 };
enum net_switch { NET_AUTO, NET_ON, NET_OFF };                        /* auto: on for GPUs alone */
enum net_device { NET_DEVICE_CPU, NET_DEVICE_CUDA, NET_DEVICE_AUTO }; /* auto: CUDA where there is one */

struct net_spec {
    enum net_pair pair;
    enum net_video video;
    enum net_flavour flavour;
    uint32_t video_depth, video_width; /* depth 10, 18 or 34 (S3D has none); width 64: the published ones */
    enum net_stem audio_stem;
    uint32_t audio_depth, audio_width; /* 2-D ResNet of depth 10 (SeLaVi's "ResNet-9"), 18 or 34 */
    uint32_t frames, crop;             /* input [B, T, P, P, 3] */
    uint64_t seed;                     /* initial weights: a function of (seed, encoder) */
    int threads;                       /* intra-op threads; 0: one per core, or OMP_NUM_THREADS */
    enum net_device device;
    uint32_t gpu; /* which of the GPUs, modulo their number */
    enum net_amp amp;
    /* The channels within a factored convolution are computed as the next multiple of 8, with zeros: what
     * tensor cores want. Parameters, files and, but for rounding, results stay. */
    enum net_switch pad_channels;
    enum net_switch self_test; /* net_create ends with net_self_test */
    /* net_features gives the maps of the last stage; training is on pooled features all the same. */
    bool maps;
};

/* A mini-batch of one encoder. By what it sees, video: u8 [n, T, P, P, 3]; audio: f32 [n, 40, 100] log-mel,
 * not yet standardised. */
struct net_batch {
    uint32_t n;
    const void *data;
};

struct net;

int net_create(const struct net_spec *spec, struct net **out, struct err *e) WARN_UNUSED;
/* NULL is fine. */
void net_destroy(struct net *net);

/* Computes every kind of convolution of both encoders, forward and backward on numbers of its own, and
 * compares with sums in f64: some builds of cuDNN and oneDNN have given wrong ones. `tolerance`: the error
 * allowed as a share of the largest number; 0: what the arithmetic explains. XDC_ETORCH names the
 * convolution and what to try. Leaves the net as it is. */
int net_self_test(struct net *net, double tolerance, struct err *e) WARN_UNUSED;

/* What net_features gives of a clip. Pooled: 8 x width; S3D 16 x width. Maps: by the input's size too, 9216
 * at width 64 of 32 x 112 x 112. */
uint32_t net_feature_dim(const struct net *net, enum net_encoder enc);
/* Parameters of an encoder without heads. */
uint64_t net_parameters(const struct net *net, enum net_encoder enc);
/* Floating-point operations (2 per multiply-add) of one clip's forward pass, convolutions alone; a training
 * step takes three times that. Runs a clip of zeros through the encoder. */
int net_flop_per_clip(struct net *net, enum net_encoder enc, double *out, struct err *e) WARN_UNUSED;

/* Mean and deviation with which log-mel is standardised. */
int net_set_audio_stats(struct net *net, double mean, double deviation, struct err *e) WARN_UNUSED;

/* Forward in train mode without gradient, through the heads too if there are any: batch-norm statistics
 * become the cumulative mean over calls index = 0, 1, ... (index 0 forgets what was). algorithms.md 1.8. Over
 * ranks with sync_norm it is collective, and a rank may have no rows. */
int net_warm_batchnorm(struct net *net, enum net_encoder enc, const struct net_batch *b, uint32_t index,
                       struct err *e) WARN_UNUSED;

/* Replaces the heads of an encoder by n fresh ones, head h with classes[h] outputs: weights N(0, 0.01), bias
 * 0, drawn from seeds[h]; the encoder's optimiser starts anew (momentum zero). n <= NET_HEADS_MAX. */
int net_reset_heads(struct net *net, enum net_encoder enc, enum net_head kind, uint32_t n,
                    const uint32_t *classes, const uint64_t *seeds, struct err *e) WARN_UNUSED;

/* The number of an encoder's heads and the classes of each. */
uint32_t net_heads(const struct net *net, enum net_encoder enc, uint32_t classes[NET_HEADS_MAX]);

/* Output j of head `head` becomes what output order[j] was; order[classes] holds each of them once, else
 * -EINVAL and nothing has changed. */
int net_permute_head(struct net *net, enum net_encoder enc, uint32_t head, const uint32_t *order,
                     struct err *e) WARN_UNUSED;
/* The heads of both encoders as a safetensors file: "<encoder>.heads.<h>.<key>" as PyTorch names a Linear, or
 * the MLP as a Sequential (docs/formats.md). */
int net_write_heads(struct net *net, const char *path, struct err *e) WARN_UNUSED;

struct net_sgd {
    double lr, head_lr; /* of the encoder; of its heads, 0: lr */
    double momentum;
    double weight_decay; /* of convolution and linear weights */
    double norm_decay;   /* of batch-norm weights and all biases */
    bool nesterov;
    double clip_norm;          /* 2-norm of all gradients of the encoder and its heads at most; 0: free */
    bool frozen;               /* the encoder stays as it is, batch-norm in eval mode: only heads learn */
    uint32_t micro_batch;      /* clips per forward and backward pass, gradients summed; 0: the whole batch */
    bool recompute;            /* keep no activations inside blocks, compute them again going backward */
    bool graph;                /* on a GPU: steps on batches of equal size are recorded and replayed */
    const float *head_weights; /* [heads] factors of the losses; NULL: all 1 */
    uint64_t seed;             /* of the dropout of this step */
    /* Gets the features that the step computes of the rows, in order: f32 [n, dim], in train mode, of the
     * weights before the step. NULL: not wanted. Untouched where no clip of the batch has a label. */
    float *features;
};

struct net_step {
    double loss[NET_HEADS_MAX];      /* mean over the labelled clips of head h, before the step */
    uint32_t correct[NET_HEADS_MAX]; /* argmax equals label */
    uint32_t labelled[NET_HEADS_MAX];
    double gradient_norm; /* before clipping */
};

/* One SGD step: loss = sum over heads of head_weights[h] sum_i w[h][i] CE(head_h(f_i), y[h][i]) / sum_i
 * w[h][i] over clips with a label. labels: heads pointers to i64 [n], -1 = none; weights: heads pointers to
 * f32 [n], or NULL for all ones. XDC_EUNSTABLE when the loss or a gradient is not finite: no weight has
 * changed, but batch-norm's running statistics may be spoilt: load a checkpoint. */
int net_train_step(struct net *net, enum net_encoder enc, const struct net_batch *b,
                   const int64_t *const *labels, const float *const *weights, const struct net_sgd *sgd,
                   struct net_step *out, struct err *e) WARN_UNUSED;

/* Sums over clips, to be added up over batches. */
struct net_score {
    double loss[NET_HEADS_MAX]; /* cross entropies with the labels of head h, in nats */
    uint64_t labelled[NET_HEADS_MAX], correct[NET_HEADS_MAX];
};

/* Adds what the encoder and its heads make of a batch in eval mode without gradient; labels as in a training
 * step. Nothing of the net changes; on failure *sums neither. Not collective: the sums are of this process's
 * clips. */
int net_evaluate(struct net *net, enum net_encoder enc, const struct net_batch *b,
                 const int64_t *const *labels, struct net_score *sums, struct err *e) WARN_UNUSED;

/* Features in eval mode without gradient: f32 [n, dim]. Pooled: the mean over the last maps (VMZ's audio
 * network: the maximum). With spec.maps these maps, max-pooled by 2 and flattened as [channel, time, height,
 * width] (algorithms.md 2.5). A clip's features do not depend on the others' contents. */
int net_features(struct net *net, enum net_encoder enc, const struct net_batch *b, float *out,
                 struct err *e) WARN_UNUSED;

/* From now on each training step that moves an encoder's weights adds them to an average: average = decay
 * average + (1 - decay) weights, which begins with the weights as they are now (net_init begins it anew). 0:
 * no average. The averages are part of what net_save writes and net_load demands. */
int net_set_ema(struct net *net, double decay, struct err *e) WARN_UNUSED;

/* XXH3 over all parameters and buffers of both encoders (not heads, not optimiser). */
int net_hash(struct net *net, uint64_t *out, struct err *e) WARN_UNUSED;

/* Everything (encoders, heads, momentum, averages, audio stats) to and from one safetensors file;
 * lib/export.h takes an encoder out of it. load restores bit for bit; a file of another architecture is
 * XDC_EMISMATCH, naming the first tensor that does not fit. */
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

/* The weights and batch-norm statistics of an encoder out of an exported safetensors file (torchvision's
 * names); a classifier in it ("fc.weight", "fc.bias", S3D's "classifier.1.*") is left aside. Audio: the
 * file's metadata gives mean and deviation of the log-mel, when it has them. XDC_EMISMATCH lists every
 * tensor that is missing, superfluous or of another shape; nothing has changed then. */
int net_init(struct net *net, enum net_encoder enc, const char *path, struct err *e) WARN_UNUSED;
/* True after a net_init of the encoder in this process: its batch-norm statistics need no warming. For audio
 * *out_stats (may be NULL) tells whether the file gave mean and deviation too. */
bool net_initialised(const struct net *net, enum net_encoder enc, bool *out_stats);
/* An encoder as an exported file, with n pairs {key, value} of metadata; classes > 0 adds a freshly drawn
 * classifier, "fc.*" or S3D's "classifier.1.*". */
int net_write_encoder(struct net *net, enum net_encoder enc, uint32_t classes,
                      const char *const (*metadata)[2], size_t n, const char *path,
                      struct err *e) WARN_UNUSED;

/* Ranks: several processes that train equal nets together, each on its rows of every batch. */
struct net_ranks {
    uint32_t rank, world;
    const char *address; /* host of rank 0 */
    uint16_t port;
    double timeout_s; /* of the meeting and of every exchange */
    bool sync_norm;   /* batch-norm statistics over all ranks' rows */
    /* While ranks are waited for: often with "" and now and then with who is missing; false: give up. */
    bool (*on_waiting)(void *arg, const char *who);
    /* Once, from a thread of its own: a rank has gone or was started again. What this process waits for may
     * never come. */
    void (*on_lost)(void *arg, uint32_t rank);
    void *arg;
};
/* Meets the other ranks; from then on the calls marked so, and net_train_step, are collective: every rank
 * makes them in the same order. A step is made by all with their rows (which may be none: n 0), gradients are
 * summed, weights are divided by those of all ranks, the figures are those of all rows; without sync_norm the
 * running statistics become the mean over ranks after every step, so that ranks stay equal: they
 * must begin so, see net_hash. XDC_ELOST when a rank does not come; XDC_ESTOPPED when on_waiting gave up;
 * later XDC_ETORCH when a rank is lost in the middle of a call: net_lost_rank says which. */
int net_join(struct net *net, const struct net_ranks *ranks, struct err *e) WARN_UNUSED;
/* `size` bytes of every rank, in the order of the ranks: out [world, size]. Collective; alone it copies. */
int net_gather(struct net *net, const void *mine, size_t size, void *out, struct err *e) WARN_UNUSED;
/* Batch-norm's running statistics become the mean over ranks: after a warming without sync_norm. Collective;
 * alone it does nothing. */
int net_average_statistics(struct net *net, struct err *e) WARN_UNUSED;
/* The rank that has gone, waiting for up to wait_s until that is known; -1: none. */
int net_lost_rank(const struct net *net, double wait_s);
/* Parts from the other ranks, which may then end. Collective; alone it does nothing. */
int net_leave(struct net *net, struct err *e) WARN_UNUSED;

/* GPUs that this libtorch finds. */
uint32_t net_gpus(void);
/* Bytes that are free on one of them. 0 where that is not known. */
double net_gpu_free(uint32_t gpu);
/* libtorch's version, "1.13.1". */
const char *net_torch_version(void);

#ifdef __cplusplus
}
#endif
