/* conf: one YAML file for all daemons, read as a document against one schema table (conf_schema.c).
 * Used by every main. Blocking; one thread; struct conf owns nothing. All faults of a file and of the --set
 * options are reported at once, each with file:line:column, the range, and the nearest key for an unknown
 * one. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "lib/clip.h"
#include "lib/err.h"
#include "lib/pair.h"

#define CONF_STRING_MAX 512
#define CONF_RANKS_MAX 64

enum conf_method {
    METHOD_SDC,
    METHOD_MDC,
    METHOD_CDC,
    METHOD_XDC,
    METHOD_SUPERVISED,
    METHOD_SAME_MODALITY,
    METHOD_SELAVI
};
enum conf_modality { MODALITY_VIDEO, MODALITY_AUDIO };
enum conf_marginals { MARGINALS_GAUSSIAN, MARGINALS_UNIFORM, MARGINALS_ZIPF };
enum conf_normalize { NORMALIZE_NONE, NORMALIZE_L2, NORMALIZE_PCA_WHITEN_L2 };
enum conf_scale { SCALE_NONE, SCALE_L2, SCALE_VARIANCE };
enum conf_balance { BALANCE_AUTO, BALANCE_OFF, BALANCE_WEIGHT, BALANCE_RESAMPLE };
enum conf_split { SPLIT_AUTO, SPLIT_TRAIN, SPLIT_VAL, SPLIT_TEST, SPLIT_ALL }; /* but auto: a manifest's */
enum conf_encoders { ENCODERS_BOTH, ENCODERS_VIDEO, ENCODERS_AUDIO };
enum conf_no_audio { NO_AUDIO_DROP, NO_AUDIO_KEEP };
enum conf_heads { HEADS_FRESH, HEADS_KEEP, HEADS_AUTO };
enum conf_update { UPDATE_ALL, UPDATE_FC };
enum conf_schedule { SCHEDULE_COSINE, SCHEDULE_STEP };
enum conf_features { FEATURES_POOLED, FEATURES_MAPS };
enum conf_dtype { CONF_DTYPE_F32, CONF_DTYPE_F16, CONF_DTYPE_BF16 };

/* Every value of the file; the schema table gives key, range, default, unit and meaning. Choices are the
 * enums above. */
struct conf {
    struct {
        char dir[CONF_STRING_MAX];
        int64_t seed, decoders, ranks, port, clusterer;
        char address[CONF_STRING_MAX];
        double rank_timeout_s;
    } run;
    struct {
        char manifest[CONF_STRING_MAX];
        char media_root[CONF_STRING_MAX];
        int64_t clips_per_video, short_clip, no_audio; /* short_clip: enum media_short */
        int64_t split, clip_times;                     /* enum conf_split, clip_placing */
        double min_sound_s, window_s, stride_s;
        struct {
            int64_t n, seed;
        } subset;
    } data;
    int64_t method;
    struct {
        int64_t modality; /* enum conf_modality */
    } same;
    struct {
        char labels[CONF_STRING_MAX], features[CONF_STRING_MAX];
    } init;
    struct {
        char from[CONF_STRING_MAX];
    } labels;
    struct {
        int64_t heads, groups, iterations, marginals, align, compat; /* marginals: enum conf_marginals */
        double lambda, tolerance, marginal_sd, zipf_exponent, relabel_power;
    } selavi;
    struct {
        int64_t frames, resize, crop, degrade, scaling; /* enum media_scaling */
        double fps;
    } video;
    struct {
        int64_t frontend; /* enum media_frontend */
    } audio;
    struct {
        double flip, audio_shift_s;
        int64_t resize_max, crop_jitter_px, time_mask_frames;
    } augment;
    struct {
        int64_t encoders;                   /* enum conf_encoders */
        int64_t video, flavour, audio_stem; /* enum net_video, net_flavour, net_stem */
        int64_t video_depth, video_width, audio_depth, audio_width;
        char init_video[CONF_STRING_MAX], init_audio[CONF_STRING_MAX];
    } net;
    struct {
        int64_t kind, between_rounds; /* enum net_head or 2: auto, enum conf_heads */
    } heads;
    struct {
        int64_t k, restarts, iterations, init, normalize, pca_dim, scale, threads; /* init: kmeans_start */
        int64_t memory_mib, device; /* device: enum net_device */
        double tolerance, interval_s, checkpoint_s;
        char dir[CONF_STRING_MAX];
    } cluster;
    struct {
        int64_t rounds, epochs, batch, balance, threads, nesterov, keep, keep_every, tensorboard, sync_norm;
        int64_t epoch_clips, last_round_epochs, micro_batch, recompute, recalibrate, update, schedule;
        int64_t holdout_min_clips, early_stop_epochs, probe, harvest;
        double holdout, early_stop, ema;
        int64_t amp, pad_channels, self_test; /* enum net_amp, net_switch, net_switch */
        int64_t device;                       /* enum net_device */
        int64_t cuda_graphs;
        double lr, momentum, weight_decay, lr_final, checkpoint_s;
        double head_lr, norm_decay, clip_norm, warmup_epochs, warmup_start, step_epochs, step_factor;
    } train;
    struct {
        int64_t clips, batches;
    } stats;
    struct {
        int64_t dtype, kind, keep_rounds; /* kind: enum conf_features */
    } features;
    struct {
        int64_t workers, cpu_s, memory_mib, attempts, recycle, require_sandbox, cache_mib;
        double hedge;
    } decoder;
    struct {
        char clips[CONF_STRING_MAX], features[CONF_STRING_MAX], labels[CONF_STRING_MAX];
    } endpoints;
    struct {
        double max_bad_share;
        int64_t disk_reserve_mib, max_rollbacks;
    } limits;
};

enum conf_type { CONF_INT, CONF_REAL, CONF_BOOL, CONF_STRING, CONF_CHOICE };

enum conf_flags {
    CONF_REQUIRED = 1,
    CONF_IDENTITY = 2, /* part of the run's identity: may not change when a run is continued */
    CONF_PATH = 4,     /* a relative path counts from the configuration file's directory */
};

struct conf_key {
    const char *key; /* dotted: "train.lr" */
    enum conf_type type;
    size_t offset; /* in struct conf; int64_t, double or char[CONF_STRING_MAX]; bool and choice are int64_t */
    double min, max; /* for int and real */
    const char *def; /* as it would be written; of a required key only an example */
    const char *unit;
    const char *choices; /* "sdc|mdc|...", index = value */
    unsigned flags;
    const char *help;
};

extern const struct conf_key conf_schema[];
extern const size_t conf_schema_len;

/* Length of the first of the choices: up to a |, of several in a row the last ("kmeans|||random"). */
size_t conf_choice_length(const char *choices);

/* One fault a call: `where` is "xdc.yaml:12:3" or "--set train.lr=x". */
typedef void (*conf_on_fault)(void *arg, const char *where, const char *what);

/* Fills *out with defaults, the file (NULL or "": none) and `sets` ("key=value", later ones win). Calls
 * on_fault for every fault. 0, or XDC_ECONF with the number of faults in the sentence. Relative CONF_PATH
 * values become absolute (file's directory; --set: the working directory). */
int conf_load(const char *path, const char *const *sets, size_t n_sets, conf_on_fault on_fault, void *arg,
              struct conf *out, struct err *e) WARN_UNUSED;

/* The key of that name, or NULL. */
const struct conf_key *conf_find(const char *key);

/* The value of a key as it would be written in the file. `key` must be in the schema. */
void conf_print_value(const struct conf *c, const struct conf_key *key, char *out, size_t size);

/* The schema as a commented YAML file: what --help-config prints. */
void conf_print_schema(FILE *f);

/* The encoders of the configured method. */
static inline enum net_pair conf_pair(const struct conf *c)
{
    if (c->method != METHOD_SAME_MODALITY)
        return NET_PAIR_BOTH;
    return c->same.modality == MODALITY_VIDEO ? NET_PAIR_VIDEO : NET_PAIR_AUDIO;
}

/* train.balance, with what auto stands for. */
static inline enum conf_balance conf_balance(const struct conf *c)
{
    if (c->train.balance != BALANCE_AUTO)
        return (enum conf_balance)c->train.balance;
    return c->method == METHOD_SDC ? BALANCE_RESAMPLE : BALANCE_OFF;
}

/* When the run's clips start. */
static inline struct clip_times conf_clip_times(const struct conf *c)
{
    return (struct clip_times){.placing = (enum clip_placing)c->data.clip_times,
                               .seed = (uint64_t)c->run.seed,
                               .clips_per_video = (uint32_t)c->data.clips_per_video,
                               .window_s = c->data.window_s,
                               .stride_s = c->data.stride_s};
}

/* Seconds that a clip takes of a video of so many frames/s (0: unknown). */
static inline double conf_clip_span_s(const struct conf *c, double fps)
{
    return (double)c->video.frames / (c->video.fps > 0 ? c->video.fps : fps > 0 ? fps : 30.0);
}

/* True for a key that may not change when the run is continued. */
bool conf_is_identity(const struct conf *c, const struct conf_key *key);

/* Identity of the run: XXH3 over all identity keys with their values and the manifest's identity. */
uint64_t conf_identity(const struct conf *c, uint64_t manifest_identity);
