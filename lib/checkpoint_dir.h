/* checkpoint_dir: which checkpoints a run has: checkpoints/step-NNNNNNNNNNNN/{weights.safetensors,
 * state.json, DONE}. Used by the trainer and by `xdc export`. Blocking; any thread. DONE is written last and
 * holds the state's hash, state.json the weights', each as 16 hexadecimal digits of XXH3, so that a torn or
 * altered checkpoint is never taken. */
#pragma once
#include <jansson.h>
#include <limits.h>
#include <stdint.h>
#include "lib/err.h"

#define CHECKPOINT_WEIGHTS "weights.safetensors"
#define CHECKPOINT_STATE "state.json"
#define CHECKPOINT_DONE "DONE"

/* Finds the newest checkpoint that is whole: the hashes of its state and weights are those written.
 * *out_state is a new reference. -ENOENT when there is none. *out_skipped counts newer ones that were torn or
 * altered (may be NULL). */
int checkpoint_dir_latest(const char *run_dir, char out_path[PATH_MAX], json_t **out_state,
                          unsigned *out_skipped, struct err *e) WARN_UNUSED;
/* XXH3 of a file's bytes. */
int checkpoint_dir_hash(const char *path, uint64_t *out, struct err *e) WARN_UNUSED;
/* Removes all but the newest `keep` (> 0) whole checkpoints, whatever is torn or altered and older than the
 * newest whole one, and the tmp-* of interrupted writes. Reads the weights of those that it keeps. For the
 * run's writer alone. */
int checkpoint_dir_prune(const char *run_dir, unsigned keep, struct err *e) WARN_UNUSED;
