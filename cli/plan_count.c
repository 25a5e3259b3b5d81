/* The phases of a run, and what each of them computes, decodes and sends. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "cli/plan.h"
#include "lib/media/media.h"
#include "services/trainer/schedule.h"
#include "services/trainer/slice.h"

#define PASSES_OF_A_STEP 3 /* forward, and backward twice that */

static void fill_encoder(const struct run_plan *p, enum net_encoder enc, struct plan_encoder *out)
{
    const struct conf *c = &p->conf;
    double given = c->labels.from[0] ? 0 : p->videos.classes; /* another run's are not looked up */
    double classes = p->method.clusters ? (double)c->cluster.k : given;
    *out = (struct plan_encoder){.name = net_encoder_name(p->spec.pair, enc),
                                 .sees = net_modality(p->spec.pair, enc),
                                 .heads = classes > 0 && c->train.rounds > 0 ? p->method.heads[enc] : 0};
    out->wanted =
        c->net.encoders == ENCODERS_BOTH || (c->net.encoders == ENCODERS_VIDEO) == (enc == NET_VIDEO);
    out->given = out->sees == NET_VIDEO ? c->net.init_video[0] : c->net.init_audio[0];
    net_cost(&p->spec, enc, &out->net);
    net_cost_head(p->method.mlp, out->net.dim, classes, &out->head);
}

static double forward(const struct plan_encoder *x)
{
    return 2 * x->net.multiply_adds;
}

static double heads_forward(const struct plan_encoder *x)
{
    return 2 * x->head.multiply_adds * x->heads;
}

/* Frozen encoders go forward alone; train.recompute goes through blocks once more. */
double plan_step_flop(const struct conf *c, const struct plan_encoder *x)
{
    double encoder = forward(x);
    if (c->train.update != UPDATE_FC)
        encoder = PASSES_OF_A_STEP * encoder + (c->train.recompute ? 2 * x->net.recomputed : 0);
    return encoder + PASSES_OF_A_STEP * heads_forward(x);
}

/* Adds `clips` that are decoded for the encoders that are named. */
static void decode(const struct run_plan *p, struct plan_phase *x, double clips, bool first, bool second)
{
    const bool named[NET_ENCODERS] = {first, second};
    bool video = false, audio = false;
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        bool used = named[i] && p->encoder[i].wanted;
        video |= used && p->encoder[i].sees == NET_VIDEO;
        audio |= used && p->encoder[i].sees == NET_AUDIO;
    }
    double frames = (double)p->conf.video.frames, crop = (double)p->conf.video.crop;
    double bytes = (video ? 3 * frames * crop * crop : 0) + (audio ? sizeof(float) * MEDIA_AUDIO_FLOATS : 0);
    x->samples += clips;
    x->bytes += clips * bytes;
    x->decode_s += clips * plan_decode_s(&p->conf, &p->videos, video, audio, p->decode_rate);
}

/* Share of the clips that is not held out. */
static double used(const struct run_plan *p)
{
    return 1 - p->held / p->clips;
}

static void count_stats(const struct run_plan *p, struct plan_phase *x)
{
    const struct plan_encoder *audio = &p->encoder[NET_AUDIO];
    if (audio->sees != NET_AUDIO || !audio->wanted || audio->given)
        return;
    x->clips = fmin(p->clips, (double)p->conf.stats.clips) * used(p);
    decode(p, x, x->clips, false, true);
}

/* Batch-norm statistics: those that come with weights need nothing, unless they are measured anew. */
static void count_warm(const struct run_plan *p, struct plan_phase *x, bool anew)
{
    double clips = (double)(p->conf.stats.batches * p->conf.train.batch) * used(p), flop = 0;
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        const struct plan_encoder *enc = &p->encoder[i];
        if (!enc->wanted || (enc->given && !anew))
            continue;
        double heads = p->method.groups > 0 && p->method.mlp ? heads_forward(enc) : 0;
        flop += x->flop[i] = clips * (forward(enc) + heads);
    }
    if (flop == 0)
        return;
    x->clips = clips;
    decode(p, x, clips, true, true);
}

/* Clips whose features the last epoch before an extraction has not left behind. */
static double not_harvested(const struct run_plan *p, uint32_t round)
{
    if (!p->conf.train.harvest || round == 0)
        return p->clips;
    uint64_t n = (uint64_t)p->clips;
    struct slice s = slice_of(&p->conf, n, round - 1, slice_epochs(&p->conf, round - 1) - 1);
    double missed = 1; /* share of the clips that no pass over the order has drawn */
    for (uint64_t at = s.offset, end = s.offset + s.positions; at < end;) {
        uint64_t stop = (at / n + 1) * n < end ? (at / n + 1) * n : end;
        missed *= 1 - (double)(stop - at) / (double)n;
        at = stop;
    }
    return p->held + (p->clips - p->held) * missed;
}

static void count_extract(const struct run_plan *p, struct plan_phase *x)
{
    double passes = p->method.groups > 0 ? p->method.groups : 1;
    double clips = p->conf.train.harvest ? not_harvested(p, x->round) : (double)p->videos.extracted;
    struct plan_phase warm = {0};
    x->clips = clips * passes;
    for (unsigned i = 0; i < NET_ENCODERS; i++)
        x->flop[i] = p->encoder[i].wanted ? x->clips * forward(&p->encoder[i]) : 0;
    decode(p, x, x->clips, true, true);
    if (!p->conf.train.recalibrate || x->round == 0)
        return;
    count_warm(p, &warm, true);
    for (unsigned i = 0; i < NET_ENCODERS; i++)
        x->flop[i] += warm.flop[i];
    x->samples += warm.samples;
    x->decode_s += warm.decode_s;
    x->bytes += warm.bytes;
}

/* Of selavi the heads' outputs and a pass over them for each iteration, an exponential counted as a
 * multiply-add and a sum as another; else the products of Lloyd's iterations. */
static void count_clustering(const struct run_plan *p, struct plan_phase *x)
{
    const struct conf *c = &p->conf;
    double rows = p->clips - p->held, k = (double)c->cluster.k, all = 0;
    x->clips = rows;
    if (x->round == 0 && c->init.labels[0])
        return;
    for (unsigned i = 0; i < NET_ENCODERS; i++)
        all += c->cluster.normalize == NORMALIZE_PCA_WHITEN_L2 && c->method != METHOD_CDC
                   ? fmin(p->encoder[i].net.dim, (double)c->cluster.pca_dim)
                   : p->encoder[i].net.dim;
    if (c->cluster.normalize == NORMALIZE_PCA_WHITEN_L2 && c->method == METHOD_CDC)
        all = fmin(all, (double)c->cluster.pca_dim);
    if (c->method != METHOD_SELAVI) {
        x->cluster_flop = 2 * rows * k * all * (double)c->cluster.iterations * (double)c->cluster.restarts;
        return;
    }
    for (unsigned i = 0; i < NET_ENCODERS; i++)
        x->cluster_flop += rows * heads_forward(&p->encoder[i]);
    x->cluster_flop += 4 * rows * k * (double)c->selavi.iterations * (double)p->sources;
}

static void count_training(struct run_plan *p, struct plan_phase *x, struct plan_phase *validate)
{
    const struct conf *c = &p->conf;
    bool apart = (conf_balance(c) == BALANCE_RESAMPLE || p->spec.pair != NET_PAIR_BOTH) &&
                 c->net.encoders == ENCODERS_BOTH;
    uint32_t epochs = slice_epochs(c, x->round);
    struct slice s = slice_of(c, (uint64_t)p->clips, x->round, 0);
    double positions = (double)s.positions * epochs;
    x->clips = positions * used(p);
    validate->clips = p->held * epochs;
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        if (!p->encoder[i].wanted)
            continue;
        x->flop[i] = x->clips * plan_step_flop(c, &p->encoder[i]);
        validate->flop[i] = validate->clips * (forward(&p->encoder[i]) + heads_forward(&p->encoder[i]));
    }
    decode(p, x, x->clips, true, !apart);
    if (apart)
        decode(p, x, x->clips, false, true);
    decode(p, validate, validate->clips, true, true);
    p->trained += positions * (apart ? 2 : 1);
    p->steps += (double)(schedule_batches(s.positions, (uint32_t)c->train.batch) * epochs);
}

static void add(struct run_plan *p, const struct plan_phase *x)
{
    if (x->samples > 0 || x->clips > 0)
        p->phases[p->n++] = *x;
}

/* The phases as the trainer goes through them. */
static void count_phases(struct run_plan *p)
{
    int64_t rounds = p->conf.train.rounds;
    uint32_t round = 0;
    for (enum phase phase = PHASE_STATS; phase != PHASE_DONE;) {
        struct plan_phase x = {.phase = phase, .round = round};
        struct plan_phase validate = {.phase = PHASE_VALIDATE, .round = round};
        if (phase == PHASE_STATS)
            count_stats(p, &x);
        else if (phase == PHASE_WARM)
            count_warm(p, &x, false);
        else if (phase == PHASE_EXTRACT)
            count_extract(p, &x);
        else if (phase == PHASE_LABELS)
            count_clustering(p, &x);
        else if (phase == PHASE_TRAIN && round < rounds)
            count_training(p, &x, &validate);
        add(p, &x);
        add(p, &validate);
        round += phase == PHASE_TRAIN;
        phase = phase_next(phase, rounds > 0, p->method.clusters, round >= rounds);
    }
}

int plan_count(struct run_plan *p, struct err *e)
{
    const struct conf *c = &p->conf;
    targets_method(c, &p->method);
    net_cost_spec(c, &p->spec);
    p->clips = (double)p->videos.videos * (double)c->data.clips_per_video;
    p->held = (double)p->videos.held * (double)c->data.clips_per_video;
    if (p->method.clusters)
        p->sources = c->method == METHOD_SELAVI ? (uint32_t)c->selavi.heads : c->method == METHOD_CDC ? 1 : 2;
    for (unsigned i = 0; i < NET_ENCODERS; i++)
        fill_encoder(p, (enum net_encoder)i, &p->encoder[i]);
    struct plan_phase one = {0};
    decode(p, &one, 1, true, true);
    p->sample_bytes = one.bytes;
    p->phases = calloc(4 * (size_t)c->train.rounds + 8, sizeof *p->phases);
    if (!p->phases)
        return err_sys(e, ENOMEM, "phases of the run");
    count_phases(p);
    return 0;
}

void plan_close(struct run_plan *p)
{
    free(p->phases);
    p->phases = NULL;
}

struct plan_phase plan_sum(const struct run_plan *p, enum phase phase)
{
    struct plan_phase sum = {.phase = phase};
    for (size_t i = 0; i < p->n; i++) {
        const struct plan_phase *x = &p->phases[i];
        if (phase != PHASE_DONE && x->phase != phase)
            continue;
        sum.round++;
        sum.clips += x->phase == PHASE_LABELS && phase == PHASE_DONE ? 0 : x->clips;
        sum.flop[NET_VIDEO] += x->flop[NET_VIDEO];
        sum.flop[NET_AUDIO] += x->flop[NET_AUDIO];
        sum.cluster_flop += x->cluster_flop;
        sum.samples += x->samples;
        sum.decode_s += x->decode_s;
        sum.bytes += x->bytes;
    }
    return sum;
}

double plan_gpu_hours(const struct run_plan *p, const struct plan_phase *x)
{
    return (x->flop[NET_VIDEO] + x->flop[NET_AUDIO]) / p->gpu_flop_s / 3600;
}

double plan_cores(const struct run_plan *p, const struct plan_phase *x)
{
    double wall_s = 3600 * plan_gpu_hours(p, x) / (double)p->conf.run.ranks;
    return wall_s > 0 ? x->decode_s / wall_s : 0;
}
