/* schedule: the arithmetic of epochs and the learning rate (algorithms.md 1.9). Pure. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* The learning rate within a round, as shares of the base rate; lengths in epochs, fractions allowed. */
struct schedule {
    double warmup, warmup_start; /* linear from the share warmup_start to 1 */
    bool step; /* x factor after every `every` epochs behind the warm-up; else cosine down to `last` */
    double every, factor;
    double last;   /* 1: constant */
    double epochs; /* of the round */
};

/* ceil(positions / batch). */
uint64_t schedule_batches(uint64_t positions, uint32_t batch);
/* Share of the base rate for step `step_of_round` of a round of `steps_per_epoch` steps an epoch. The warm-up
 * covers the cosine's beginning: the cosine starts behind it and reaches `last` at the last step. */
double schedule_rate(const struct schedule *s, uint64_t step_of_round, uint64_t steps_per_epoch);
/* The step at which round `j` of `rounds` begins when they divide a training of `steps` unequally:
 * steps x (j / rounds)^power (algorithms.md 4.6), but every round has a step. Round `rounds` begins behind
 * the last one. */
uint64_t schedule_relabel(uint64_t steps, uint32_t rounds, double power, uint32_t j);
