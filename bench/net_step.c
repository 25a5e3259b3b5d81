/* net_step: clips per second of the training step and of the feature pass, for both encoders, as one JSON
 * line. Usage: bench_net_step DEPTH VIDEO_WIDTH AUDIO_WIDTH FRAMES CROP BATCH THREADS STEPS [RANK WORLD
 * PORT [AMP PAD]]; over ranks BATCH is of each of them; AMP 1: convolutions in bfloat16; PAD 1: channels
 * padded (2: not). bench/net_step.py and bench/ranks.py compare. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/rng.h"
#include "lib/torch/net.h"

enum { CLASSES = 64, ROUNDS = 3 };

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const struct err *e)
{
    fprintf(stderr, "net_step: %s\n", e->msg);
    exit(err_exit_status(e->code));
}

static void *allocate(size_t size)
{
    void *p = malloc(size);
    if (!p)
        abort();
    return p;
}

struct job {
    struct net *net;
    struct net_batch batch[NET_ENCODERS];
    int64_t *labels;
    float *features;
    int steps;
};

/* Seconds for one train step (train) or feature pass, the mean over the job's steps. */
static double measure(const struct job *j, enum net_encoder enc, int train)
{
    const struct net_sgd sgd = {.lr = 0.01, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true};
    const int64_t *labels[] = {j->labels};
    struct net_step out;
    struct err e;
    double start = now_s();
    for (int i = 0; i < j->steps; i++) {
        int r = train ? net_train_step(j->net, enc, &j->batch[enc], labels, NULL, &sgd, &out, &e)
                      : net_features(j->net, enc, &j->batch[enc], j->features, &e);
        if (r < 0)
            die(&e);
    }
    return (now_s() - start) / j->steps;
}

static void report(const struct job *j)
{
    static const char *const pass[] = {"features", "train"}, *const name[] = {"video", "audio"};
    uint32_t n = j->batch[NET_VIDEO].n;
    printf("{\"torch\": \"%s\"", net_torch_version());
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        printf(", \"%s\": {", name[enc]);
        for (int train = 1; train >= 0; train--) {
            double best = 1e30;
            for (int round = 0; round <= ROUNDS; round++) { /* the first one warms up */
                double s = measure(j, (enum net_encoder)enc, train);
                if (round > 0 && s < best)
                    best = s;
            }
            printf("\"%s\": %.4f%s", pass[train], n / best, train ? ", " : "}");
        }
    }
    printf("}\n");
}

int main(int argc, char **argv)
{
    uint32_t v[] = {10, 16, 32, 8, 64, 32, 2, 3, 0, 1, 0, 0, 0};
    for (int i = 1; i < argc && i <= 13; i++)
        v[i - 1] = (uint32_t)strtoul(argv[i], NULL, 10);
    struct net_spec spec = {.video_depth = v[0],
                            .video_width = v[1],
                            .audio_depth = v[0],
                            .audio_width = v[2],
                            .frames = v[3],
                            .crop = v[4],
                            .seed = 1,
                            .threads = (int)v[6],
                            .amp = (enum net_amp)v[11],
                            .pad_channels = (enum net_switch)v[12]};
    uint32_t n = v[5];
    struct job j = {.steps = (int)v[7]};
    struct err e;
    if (net_create(&spec, &j.net, &e) < 0)
        die(&e);

    struct rng r;
    rng_init(&r, 1);
    size_t pixels = (size_t)n * v[3] * v[4] * v[4] * 3, mels = (size_t)n * 40 * 100;
    uint8_t *video = allocate(pixels);
    float *audio = allocate(mels * sizeof *audio);
    j.labels = allocate(n * sizeof *j.labels);
    uint32_t dim = net_feature_dim(j.net, NET_VIDEO) + net_feature_dim(j.net, NET_AUDIO);
    j.features = allocate((size_t)n * dim * sizeof *j.features);
    for (size_t i = 0; i < pixels; i++)
        video[i] = (uint8_t)rng_below(&r, 256);
    for (size_t i = 0; i < mels; i++)
        audio[i] = (float)rng_normal(&r);
    for (uint32_t i = 0; i < n; i++)
        j.labels[i] = (int64_t)rng_below(&r, CLASSES);
    j.batch[NET_VIDEO] = (struct net_batch){n, video};
    j.batch[NET_AUDIO] = (struct net_batch){n, audio};
    const uint32_t classes[] = {CLASSES};
    const uint64_t seeds[] = {1};
    for (int enc = 0; enc < NET_ENCODERS; enc++)
        if (net_reset_heads(j.net, (enum net_encoder)enc, NET_HEAD_LINEAR, 1, classes, seeds, &e) < 0)
            die(&e);

    struct net_ranks ranks = {v[8], v[9], "127.0.0.1", (uint16_t)v[10], 60, false, NULL, NULL, NULL};
    if (ranks.world > 1 && net_join(j.net, &ranks, &e) < 0)
        die(&e);
    report(&j);
    net_destroy(j.net);
    free(video);
    free(audio);
    free(j.labels);
    free(j.features);
    return 0;
}
