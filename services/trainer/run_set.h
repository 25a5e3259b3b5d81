/* run_set: which videos of the manifest a run is made of (data.split). Used by trainer.c. Blocking; one
 * thread. */
#pragma once
#include "lib/clip.h"
#include "lib/conf.h"
#include "lib/manifest.h"

/* Adds the videos of the split to the set, which is initialised, and finishes it: enum conf_split, where auto
 * are those of the split train, or all if no video has a split. XDC_ECONF when there is none. */
int run_set_fill(struct clip_set *set, const struct manifest *m, enum conf_split split,
                 struct err *e) WARN_UNUSED;
