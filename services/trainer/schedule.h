/* schedule: the arithmetic of epochs and the learning rate (algorithms.md 1.9). Pure. */
#pragma once
#include <stdint.h>

/* ceil(positions / batch). */
uint64_t schedule_batches(uint64_t positions, uint32_t batch);
/* Cosine decay within a round from lr (step 0) to lr x final_share (last step); constant when the share is 1.
 */
double schedule_lr(double lr, double final_share, uint64_t step_of_round, uint64_t steps_of_round);
