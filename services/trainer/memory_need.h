/* memory_need: what a training step will take of the memory of one rank, by the networks' shapes. Used by
 * memory_check and `xdc plan`. Needs no libtorch. Pure; any thread; owns nothing. */
#pragma once
#include "lib/conf.h"
#include "lib/net_cost.h"

/* Bytes. */
struct memory_need {
    double activations; /* of the encoder that needs more */
    double weights;     /* with momentum and gradients */
    double samples;     /* decoded, waiting for their step */
    double checkpoint;  /* the copy that is written beside the training */
    double total;
};

void memory_need(const struct conf *c, const struct net_spec *spec, struct memory_need *out);
