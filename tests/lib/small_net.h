/* small_net: the small networks that tests train, and noise to train them on. Used by the tests of lib/torch
 * and of the trainer, and by the fault injection into checkpoints. Pure; owns nothing; never fails. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "lib/rng.h"
#include "lib/torch/net.h"

enum { FRAMES = 4, AUDIO_CLIP = 40 * 100 };

/* Initialises a struct net_spec. The depth is the least that goes through every layer. */
#define SMALL_NET(width, crop_px, n_threads)                                                  \
    {                                                                                         \
        .video_depth = 10, .video_width = (width), .audio_depth = 10, .audio_width = (width), \
        .frames = FRAMES, .crop = (crop_px), .seed = 5, .threads = (n_threads)                \
    }

/* Fills with noise that is a function of the seed: pixels first, then values of a log-mel. */
static inline void small_noise(uint64_t seed, uint8_t *pixels, size_t n_pixels, float *mels, size_t n_mels)
{
    struct rng r;
    rng_init(&r, seed);
    for (size_t i = 0; i < n_pixels; i++)
        pixels[i] = (uint8_t)rng_below(&r, 256);
    for (size_t i = 0; i < n_mels; i++)
        mels[i] = (float)rng_normal(&r);
}
