#include "services/trainer/memory_need.h"

#include <math.h>
#include "lib/media/media.h"
#include "services/trainer/batcher.h"

/* Clips of a step on one rank. */
static double clips_of_step(const struct conf *c)
{
    return ceil((double)c->train.batch / fmax(1, (double)c->run.ranks));
}

/* Bytes that a step keeps for one encoder: of every convolution its output and that of the norm behind it,
 * of a max-pool its output and 64-bit places, and while going backward the gradients of one block. Without
 * gradients two outputs and a shortcut live. */
static double activations(const struct conf *c, const struct net_cost *n)
{
    double batch = clips_of_step(c), micro = (double)c->train.micro_batch;
    double clips = micro > 0 && micro < batch ? micro : batch;
    double forward = 3 * n->largest * batch;
    double kept = c->train.recompute ? fmin(2 * n->elements, n->between + 2 * n->block) : 2 * n->elements;
    double learning = c->train.update == UPDATE_FC ? 0 : (kept + 3 * n->pooled + 2 * n->largest) * clips;
    return sizeof(float) * fmax(forward, learning);
}

void memory_need(const struct conf *c, const struct net_spec *spec, struct memory_need *out)
{
    struct net_cost n[NET_ENCODERS];
    *out = (struct memory_need){0};
    double parameters = 0, most = 0;
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        net_cost(spec, (enum net_encoder)i, &n[i]);
        out->activations = fmax(out->activations, activations(c, &n[i]));
        parameters += n[i].parameters;
        most = fmax(most, n[i].parameters);
    }
    double crop = (double)c->video.crop, clip = 3 * (double)c->video.frames * crop * crop;
    bool parts = c->train.micro_batch > 0 && (double)c->train.micro_batch < clips_of_step(c);
    double gradients = c->train.update == UPDATE_FC ? 0 : parts ? 2 * most : most;
    double kept = (c->train.ema > 0 ? 3 : 2) * parameters; /* weights, momentum, average */
    out->weights = sizeof(float) * (kept + gradients);
    out->checkpoint = sizeof(float) * kept;
    out->samples = BATCHER_DEPTH * clips_of_step(c) * (clip + sizeof(float) * (double)MEDIA_AUDIO_FLOATS);
    out->total = out->activations + out->weights + out->checkpoint + out->samples;
}
