/* checkpoint_dir: which checkpoints a run has: checkpoints/step-NNNNNNNNNNNN/{weights.safetensors,
 * state.json, DONE}. Used by the trainer and by `xdc export`. Blocking; any thread. DONE is written last and
 * holds the state's hash, state.json the weights', each as 16 hexadecimal digits of XXH3, so that a torn or
 * altered checkpoint, if only by one bit, is never taken. On failure nothing is removed that was not named.
 */
#pragma once
#include <jansson.h>
#include <limits.h>
#include <stdint.h>
#include "lib/err.h"

#define CHECKPOINT_WEIGHTS "weights.safetensors"
#define CHECKPOINT_STATE "state.json"
#define CHECKPOINT_DONE "DONE"
#define CHECKPOINT_DONE_SIZE 17

/* Called for each checkpoint that is refused; `why` names the file and what is wrong with it. */
typedef void (*checkpoint_dir_on_refused)(void *arg, const char *why);

/* Which checkpoints stay. */
struct checkpoint_keep {
    unsigned newest; /* > 0: so many whole ones */
    uint64_t every;  /* and of each `every` steps the first one; 0: no others */
};

/* Finds the newest checkpoint that is whole: the hashes of its state and weights are those written.
 * *out_state is a new reference. -ENOENT when there is none. on_refused (may be NULL) hears of each newer one
 * that is torn or altered. */
int checkpoint_dir_latest(const char *run_dir, char out_path[PATH_MAX], json_t **out_state,
                          checkpoint_dir_on_refused on_refused, void *arg, struct err *e) WARN_UNUSED;
/* Reads a synced checkpoint back, from the disk where the system allows it: XDC_EFORMAT when it is not whole.
 */
int checkpoint_dir_verify(const char *dir, struct err *e) WARN_UNUSED;
/* What DONE holds, with a NUL behind it. */
void checkpoint_dir_done(uint64_t state_hash, char out[CHECKPOINT_DONE_SIZE + 1]);
/* XXH3 of a file's bytes. */
int checkpoint_dir_hash(const char *path, uint64_t *out, struct err *e) WARN_UNUSED;
/* Removes what `keep` does not name, whatever is torn or altered and older than the newest whole one, and the
 * tmp-* of interrupted writes. Reads the weights of the newest ones, of the others only state and DONE.
 * Before one is removed a newer one was found whole. For the run's writer alone. */
int checkpoint_dir_prune(const char *run_dir, const struct checkpoint_keep *keep, struct err *e) WARN_UNUSED;
