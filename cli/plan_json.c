/* The plan for programs. */
#include <math.h>
#include <string.h>
#include "cli/plan.h"

static json_t *encoders(const struct run_plan *p)
{
    json_t *out = json_object();
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        const struct plan_encoder *x = &p->encoder[i];
        json_object_set_new(out, x->name,
                            json_pack("{s:s, s:I, s:I, s:f, s:f, s:i, s:I, s:f}", "sees",
                                      x->sees == NET_VIDEO ? "video" : "audio", "parameters",
                                      (json_int_t)x->net.parameters, "features", (json_int_t)x->net.dim,
                                      "forward_flop", 2 * x->net.multiply_adds, "train_flop",
                                      plan_step_flop(&p->conf, x), "heads", (int)x->heads, "head_parameters",
                                      (json_int_t)(x->head.parameters * x->heads), "head_flop",
                                      2 * x->head.multiply_adds * x->heads));
    }
    return out;
}

/* Of the whole run the round is left out. */
static json_t *figures(const struct run_plan *p, const struct plan_phase *x, bool sum)
{
    json_t *j = json_object();
    if (x->phase != PHASE_DONE)
        json_object_set_new(j, "phase",
                            json_string(x->phase == PHASE_LABELS ? "cluster" : phase_name(x->phase)));
    if (!sum)
        json_object_set_new(j, "round", json_integer(x->round));
    else if (x->phase != PHASE_DONE)
        json_object_set_new(j, "times", json_integer(x->round));
    json_object_set_new(j, "clips", json_integer((json_int_t)llround(x->clips)));
    json_object_set_new(j, "flop",
                        json_pack("{s:f, s:f}", p->encoder[NET_VIDEO].name, x->flop[NET_VIDEO],
                                  p->encoder[NET_AUDIO].name, x->flop[NET_AUDIO]));
    json_object_set_new(j, "cluster_flop", json_real(x->cluster_flop));
    json_object_set_new(j, "gpu_hours", json_real(plan_gpu_hours(p, x)));
    json_object_set_new(j, "samples", json_integer((json_int_t)llround(x->samples)));
    json_object_set_new(j, "decode_core_hours", json_real(x->decode_s / 3600));
    json_object_set_new(j, "decode_cores", json_real(plan_cores(p, x)));
    json_object_set_new(j, "network_bytes", json_real(x->bytes));
    return j;
}

static json_t *bytes(const struct plan_bytes *b)
{
    json_t *j = json_object();
    for (size_t i = 0; i < b->n; i++)
        json_object_set_new(j, b->part[i].name, json_real(b->part[i].bytes));
    json_object_set_new(j, "total", json_real(b->total));
    return j;
}

static json_t *assumptions(const struct run_plan *p)
{
    const struct plan_videos *v = &p->videos;
    return json_pack("{s:f, s:f, s:s, s:f, s:f, s:f}", "gpu_tflops", p->gpu_flop_s / 1e12, "decode_rate",
                     p->decode_rate, "decode_rate_of", PLAN_DECODE_CLIP, "decode_clips_per_core_s",
                     1 / plan_decode_s(&p->conf, v, p->spec.pair != NET_PAIR_AUDIO,
                                       p->spec.pair != NET_PAIR_VIDEO, p->decode_rate),
                     "video_fps", v->fps, "video_pixels", v->pixels);
}

json_t *plan_json(const struct run_plan *p)
{
    static const enum phase order[] = {PHASE_STATS,  PHASE_WARM,  PHASE_EXTRACT,
                                       PHASE_LABELS, PHASE_TRAIN, PHASE_VALIDATE};
    const struct plan_videos *v = &p->videos;
    struct plan_bytes disk, trainer, clusterer;
    json_t *out = json_pack("{s:s, s:I, s:I, s:s, s:f, s:I, s:I, s:I, s:f}", "method", p->method.name,
                            "rounds", (json_int_t)p->conf.train.rounds, "videos", (json_int_t)v->videos,
                            "videos_from", v->of_manifest ? "manifest" : "--videos", "video_seconds",
                            v->seconds, "clips", (json_int_t)p->clips, "held_out", (json_int_t)p->held,
                            "gpus", (json_int_t)p->conf.run.ranks, "sample_bytes", p->sample_bytes);
    json_t *phases = json_array(), *sums = json_array();
    if (!out || !phases || !sums) {
        json_decref(out);
        json_decref(phases);
        json_decref(sums);
        return NULL;
    }
    for (size_t i = 0; i < p->n; i++)
        json_array_append_new(phases, figures(p, &p->phases[i], false));
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        struct plan_phase sum = plan_sum(p, order[i]);
        if (sum.round > 0)
            json_array_append_new(sums, figures(p, &sum, true));
    }
    struct plan_phase all = plan_sum(p, PHASE_DONE);
    plan_disk(p, &disk);
    plan_memory(p, &trainer, &clusterer);
    json_object_set_new(out, "encoders", encoders(p));
    json_object_set_new(out, "assumptions", assumptions(p));
    json_object_set_new(out, "phases", phases);
    json_object_set_new(out, "by_phase", sums);
    json_object_set_new(out, "all", figures(p, &all, true));
    json_object_set_new(out, "disk", bytes(&disk));
    json_object_set_new(out, "trainer_memory", bytes(&trainer));
    json_object_set_new(out, "clusterer_memory", bytes(&clusterer));
    return out;
}
