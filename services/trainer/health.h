/* health: when figures of a run deserve a warning. Used by the training thread (train_health.c). Pure, but
 * for a range's memory, which it owns. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

/* The mean loss of an epoch (counted within the round) over a head of k classes is that of guessing, ln k, or
 * within 1 % of it. Never in a round's first epoch: there a fresh head has just begun. */
bool health_loss_at_chance(double loss, uint32_t k, uint32_t epoch);

/* How the clips of a source lie in its clusters. */
struct health_clusters {
    double largest; /* share of the labelled clips in the largest cluster */
    uint32_t used;  /* clusters with clips */
};

/* True when the largest cluster holds more than half of the labelled clips (with less than four clusters:
 * more than 1.8 / k), or fewer than half of the k clusters are used. counts: [k]. */
bool health_collapsed(const uint64_t *counts, uint32_t k, uint64_t labelled, struct health_clusters *out);

/* Least and greatest value of every feature dimension so far. */
struct health_range {
    uint32_t dim;
    uint64_t rows;
    float *least, *greatest; /* owned; [dim] */
};

int health_range_init(struct health_range *r, uint32_t dim, struct err *e) WARN_UNUSED;
/* features: f32 [n, dim]. */
void health_range_add(struct health_range *r, const float *features, uint32_t n);
/* True when more than half of the dimensions are constant over at least two rows; *out_dead is their number.
 */
bool health_range_dead(const struct health_range *r, uint32_t *out_dead);
/* Safe on a zeroed struct. */
void health_range_close(struct health_range *r);
