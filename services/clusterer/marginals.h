/* marginals: how large the clusters of a head are made, and which cluster gets which size
 * (algorithms.md 4.3). Used by selavi_job and `xdc cluster`. Pure; any thread; owns nothing but what it
 * frees. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/conf.h"

struct marginals {
    enum conf_marginals kind;
    double sd, exponent; /* of gaussian, of zipf */
    uint64_t seed;
    uint32_t head;
};

/* No size of gaussian is below this share of the mean. */
#define MARGINALS_LEAST 0.01

/* sizes [k] above 0 with sum 1: a function of the struct alone, so the same in every round. gaussian: 1 + sd
 * times a normal number; zipf: n to the power of -exponent, n = 1 .. k; uniform. */
void marginals_draw(const struct marginals *m, uint32_t k, double *sizes);

/* Deals the sizes so that the cluster with the largest mass [k] gets the largest: of all ways the one with
 * the least transport energy. `inverse`: the smallest gets the largest, as the published code does. Among
 * equals the lower cluster counts as the smaller. 0 or -ENOMEM. */
int marginals_pair(double *sizes, const double *mass, uint32_t k, bool inverse, struct err *e) WARN_UNUSED;
