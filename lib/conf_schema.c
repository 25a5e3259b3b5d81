#include "lib/conf.h"

#define AT(f) offsetof(struct conf, f)
#define INT(k, f, lo, hi, d, u, fl, h)                \
    {                                                 \
        k, CONF_INT, AT(f), lo, hi, d, u, NULL, fl, h \
    }
#define REAL(k, f, lo, hi, d, u, fl, h)                \
    {                                                  \
        k, CONF_REAL, AT(f), lo, hi, d, u, NULL, fl, h \
    }
#define BOOL(k, f, d, fl, h)                            \
    {                                                   \
        k, CONF_BOOL, AT(f), 0, 1, d, NULL, NULL, fl, h \
    }
#define STR(k, f, d, fl, h)                               \
    {                                                     \
        k, CONF_STRING, AT(f), 0, 0, d, NULL, NULL, fl, h \
    }
#define CHOICE(k, f, c, d, fl, h)                      \
    {                                                  \
        k, CONF_CHOICE, AT(f), 0, 0, d, NULL, c, fl, h \
    }

const struct conf_key conf_schema[] = {
    STR("run.dir", run.dir, "run", CONF_REQUIRED | CONF_PATH, "directory of the run: everything it writes"),
    INT("run.seed", run.seed, 0, 4294967295.0, "0", NULL, CONF_IDENTITY,
        "all randomness of the run follows from it"),
    INT("run.decoders", run.decoders, 1, 256, "1", "processes", 0, "decoders that `xdc run` starts"),
    INT("run.ranks", run.ranks, 1, 1, "1", "processes", 0, "trainer processes that `xdc run` starts"),
    STR("data.manifest", data.manifest, "manifest.lmdb", CONF_REQUIRED | CONF_PATH,
        "manifest made by `xdc index`"),
    STR("data.media_root", data.media_root, "", CONF_PATH,
        "directory that relative uris start from; empty: the manifest's own"),
    INT("data.clips_per_video", data.clips_per_video, 1, 1000, "1", "clips", CONF_IDENTITY,
        "clips drawn from every video, at times fixed over the run"),
    CHOICE(
        "data.short_clip", data.short_clip, "pad|loop|drop", "pad", CONF_IDENTITY,
        "a clip whose streams end before it does: last frame and silence, from its start again, or not used"),
    CHOICE("data.no_audio", data.no_audio, "drop|keep", "drop", CONF_IDENTITY,
           "a clip without sound where sound is needed: not used, or with silence"),
    REAL("data.min_sound_s", data.min_sound_s, 0, 3600, "1.1", "s", CONF_IDENTITY,
         "where sound is needed, a shorter video is not used"),
    CHOICE("method", method, "sdc|mdc|cdc|xdc|supervised", "xdc", CONF_IDENTITY, "who learns whose labels"),
    INT("video.frames", video.frames, 1, 256, "8", "frames", CONF_IDENTITY, "frames of a clip (T)"),
    REAL("video.fps", video.fps, 0, 240, "30", "frames/s", CONF_IDENTITY,
         "frame rate of a clip; 0: the stream's own frames"),
    INT("video.resize", video.resize, 16, 1024, "128", "pixels", CONF_IDENTITY, "short side after scaling"),
    INT("video.crop", video.crop, 16, 1024, "112", "pixels", CONF_IDENTITY, "side of the square crop"),
    CHOICE("video.scaling", video.scaling, "fast|exact", "fast", CONF_IDENTITY,
           "fast: crop and scale in YUV; exact: bit for bit what FFmpeg's own scaler makes"),
    CHOICE("audio.frontend", audio.frontend, "logmel|vmz", "logmel", CONF_IDENTITY,
           "log-mel as torchaudio computes it, or as VMZ does"),
    REAL("augment.flip", augment.flip, 0, 1, "0.5", "probability", CONF_IDENTITY,
         "horizontal flip in training"),
    INT("augment.resize_max", augment.resize_max, 0, 1024, "0", "pixels", CONF_IDENTITY,
        "in training the short side is drawn from [video.resize, this]; 0: video.resize"),
    INT("augment.crop_jitter_px", augment.crop_jitter_px, -1, 512, "-1", "pixels", CONF_IDENTITY,
        "in training the crop moves from the centre by up to this, edges repeated; -1: anywhere in the "
        "picture"),
    REAL("augment.audio_shift_s", augment.audio_shift_s, 0, 10, "0", "s", CONF_IDENTITY,
         "in training the sound's window moves by up to this in each direction"),
    INT("augment.time_mask_frames", augment.time_mask_frames, 0, 99, "0", "frames", CONF_IDENTITY,
        "in training up to so many log-mel frames in a row are blanked"),
    INT("net.video_depth", net.video_depth, 10, 18, "18", "layers", CONF_IDENTITY,
        "R(2+1)D of depth 10 or 18"),
    INT("net.video_width", net.video_width, 4, 256, "64", "channels", CONF_IDENTITY,
        "channels of the first stage; 64 is the published network"),
    INT("net.audio_depth", net.audio_depth, 10, 18, "18", "layers", CONF_IDENTITY,
        "ResNet of depth 10 or 18"),
    INT("net.audio_width", net.audio_width, 4, 256, "64", "channels", CONF_IDENTITY,
        "channels of the first stage"),
    INT("cluster.k", cluster.k, 2, 1000000, "256", "clusters", CONF_IDENTITY, "clusters of each source"),
    INT("cluster.restarts", cluster.restarts, 1, 100, "1", NULL, CONF_IDENTITY,
        "k-means runs; the best one counts"),
    INT("cluster.iterations", cluster.iterations, 1, 10000, "20", NULL, CONF_IDENTITY,
        "Lloyd iterations at most"),
    REAL("cluster.tolerance", cluster.tolerance, 0, 1, "1e-4", NULL, CONF_IDENTITY,
         "stop when the objective falls by less than this share"),
    CHOICE("cluster.normalize", cluster.normalize, "none|l2|pca-whiten-l2", "none", CONF_IDENTITY,
           "what is done to features before k-means; none is the paper's"),
    INT("cluster.pca_dim", cluster.pca_dim, 1, 4096, "256", "dimensions", CONF_IDENTITY,
        "kept by pca-whiten-l2"),
    CHOICE("cluster.scale", cluster.scale, "none|l2|variance", "none", CONF_IDENTITY,
           "cdc: how each modality is scaled before concatenation"),
    INT("cluster.threads", cluster.threads, 0, 1024, "0", "threads", 0,
        "0: one per CPU; the result is the same"),
    REAL("cluster.interval_s", cluster.interval_s, 0.05, 3600, "1", "s", 0,
         "how often the feature store is looked at"),
    INT("train.rounds", train.rounds, 1, 1000, "5", "rounds", 0,
        "deep-clustering rounds: extract, cluster, train"),
    INT("train.epochs", train.epochs, 1, 10000, "10", "epochs", CONF_IDENTITY, "epochs of each round"),
    INT("train.batch", train.batch, 1, 4096, "32", "clips", CONF_IDENTITY, "clips of a batch"),
    CHOICE("train.balance", train.balance, "auto|off|weight|resample", "auto", CONF_IDENTITY,
           "unequal clusters: weigh the loss, or draw uniformly over clusters; auto: resample for sdc, else "
           "off"),
    INT("train.threads", train.threads, 0, 1024, "0", "threads", 0,
        "0: one per CPU; runs are bit-identical only at equal counts"),
    BOOL("train.nesterov", train.nesterov, "true", CONF_IDENTITY, "Nesterov momentum"),
    REAL("train.checkpoint_s", train.checkpoint_s, 0, 1e6, "600", "s", 0,
         "time between checkpoints within an epoch, beside the one at its end; 0: none"),
    INT("train.keep_checkpoints", train.keep, 2, 1000, "3", NULL, 0, "newest checkpoints kept"),
    INT("train.keep_every", train.keep_every, 0, 1e15, "0", "steps", 0,
        "beside the newest, the first checkpoint of each so many steps is kept for good; 0: none"),
    REAL("train.lr", train.lr, 0, 100, "0.01", NULL, CONF_IDENTITY, "learning rate of SGD"),
    REAL("train.lr_final", train.lr_final, 0, 1, "1", NULL, CONF_IDENTITY,
         "cosine decay within a round to this share of train.lr; 1: constant"),
    REAL("train.momentum", train.momentum, 0, 1, "0.9", NULL, CONF_IDENTITY, "momentum of SGD"),
    REAL("train.weight_decay", train.weight_decay, 0, 1, "1e-4", NULL, CONF_IDENTITY,
         "L2 decay of conv and fc weights"),
    INT("stats.clips", stats.clips, 1, 1000000, "2000", "clips", CONF_IDENTITY,
        "clips that give log-mel mean and deviation"),
    INT("stats.batches", stats.batches, 1, 10000, "20", "batches", CONF_IDENTITY,
        "batches that fill batch-norm statistics before the first extraction"),
    CHOICE("features.dtype", features.dtype, "f32|f16", "f32", CONF_IDENTITY, "how features are stored"),
    INT("decoder.workers", decoder.workers, 0, 1024, "0", "processes", 0,
        "media workers of a decoder; 0: one per CPU"),
    INT("decoder.cpu_s", decoder.cpu_s, 1, 3600, "5", "s", 0, "CPU time that one clip may take"),
    INT("decoder.memory_mib", decoder.memory_mib, 64, 65536, "512", "MiB", 0,
        "memory that a media worker may take"),
    INT("decoder.attempts", decoder.attempts, 1, 10, "2", NULL, 0,
        "failures of a worker on a clip before quarantine"),
    INT("decoder.recycle", decoder.recycle, 1, 1e9, "10000", "clips", 0,
        "a media worker is replaced after so many: what one file leaves behind in it lasts no longer"),
    BOOL("decoder.require_sandbox", decoder.require_sandbox, "false", 0,
         "refuse to decode where the kernel lacks a part of the sandbox, instead of reporting it"),
    REAL("decoder.hedge", decoder.hedge, 0, 1000, "4", NULL, 0,
         "a clip that takes this many times the 99th percentile is leased a second time; 0: never"),
    STR("endpoints.clips", endpoints.clips, "", 0,
        "ZeroMQ endpoint of leases and samples; empty: ipc in the runtime directory"),
    STR("endpoints.features", endpoints.features, "", 0, "ZeroMQ endpoint of dump notices; empty: ipc"),
    STR("endpoints.labels", endpoints.labels, "", 0, "ZeroMQ endpoint of label notices; empty: ipc"),
    REAL("limits.max_bad_share", limits.max_bad_share, 0, 1, "0.5", NULL, 0,
         "share of quarantined clips at which the run stops"),
    INT("limits.disk_reserve_mib", limits.disk_reserve_mib, 0, 1e9, "64", "MiB", 0,
        "free space below which no dump is begun"),
};
const size_t conf_schema_len = sizeof conf_schema / sizeof conf_schema[0];
