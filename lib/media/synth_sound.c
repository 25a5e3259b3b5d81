/* The sounds of made-up clips: a timbre gated by a rhythm, over noise of random colour and a hum. */
#include "lib/media/synth.h"

#include <math.h>

#include "lib/rng.h"

/* A rhythm is a bar of 16 steps that repeats; each bit is a step that sounds. */
struct rhythm {
    double bar_s;
    uint16_t steps; /* first step is the highest bit */
};

static const struct rhythm rhythms[SYNTH_SHAPES] = {
    {1.00, 0xffff}, /* steady */
    {1.00, 0xf0f0}, /* 2 a second, half on */
    {1.00, 0xcccc}, /* 4 a second */
    {1.14, 0xaaaa}, /* 7 a second */
    {1.00, 0xfcc0}, /* long, short, rest */
    {0.80, 0xfff0}, /* long with a short gap */
    {0.90, 0xc0c0}, /* short with a long gap */
    {1.00, 0xccc0}, /* three beats and a rest */
};

/* 1 where the rhythm sounds, with edges of 8 ms so that no click gives the step away; *out_u: 0..1 since the
 * beat began. */
static double gate(const struct rhythm *r, double t_s, double *out_u)
{
    double bar = t_s / r->bar_s;
    double pos = (bar - floor(bar)) * 16;
    int step = (int)pos & 15, first = step, last = step;
    if (!(r->steps >> (15 - step) & 1))
        return 0;
    while (first > 0 && (r->steps >> (16 - first) & 1))
        first--;
    while (last < 15 && (r->steps >> (14 - last) & 1))
        last++;
    double length = last + 1 - first, since = pos - first;
    *out_u = since / length;
    if (length > 15.5)
        return 1;
    double edge = 0.008 * 16 / r->bar_s;
    return fmin(1, fmin(since, length - since) / edge);
}

/* Band-limited sum of harmonics at `phase` turns: every `stride`-th, amplitude 1 / n. The sines follow from
 * two by sin((n + 1) x) = 2 cos(x) sin(n x) - sin((n - 1) x). */
static double harmonics(double phase, double pitch_hz, int stride)
{
    double x = 2 * M_PI * phase, twice_cos = 2 * cos(x), now = sin(x), before = 0, sum = 0;
    for (int n = 1; n * pitch_hz < 7000 && n <= 15; n++) {
        if ((n - 1) % stride == 0)
            sum += now / n;
        double after = twice_cos * now - before;
        before = now;
        now = after;
    }
    return sum;
}

/* State of the oscillator from sample to sample. */
struct voice_state {
    double phase, mod_phase; /* turns */
    double low, band;        /* state-variable filter */
    struct rng noise;
};

static double oscillate(const struct synth_voice *v, struct voice_state *s, double beat, double rate)
{
    double hz = v->pitch_hz;
    if (v->timbre == 5)
        hz *= exp2(2 * beat);
    if (v->timbre == 6)
        hz *= exp2(2 - 2 * beat);
    s->phase += hz / rate;
    s->phase -= floor(s->phase);
    s->mod_phase += 1.41 * hz / rate;
    s->mod_phase -= floor(s->mod_phase);
    double w = 2 * M_PI * s->phase;
    switch (v->timbre) {
    case 0:
        return sin(w);
    case 1: /* odd harmonics: hollow */
        return harmonics(s->phase, hz, 2);
    case 2: /* all harmonics: a saw */
        return 0.7 * harmonics(s->phase, hz, 1);
    case 3: { /* a band of noise, two octaves above the pitch */
        double f = 2 * sin(M_PI * 4 * hz / rate);
        double in = rng_range(&s->noise, -1, 1);
        s->low += f * s->band;
        s->band += f * (in - s->low - 0.35 * s->band);
        return s->band;
    }
    case 4: /* a bell: inharmonic frequency modulation */
        return sin(w + 3.0 * sin(2 * M_PI * s->mod_phase));
    case 5:
    case 6: /* glides of two octaves */
        return sin(w) + 0.3 * sin(2 * w);
    default: /* a buzz of pulses, an octave below */
        return 6 * pow(0.5 + 0.5 * cos(w / 2), 40) - 0.5;
    }
}

void synth_sound(const struct synth_clip *c, float *pcm)
{
    const struct synth_voice *v = &c->voice;
    double rate = c->sample_rate;
    struct voice_state s = {0};
    rng_init(&s.noise, rng_key(v->noise_key, "timbre", 0, 0, 0));
    struct rng hiss;
    rng_init(&hiss, rng_key(v->noise_key, "hiss", 0, 0, 0));
    double coloured = 0, keep = v->noise_tilt;
    for (uint32_t i = 0; i < c->samples; i++) {
        if (c->flaw == SYNTH_SILENT) {
            pcm[i] = 0;
            continue;
        }
        double t_s = i / rate, beat = 0;
        double level = gate(&rhythms[v->rhythm], t_s * v->tempo + v->offset_s, &beat);
        double tone = oscillate(v, &s, beat, rate) * level * v->gain;
        coloured = keep * coloured + sqrt(1 - keep * keep) * rng_range(&hiss, -1.7, 1.7);
        double hum = sin(2 * M_PI * v->hum_hz * t_s) * v->hum_gain;
        pcm[i] = (float)fmin(fmax(tone + coloured * v->noise_gain + hum, -1), 1);
    }
}
