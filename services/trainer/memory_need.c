#include "services/trainer/memory_need.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/log.h"
#include "lib/media/media.h"
#include "lib/memory.h"
#include "services/trainer/batcher.h"

#define CERTAIN 0.5 /* of the estimate: less is not needed by any step */
#define GIB (1024.0 * 1024.0 * 1024.0)

/* The maps of one clip on their way through a network. */
struct maps {
    double t, y, x, channels;
};

struct walk {
    struct maps m;
    struct memory_count *n;
    double block; /* outputs within the block that is walked */
};

struct kernel {
    double time, space, stride_time, stride_space;
};

static double size_of(const struct maps *m)
{
    return m->t * m->y * m->x * m->channels;
}

static double extent(double n, double k, double stride, double pad)
{
    return floor((n + 2 * pad - k) / stride) + 1;
}

/* A convolution and what follows it: a norm, or where `bias` a bias alone. */
static void conv(struct walk *w, double out, struct kernel k, bool bias)
{
    double in = w->m.channels, taps = k.time * k.space * k.space;
    w->m.t = extent(w->m.t, k.time, k.stride_time, floor(k.time / 2));
    w->m.y = extent(w->m.y, k.space, k.stride_space, floor(k.space / 2));
    w->m.x = extent(w->m.x, k.space, k.stride_space, floor(k.space / 2));
    w->m.channels = out;
    double elements = size_of(&w->m);
    w->n->elements += elements;
    w->n->largest = fmax(w->n->largest, elements);
    w->n->multiply_adds += elements * in * taps;
    w->n->parameters += out * in * taps + (bias ? 1 : 2) * out;
    w->block += elements;
}

static void pool(struct walk *w, double time, double space, double stride_time, double pad)
{
    struct maps *m = &w->m;
    m->t = extent(m->t, time, stride_time, time > 2 ? 1 : 0);
    m->y = extent(m->y, space, 2, pad);
    m->x = extent(m->x, space, 2, pad);
    w->n->pooled += size_of(m);
}

static void close_block(struct walk *w)
{
    w->n->between += size_of(&w->m);
    w->n->block = fmax(w->n->block, w->block);
    w->block = 0;
}

static double midplanes(double in, double out)
{
    return floor(27 * in * out / (9 * in + 3 * out));
}

static void video_half(struct walk *w, enum net_video kind, double out, double stride, double mid)
{
    if (kind == NET_R3D) {
        conv(w, out, (struct kernel){3, 3, stride, stride}, false);
    } else if (kind == NET_MC3) {
        conv(w, out, (struct kernel){1, 3, 1, stride}, false);
    } else {
        conv(w, mid, (struct kernel){1, 3, 1, stride}, false);
        conv(w, out, (struct kernel){3, 1, stride, 1}, false);
    }
}

/* The shortcut runs beside the block from the same maps. */
static void shortcut(struct walk *w, struct maps before, double out, double stride_time, double stride)
{
    struct maps after = w->m;
    w->m = before;
    conv(w, out, (struct kernel){1, 1, stride_time, stride}, false);
    w->m = after;
}

static void video_block(struct walk *w, const struct net_spec *s, enum net_video kind, double out,
                        double stride)
{
    struct maps before = w->m;
    double mid = midplanes(before.channels, out);
    video_half(w, kind, out, stride, mid);
    video_half(w, kind, out, 1, s->flavour == NET_XDC ? midplanes(out, out) : mid);
    if (stride > 1)
        shortcut(w, before, out, kind == NET_MC3 ? 1 : stride, stride);
    close_block(w);
}

static void audio_block(struct walk *w, double out, double stride)
{
    struct maps before = w->m;
    conv(w, out, (struct kernel){1, 3, 1, stride}, false);
    conv(w, out, (struct kernel){1, 3, 1, 1}, false);
    if (stride > 1)
        shortcut(w, before, out, 1, stride);
    close_block(w);
}

static unsigned stage_size(uint32_t depth, unsigned stage)
{
    static const unsigned deep[4] = {3, 4, 6, 3};
    return depth == 34 ? deep[stage] : depth == 18 ? 2 : 1;
}

static void walk_resnet_video(struct walk *w, const struct net_spec *s)
{
    double width = s->video_width;
    if (s->video == NET_R2PLUS1D) {
        conv(w, fmax(3, floor(45 * width / 64)), (struct kernel){1, 7, 1, 2}, false);
        conv(w, width, (struct kernel){3, 1, 1, 1}, false);
    } else {
        conv(w, width, (struct kernel){3, 7, 1, 2}, false);
    }
    w->n->between = w->block; /* the stem is kept whole */
    w->block = 0;
    for (unsigned stage = 0; stage < 4; stage++) {
        enum net_video kind = s->video == NET_MC3 && stage == 0 ? NET_R3D : s->video;
        for (unsigned i = 0; i < stage_size(s->video_depth, stage); i++)
            video_block(w, s, kind, width * (1 << stage), stage > 0 && i == 0 ? 2 : 1);
    }
}

static void walk_audio(struct walk *w, const struct net_spec *s)
{
    double width = s->audio_width;
    bool vmz = s->audio_stem == NET_STEM_VMZ;
    if (vmz) {
        conv(w, floor(width / 4), (struct kernel){1, 3, 1, 1}, true);
    } else {
        conv(w, width, (struct kernel){1, 7, 1, 2}, false);
        pool(w, 1, 3, 1, 1);
    }
    w->n->between = w->block;
    w->block = 0;
    for (unsigned i = 0; vmz && i < 3; i++)
        audio_block(w, floor(width / 2), i ? 1 : 2);
    for (unsigned stage = 0; stage < 4; stage++)
        for (unsigned i = 0; i < stage_size(s->audio_depth, stage); i++)
            audio_block(w, width * (1 << stage), i == 0 && (stage > 0 || vmz) ? 2 : 1);
}

/* Of the published channels of S3D, as many as a width has. */
static double scaled(double channels, double width)
{
    return fmax(1, floor(channels * width / 64));
}

static void separable(struct walk *w, double out, double k, double stride)
{
    conv(w, out, (struct kernel){1, k, 1, stride}, false);
    conv(w, out, (struct kernel){k, 1, stride, 1}, false);
}

static void inception(struct walk *w, const unsigned c[6], double width)
{
    static const struct kernel point = {1, 1, 1, 1};
    struct maps before = w->m;
    conv(w, scaled(c[0], width), point, false);
    for (unsigned i = 0; i < 2; i++) {
        w->m = before;
        conv(w, scaled(c[1 + 2 * i], width), point, false);
        separable(w, scaled(c[2 + 2 * i], width), 3, 1);
    }
    w->m = before;
    w->n->pooled += size_of(&before);
    conv(w, scaled(c[5], width), point, false);
    w->m.channels = scaled(c[0], width) + scaled(c[2], width) + scaled(c[4], width) + scaled(c[5], width);
}

/* S3D is not recomputed: it has no residual blocks. */
static void walk_s3d(struct walk *w, double width)
{
    static const unsigned blocks[9][6] = {
        {64, 96, 128, 16, 32, 32},     {128, 128, 192, 32, 96, 64},   {192, 96, 208, 16, 48, 64},
        {160, 112, 224, 24, 64, 64},   {128, 128, 256, 24, 64, 64},   {112, 144, 288, 32, 64, 64},
        {256, 160, 320, 32, 128, 128}, {256, 160, 320, 32, 128, 128}, {384, 192, 384, 48, 128, 128}};
    separable(w, scaled(64, width), 7, 2);
    pool(w, 1, 3, 1, 1);
    conv(w, scaled(64, width), (struct kernel){1, 1, 1, 1}, false);
    separable(w, scaled(192, width), 3, 1);
    pool(w, 1, 3, 1, 1);
    for (unsigned i = 0; i < 9; i++) {
        if (i == 2)
            pool(w, 3, 3, 2, 1);
        if (i == 7)
            pool(w, w->m.t > 1 ? 2 : 1, 2, w->m.t > 1 ? 2 : 1, 0);
        inception(w, blocks[i], width);
    }
    w->n->between = w->n->elements;
}

void memory_count(const struct net_spec *spec, enum net_encoder enc, struct memory_count *out)
{
    *out = (struct memory_count){0};
    struct walk w = {.n = out, .m = {spec->frames, spec->crop, spec->crop, 3}};
    bool audio = net_modality(spec->pair, enc) == NET_AUDIO;
    if (audio)
        w.m = (struct maps){1, MEDIA_MELS, MEDIA_AUDIO_FLOATS / MEDIA_MELS, 1};
    if (audio)
        walk_audio(&w, spec);
    else if (spec->video == NET_S3D)
        walk_s3d(&w, spec->video_width);
    else
        walk_resnet_video(&w, spec);
}

/* Bytes that a step keeps for one encoder: of every convolution its output and that of the norm behind it,
 * of a max-pool its output and 64-bit places, and while going backward the gradients of one block. Without
 * gradients two outputs and a shortcut live. */
static double activations(const struct conf *c, const struct memory_count *n)
{
    double batch = (double)c->train.batch, micro = (double)c->train.micro_batch;
    double clips = micro > 0 && micro < batch ? micro : batch;
    double forward = 3 * n->largest * batch;
    double kept = c->train.recompute ? fmin(2 * n->elements, n->between + 2 * n->block) : 2 * n->elements;
    double learning = c->train.update == UPDATE_FC ? 0 : (kept + 3 * n->pooled + 2 * n->largest) * clips;
    return sizeof(float) * fmax(forward, learning);
}

void memory_need(const struct conf *c, const struct net_spec *spec, struct memory_need *out)
{
    struct memory_count n[NET_ENCODERS];
    *out = (struct memory_need){0};
    double parameters = 0, most = 0;
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        memory_count(spec, (enum net_encoder)i, &n[i]);
        out->activations = fmax(out->activations, activations(c, &n[i]));
        parameters += n[i].parameters;
        most = fmax(most, n[i].parameters);
    }
    double crop = (double)c->video.crop, clip = 3 * (double)c->video.frames * crop * crop;
    bool parts = c->train.micro_batch > 0 && c->train.micro_batch < c->train.batch;
    double gradients = c->train.update == UPDATE_FC ? 0 : parts ? 2 * most : most;
    double kept = (c->train.ema > 0 ? 3 : 2) * parameters; /* weights, momentum, average */
    out->weights = sizeof(float) * (kept + gradients);
    out->checkpoint = sizeof(float) * kept;
    out->samples =
        BATCHER_DEPTH * (double)c->train.batch * (clip + sizeof(float) * (double)MEDIA_AUDIO_FLOATS);
    out->total = out->activations + out->weights + out->checkpoint + out->samples;
}

int memory_check(const struct conf *c, const struct net_spec *spec, struct err *e)
{
    struct memory_need n;
    char said[768];
    bool gpu = spec->device != NET_DEVICE_CPU && net_gpus() > 0;
    double available = gpu ? net_gpu_free(spec->gpu) : memory_free();
    const char *where = gpu ? "the GPU's memory" : "memory";
    memory_need(c, spec, &n);
    if (gpu)
        n.total = n.activations + n.weights;
    log_info("a training step will take about %.2f GiB of %s, %.2f GiB are free", n.total / GIB, where,
             available / GIB);
    if (available <= 0 || n.total <= available)
        return 0;
    snprintf(said, sizeof said,
             "a training step takes about %.1f GiB of %s (activations %.1f, weights with momentum and "
             "gradients %.1f, decoded samples %.1f, a checkpoint's copy %.1f) and %.1f GiB are free: set "
             "train.micro_batch (now %lld, 0: the whole batch) or train.recompute: true (now %s), or lower "
             "train.batch (now %lld), video.crop (now %lld) or video.frames (now %lld)",
             n.total / GIB, where, n.activations / GIB, n.weights / GIB, n.samples / GIB, n.checkpoint / GIB,
             available / GIB, (long long)c->train.micro_batch, c->train.recompute ? "true" : "false",
             (long long)c->train.batch, (long long)c->video.crop, (long long)c->video.frames);
    if (CERTAIN * n.total > available)
        return err_set(e, XDC_ECONF, "%s", said);
    log_warn("%s", said);
    return 0;
}
