#include "lib/net_cost.h"

#include <math.h>
#include "lib/media/media.h"

/* The maps of one clip on their way through a network. */
struct maps {
    double t, y, x, channels;
};

struct walk {
    struct maps m;
    struct net_cost *n;
    /* within the block that is walked: */
    double block, block_multiply_adds;
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
    w->n->statistics += bias ? 0 : 2 * out;
    w->block += elements;
    w->block_multiply_adds += elements * in * taps;
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
    w->n->recomputed += w->block_multiply_adds;
    w->block = w->block_multiply_adds = 0;
}

/* A stem is kept whole. */
static void close_stem(struct walk *w)
{
    w->n->between = w->block;
    w->block = w->block_multiply_adds = 0;
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
    close_stem(w);
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
    close_stem(w);
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

/* Of an extent after max-pooling by 2, which one alone is spared. */
static double halved(double n)
{
    return n < 2 ? n : floor(n / 2);
}

void net_cost(const struct net_spec *spec, enum net_encoder enc, struct net_cost *out)
{
    *out = (struct net_cost){0};
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
    out->dim = w.m.channels * (spec->maps ? halved(w.m.t) * halved(w.m.y) * halved(w.m.x) : 1);
}

void net_cost_head(bool mlp, double dim, double classes, struct net_cost *out)
{
    *out =
        (struct net_cost){.parameters = (dim + 1) * classes, .multiply_adds = dim * classes, .dim = classes};
    if (!mlp)
        return;
    out->parameters += (dim + 2) * dim;
    out->multiply_adds += dim * dim;
    out->statistics = 2 * dim;
}

/* The encoder that the run is not of is there, as small as one can be. */
static void leave_out(const struct conf *c, struct net_spec *spec)
{
    if (c->net.encoders == ENCODERS_VIDEO) {
        spec->audio_stem = NET_STEM_TORCHVISION;
        spec->audio_depth = 10;
        spec->audio_width = 4;
    } else if (c->net.encoders == ENCODERS_AUDIO) {
        spec->video = NET_R2PLUS1D;
        spec->video_depth = 10;
        spec->video_width = 4;
        spec->frames = 1;
        spec->crop = 16;
    }
}

void net_cost_spec(const struct conf *c, struct net_spec *out)
{
    *out = (struct net_spec){.pair = conf_pair(c),
                             .video = (enum net_video)c->net.video,
                             .flavour = (enum net_flavour)c->net.flavour,
                             .video_depth = (uint32_t)c->net.video_depth,
                             .video_width = (uint32_t)c->net.video_width,
                             .audio_stem = (enum net_stem)c->net.audio_stem,
                             .audio_depth = (uint32_t)c->net.audio_depth,
                             .audio_width = (uint32_t)c->net.audio_width,
                             .frames = (uint32_t)c->video.frames,
                             .crop = (uint32_t)c->video.crop,
                             .maps = c->features.kind == FEATURES_MAPS};
    leave_out(c, out);
}
