/* rng: random numbers as a pure function of a key; nothing random in xdc has hidden state.
 * Used by clip orders, augmentation, network initialisation, k-means, synth. Pure. Never fails. */
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A 64-bit key out of a seed, the name of the purpose ("order", "augment", "kmeans", ...) and up to three
 * numbers. */
uint64_t rng_key(uint64_t seed, const char *purpose, uint64_t a, uint64_t b, uint64_t c);

struct rng {
    uint64_t state;
};

void rng_init(struct rng *r, uint64_t key);
uint64_t rng_next(struct rng *r);
/* Uniform in [0, 1), 53 bits. */
double rng_uniform(struct rng *r);
/* Uniform in [lo, hi). */
double rng_range(struct rng *r, double lo, double hi);
/* Uniform in 0..n-1 without bias; n > 0. */
uint64_t rng_below(struct rng *r, uint64_t n);
/* Standard normal (Box-Muller, two uniforms a value). */
double rng_normal(struct rng *r);

#ifdef __cplusplus
}
#endif
