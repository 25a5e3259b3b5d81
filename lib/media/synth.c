#include "lib/media/synth.h"

#include <math.h>

#include "lib/rng.h"

bool synth_is_test(uint64_t index)
{
    return index % 5 == 4;
}

const char *synth_flaw_name(enum synth_flaw flaw)
{
    static const char *const names[SYNTH_FLAWS] = {"none", "silent", "short", "truncated", "noaudio"};
    return flaw < SYNTH_FLAWS ? names[flaw] : "unknown";
}

/* Classes are dealt like cards, one deck of all classes after another and for each split its own: balanced in
 * both. */
static uint32_t deal_class(uint64_t seed, uint64_t index, uint32_t classes)
{
    uint64_t tests = index / 5;
    uint64_t place = synth_is_test(index) ? tests : index - tests;
    struct rng r;
    rng_init(&r, rng_key(seed, "synth-class", synth_is_test(index), place / classes, classes));
    uint32_t deck[SYNTH_CLASSES_MAX];
    for (uint32_t i = 0; i < classes; i++) {
        uint32_t j = (uint32_t)rng_below(&r, i + 1);
        deck[i] = deck[j];
        deck[j] = i;
    }
    return deck[place % classes];
}

/* A colour of given brightness (BT.601 luma) and random hue. */
static void draw_colour(struct rng *r, double luma, double saturation, double out[3])
{
    double hue = rng_range(r, 0, 2 * M_PI);
    double u = saturation * cos(hue), v = saturation * sin(hue);
    double rgb[3] = {luma + 1.402 * v, luma - 0.344 * u - 0.714 * v, luma + 1.772 * u};
    for (int i = 0; i < 3; i++)
        out[i] = fmin(fmax(rgb[i], 0), 255);
}

static void draw_background(struct rng *r, struct synth_look *l)
{
    draw_colour(r, rng_range(r, 30, 115), rng_range(r, 0, 40), l->paper);
    for (int g = 0; g < SYNTH_GRATINGS; g++) {
        struct synth_grating *w = &l->grating[g];
        w->cycles_x = (int)rng_below(r, 9) - 4;
        w->cycles_y = 1 + (int)rng_below(r, 3);
        w->phase = rng_range(r, 0, 2 * M_PI);
        w->amplitude = rng_range(r, 1, 7);
    }
    for (int i = 0; i < 3; i++)
        l->tint[i] = rng_range(r, 0.4, 1.0);
    l->drift_x = rng_range(r, -6, 6);
    l->drift_y = rng_range(r, -6, 6);
    l->grain = rng_range(r, 1.5, 5);
}

static void draw_look(struct rng *r, struct synth_look *l, uint32_t label)
{
    /* Beyond eight classes a shape meets a motion that is not its own. */
    l->shape = label % SYNTH_SHAPES;
    l->motion = (label + label / SYNTH_SHAPES) % SYNTH_SHAPES;
    draw_background(r, l);
    draw_colour(r, rng_range(r, 175, 235), rng_range(r, 0, 45), l->ink);
    l->radius = rng_range(r, 0.22, 0.30);
    l->reach = rng_range(r, 0.16, 0.21);
    double room = 0.5 - 0.85 * (l->radius + l->reach);
    l->x = rng_range(r, -room, room);
    l->y = rng_range(r, -room, room);
    l->angle = rng_range(r, -0.12, 0.12);
    l->period_s = rng_range(r, 0.75, 1.05);
    l->phase = rng_uniform(r);
    l->noise_key = rng_next(r);
}

static void draw_voice(struct rng *r, struct synth_voice *v, uint32_t label)
{
    v->timbre = label % SYNTH_SHAPES;
    v->rhythm = (label + label / SYNTH_SHAPES) % SYNTH_SHAPES;
    v->pitch_hz = 260 * exp2(rng_range(r, 0, 1.0));
    v->tempo = rng_range(r, 0.85, 1.18);
    v->offset_s = rng_range(r, 0, 10);
    v->gain = pow(10, rng_range(r, -20, -6) / 20);
    v->noise_gain = v->gain * pow(10, rng_range(r, -42, -20) / 20);
    v->noise_tilt = rng_range(r, 0, 0.97);
    v->hum_hz = rng_range(r, 50, 120);
    v->hum_gain = v->gain * pow(10, rng_range(r, -32, -10) / 20);
    v->noise_key = rng_next(r);
}

void synth_clip_init(struct synth_clip *c, uint64_t seed, uint64_t index, uint32_t classes)
{
    *c = (struct synth_clip){.seed = seed, .index = index};
    c->label = deal_class(seed, index, classes);
    struct rng r;
    rng_init(&r, rng_key(seed, "synth-form", index, 0, 0));
    bool large = rng_below(&r, 2);
    c->width = large ? 176 : 160;
    c->height = large ? 144 : 120;
    c->frames = (uint32_t)lround(rng_range(&r, 2.5, 6.0) * SYNTH_FPS);
    c->sample_rate = rng_below(&r, 2) ? 44100 : 16000;
    c->samples = c->frames * (c->sample_rate / 100) * 100 / SYNTH_FPS;
    c->gop = 30 + (uint32_t)rng_below(&r, 31);
    rng_init(&r, rng_key(seed, "synth-look", index, 0, 0));
    draw_look(&r, &c->look, c->label);
    rng_init(&r, rng_key(seed, "synth-voice", index, 0, 0));
    draw_voice(&r, &c->voice, c->label);
}

void synth_clip_spoil(struct synth_clip *c, enum synth_flaw flaw, uint64_t flaw_index)
{
    c->flaw = flaw;
    c->index = flaw_index;
    if (flaw == SYNTH_SHORT) {
        struct rng r;
        rng_init(&r, rng_key(c->seed, "synth-short", flaw_index, 0, 0));
        c->frames = 9 + (uint32_t)rng_below(&r, 18);
    }
    if (flaw == SYNTH_NO_AUDIO)
        c->samples = 0;
    else
        c->samples = c->frames * c->sample_rate / SYNTH_FPS;
}
