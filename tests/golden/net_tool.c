/* net_tool: one network of ours on one batch, for test_networks.py. Usage:
 *   net_tool KIND FLAVOUR DEPTH WIDTH STEM FRAMES CROP ENCODER WEIGHTS INPUT.npy OUT_DIR [step|maps]
 * reads an encoder's weights and a batch (video u8 [n, T, P, P, 3], audio f32 [n, 40, 100]); writes
 * features.npy, and with `step` of one training step from there (labels i mod 3 but -1 for the second clip,
 * rate 1, momentum 0.9 with Nesterov, decay 0.01) loss.npy and after.safetensors with the head as written
 * before the step in head.safetensors. With `maps` the features are the maps of the last stage. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/export.h"
#include "lib/tensor.h"
#include "lib/torch/net.h"

enum { CLASSES = 3, BATCH_MAX = 64 };

static struct err e;

static void check(int r)
{
    if (r >= 0)
        return;
    fprintf(stderr, "net_tool: %s\n", e.msg);
    exit(1);
}

static const char *at(const char *dir, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int choice(const char *text, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    fprintf(stderr, "net_tool: %s?\n", text);
    exit(64);
}

static struct net_spec spec_of(char **a)
{
    static const char *const kinds[] = {"r2plus1d", "r3d", "mc3", "s3d", NULL},
                             *const flavours[] = {"xdc", "torchvision", NULL},
                             *const stems[] = {"torchvision", "vmz", NULL};
    uint32_t depth = (uint32_t)atoi(a[2]), width = (uint32_t)atoi(a[3]);
    return (struct net_spec){.video = (enum net_video)choice(a[0], kinds),
                             .flavour = (enum net_flavour)choice(a[1], flavours),
                             .video_depth = depth,
                             .video_width = width,
                             .audio_stem = (enum net_stem)choice(a[4], stems),
                             .audio_depth = depth,
                             .audio_width = width,
                             .frames = (uint32_t)atoi(a[5]),
                             .crop = (uint32_t)atoi(a[6]),
                             .threads = 2};
}

static void save_export(struct net *net, const char *encoder, const char *dir, const char *name)
{
    char out[512];
    const char *const metadata[][2] = {{"format", "pt"}};
    check(net_save(net, at(dir, "checkpoint.safetensors"), &e));
    snprintf(out, sizeof out, "%s/%s", dir, name);
    check(export_weights(at(dir, "checkpoint.safetensors"), encoder, metadata, 1, out, &e));
}

static void train(struct net *net, enum net_encoder enc, const char *encoder, const struct net_batch *b,
                  const char *dir)
{
    const struct net_sgd sgd = {.lr = 1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true};
    const uint32_t classes = CLASSES;
    const uint64_t seed = 7;
    int64_t y[BATCH_MAX];
    const int64_t *labels[] = {y};
    struct net_step out;
    for (uint32_t i = 0; i < b->n; i++)
        y[i] = i == 1 ? -1 : (int64_t)(i % CLASSES);
    check(net_reset_heads(net, enc, NET_HEAD_LINEAR, 1, &classes, &seed, &e));
    check(net_save(net, at(dir, "head.safetensors"), &e));
    check(net_train_step(net, enc, b, labels, NULL, &sgd, &out, &e));
    double values[2] = {out.loss[0], out.gradient_norm};
    struct tensor t = {.dtype = TENSOR_F64, .ndim = 1, .shape = {2}, .data = values};
    check(npy_write(at(dir, "loss.npy"), &t, &e));
    save_export(net, encoder, dir, "after.safetensors");
}

int main(int argc, char **argv)
{
    if (argc != 12 && argc != 13)
        return 64;
    const char *encoder = argv[8], *dir = argv[11];
    enum net_encoder enc = strcmp(encoder, "video") == 0 ? NET_VIDEO : NET_AUDIO;
    const char *what = argc == 13 ? argv[12] : "";
    struct net_spec spec = spec_of(argv + 1);
    spec.maps = strcmp(what, "maps") == 0;
    struct net *net;
    struct tensor input;
    void *data;
    check(net_create(&spec, &net, &e));
    check(net_init(net, enc, argv[9], &e));
    check(npy_read(argv[10], &input, &data, &e));
    struct net_batch b = {(uint32_t)input.shape[0], data};
    if (b.n > BATCH_MAX)
        return 64;
    uint32_t dim = net_feature_dim(net, enc);
    float *features = malloc((size_t)b.n * dim * sizeof *features);
    if (!features)
        abort();
    check(net_features(net, enc, &b, features, &e));
    struct tensor t = {.dtype = TENSOR_F32, .ndim = 2, .shape = {b.n, dim}, .data = features};
    check(npy_write(at(dir, "features.npy"), &t, &e));
    double flop;
    check(net_flop_per_clip(net, enc, &flop, &e));
    printf("%llu parameters, %.4f GMAC\n", (unsigned long long)net_parameters(net, enc), flop / 2e9);
    if (strcmp(what, "step") == 0)
        train(net, enc, encoder, &b, dir);
    free(features);
    free(data);
    net_destroy(net);
    return 0;
}
