/* slice: an epoch's place in its order of clips and in the schedule of the learning rate. Used by train_epoch
 * and train_loop, and by `xdc plan`, which counts what will be trained. Needs no libtorch. Pure. */
#pragma once
#include "lib/conf.h"

struct slice {
    uint32_t order;             /* which order */
    uint64_t offset, positions; /* of it */
    uint64_t step, epoch_steps; /* the first one, and those of an epoch, for the schedule */
    double epochs;              /* that the schedule covers */
};

/* True where the rounds divide one training, of train.rounds x train.epochs epochs, into stretches of unequal
 * length (selavi.relabel_power); each is then the only epoch of its round. */
bool slice_divides(const struct conf *c);
uint32_t slice_epochs(const struct conf *c, uint32_t round);
/* `clips`: of the run. Rounds of some epochs have an order and a schedule each. Where the rounds divide one
 * training, the only epoch of a round goes on in the one order and schedule where the round before ended. */
struct slice slice_of(const struct conf *c, uint64_t clips, uint32_t round, uint32_t epoch);
