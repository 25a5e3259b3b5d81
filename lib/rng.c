#include "lib/rng.h"

#include <math.h>
#include <string.h>

/* The finaliser of SplitMix64: every output bit depends on every input bit. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t rng_key(uint64_t seed, const char *purpose, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t h = mix(seed + 0x9e3779b97f4a7c15u);
    for (const char *p = purpose; *p; p++)
        h = mix(h ^ (uint64_t)(unsigned char)*p);
    h = mix(h + 0x9e3779b97f4a7c15u) ^ a;
    h = mix(h + 0x9e3779b97f4a7c15u) ^ b;
    h = mix(h + 0x9e3779b97f4a7c15u) ^ c;
    return mix(h + 0x9e3779b97f4a7c15u);
}

void rng_init(struct rng *r, uint64_t key)
{
    r->state = key;
}

uint64_t rng_next(struct rng *r)
{
    r->state += 0x9e3779b97f4a7c15u;
    return mix(r->state);
}

double rng_uniform(struct rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1p-53;
}

double rng_range(struct rng *r, double lo, double hi)
{
    return lo + (hi - lo) * rng_uniform(r);
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    uint64_t x;
    do
        x = rng_next(r);
    while (x >= limit);
    return x % n;
}

double rng_normal(struct rng *r)
{
    double u = 1.0 - rng_uniform(r);
    double v = rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}
