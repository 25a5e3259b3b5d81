/* run_set: which videos of the manifest a run is made of, and which of them are held out. Used by trainer.c
 * and `xdc plan`. Needs no libtorch. Blocking; one thread. */
#pragma once
#include "lib/clip.h"
#include "lib/conf.h"
#include "lib/manifest.h"

/* Adds the videos of the split to the set, which is initialised, and finishes it: enum conf_split, where auto
 * are those of the split train, or all if no video has a split. XDC_ECONF when there is none. */
int run_set_fill(struct clip_set *set, const struct manifest *m, enum conf_split split,
                 struct err *e) WARN_UNUSED;

/* Leaves of the videos the data.subset.n that its seed draws, or all for 0. XDC_ECONF when there are fewer.
 */
int run_set_subset(struct clip_set *set, const struct conf *c, struct err *e) WARN_UNUSED;
/* Initialises and finishes *held: the videos of the set that train.holdout keeps back, perhaps none. */
int run_set_held(const struct clip_set *set, const struct conf *c, struct clip_set *held,
                 struct err *e) WARN_UNUSED;
