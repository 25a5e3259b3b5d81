/* export_features: writes what test_export.py compares with PyTorch: for each encoder the exported weights
 * before and after a few training steps, the batch, the head, the losses and the features. Usage:
 * export_features DIR VIDEO_DEPTH VIDEO_WIDTH AUDIO_DEPTH AUDIO_WIDTH */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/rng.h"
#include "lib/export.h"
#include "lib/tensor.h"
#include "lib/torch/net.h"

enum { N = 4, FRAMES = 8, CROP = 48, CLASSES = 5, STEPS = 3 };

static struct err e;

static void check(int r)
{
    if (r >= 0)
        return;
    fprintf(stderr, "export_features: %s\n", e.msg);
    exit(1);
}

static void path_of(char out[512], const char *dir, const char *encoder, const char *name)
{
    snprintf(out, 512, "%s/%s-%s", dir, encoder, name);
}

static void put(const char *dir, const char *encoder, const char *name, enum tensor_dtype dtype,
                const void *data, uint32_t ndim, const uint64_t *shape)
{
    char path[512];
    path_of(path, dir, encoder, name);
    struct tensor t = {.dtype = dtype, .ndim = ndim, .data = data};
    memcpy(t.shape, shape, ndim * sizeof *shape);
    check(npy_write(path, &t, &e));
}

static void export(const char *weights, const char *dir, const char *encoder, const char *name)
{
    const char *const metadata[][2] = {{"encoder", encoder}};
    char path[512];
    path_of(path, dir, encoder, name);
    check(export_weights(weights, encoder, metadata, 1, path, &e));
}

static void write_encoder(struct net *net, enum net_encoder enc, const char *dir, const struct net_batch *b)
{
    const char *name = enc == NET_VIDEO ? "video" : "audio";
    const struct net_sgd sgd = {.lr = 0.002, .momentum = 0.9, .weight_decay = 1e-2, .nesterov = true};
    const uint32_t classes[] = {CLASSES};
    const uint64_t seeds[] = {3};
    const int64_t y[N] = {0, 4, -1, 2};
    const float w[N] = {1, 0.5f, 9, 2};
    const int64_t *labels[] = {y};
    const float *weights[] = {w};
    char path[512];
    check(net_reset_heads(net, enc, NET_HEAD_LINEAR, 1, classes, seeds, &e));
    path_of(path, dir, name, "checkpoint.safetensors");
    check(net_save(net, path, &e));
    export(path, dir, name, "before.safetensors");
    double losses[STEPS];
    for (int i = 0; i < STEPS; i++) {
        struct net_step out;
        check(net_train_step(net, enc, b, labels, weights, &sgd, &out, &e));
        losses[i] = out.loss[0];
    }
    char trained[512];
    path_of(trained, dir, name, "trained.safetensors");
    check(net_save(net, trained, &e));
    export(trained, dir, name, "after.safetensors");
    uint32_t dim = net_feature_dim(net, enc);
    float *features = calloc((size_t)N * dim, sizeof *features);
    if (!features)
        abort();
    check(net_features(net, enc, b, features, &e));
    put(dir, name, "features.npy", TENSOR_F32, features, 2, (const uint64_t[]){N, dim});
    put(dir, name, "losses.npy", TENSOR_F64, losses, 1, (const uint64_t[]){STEPS});
    put(dir, name, "labels.npy", TENSOR_I64, y, 1, (const uint64_t[]){N});
    put(dir, name, "weights.npy", TENSOR_F32, w, 1, (const uint64_t[]){N});
    free(features);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: export_features DIR VIDEO_DEPTH VIDEO_WIDTH AUDIO_DEPTH AUDIO_WIDTH\n");
        return 64;
    }
    uint32_t v[4];
    for (int i = 0; i < 4; i++)
        v[i] = (uint32_t)strtoul(argv[i + 2], NULL, 10);
    struct net_spec spec = {.video_depth = v[0],
                            .video_width = v[1],
                            .audio_depth = v[2],
                            .audio_width = v[3],
                            .frames = FRAMES,
                            .crop = CROP,
                            .seed = 9,
                            .threads = 2};
    static uint8_t video[N * FRAMES * CROP * CROP * 3];
    static float audio[N * 40 * 100];
    struct rng r;
    rng_init(&r, 4);
    for (size_t i = 0; i < sizeof video; i++)
        video[i] = (uint8_t)rng_below(&r, 256);
    for (size_t i = 0; i < sizeof audio / sizeof *audio; i++)
        audio[i] = (float)(3 * rng_normal(&r) - 2);
    struct net *net;
    check(net_create(&spec, &net, &e));
    check(net_set_audio_stats(net, -2, 3, &e));
    write_encoder(net, NET_VIDEO, argv[1], &(struct net_batch){N, video});
    write_encoder(net, NET_AUDIO, argv[1], &(struct net_batch){N, audio});
    put(argv[1], "video", "input.npy", TENSOR_U8, video, 5, (const uint64_t[]){N, FRAMES, CROP, CROP, 3});
    put(argv[1], "audio", "input.npy", TENSOR_F32, audio, 3, (const uint64_t[]){N, 40, 100});
    net_destroy(net);
    return 0;
}
