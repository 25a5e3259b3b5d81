/* net_cost: what a network takes, counted over its convolutions by their shapes: operations, parameters,
 * outputs. Used by trainer/memory_need and `xdc plan`. Needs no libtorch: of net.h it takes the types alone;
 * tests compare it with what lib/torch counts. Pure; any thread; owns nothing; does not fail. */
#pragma once
#include <stdbool.h>
#include "lib/conf.h"
#include "lib/torch/net.h"

/* A forward pass of one clip. */
struct net_cost {
    double parameters;
    double statistics; /* means and variances of batch-norm */
    double multiply_adds;
    double recomputed; /* of these, what train.recompute computes twice: all within residual blocks */
    double elements;   /* of all outputs */
    double largest;    /* of one output */
    double pooled;     /* outputs of max-pools */
    double between;    /* of what recomputation keeps: stem and blocks' outputs */
    double block;      /* of all outputs of the largest block */
    double dim;        /* features; of spec.maps those */
};

/* Of an encoder, as net_parameters and net_flop_per_clip have it. */
void net_cost(const struct net_spec *spec, enum net_encoder enc, struct net_cost *out);
/* Of a head on features of so many dimensions: linear, or SeLaVi's MLP; outputs are not counted. */
void net_cost_head(bool mlp, double dim, double classes, struct net_cost *out);

/* What a configuration says of the networks' shapes, of the encoder that it leaves out (net.encoders) as
 * small as one can be; the rest of *out is zero. */
void net_cost_spec(const struct conf *c, struct net_spec *out);
