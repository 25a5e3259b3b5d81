/* memory_need: what a training step will take of the memory, by the networks' shapes, against what the
 * machine has: a configuration that cannot fit says so before the first step. Used by train_loop. Any thread;
 * owns nothing. */
#pragma once
#include "lib/conf.h"
#include "lib/torch/net.h"

/* A network's forward pass of one clip, counted over its convolutions. */
struct memory_count {
    double parameters;
    double multiply_adds;
    double elements; /* of all outputs */
    double largest;  /* of one output */
    double pooled;   /* outputs of max-pools */
    double between;  /* of what recomputation keeps: stem and blocks' outputs */
    double block;    /* of all outputs of the largest block */
};

void memory_count(const struct net_spec *spec, enum net_encoder enc, struct memory_count *out);

/* Bytes. */
struct memory_need {
    double activations; /* of the encoder that needs more */
    double weights;     /* with momentum and gradients */
    double samples;     /* decoded, waiting for their step */
    double checkpoint;  /* the copy that is written beside the training */
    double total;
};

void memory_need(const struct conf *c, const struct net_spec *spec, struct memory_need *out);

/* Warns when the need is more than what is free, and refuses (XDC_ECONF) when it is so by far that no error
 * of the estimate explains it; both with the figures and what to change. */
int memory_check(const struct conf *c, const struct net_spec *spec, struct err *e) WARN_UNUSED;
