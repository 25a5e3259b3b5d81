/* stable_ids: new numbers for a round's clusters, so that a cluster keeps the id that most of its clips had
 * in the round before. Used by kmeans_source, whose ids are arbitrary; labels of heads keep theirs. Pure; any
 * thread; owns nothing but what it frees. Fails on memory alone. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

/* id [k]: the new id of every cluster, a permutation: the one-to-one assignment with the largest number of
 * clips that keep their id (match.h); clusters that none of it concerns take the lowest ids that are left.
 * labels, previous [n] < k, or LABEL_NONE. 0 or -ENOMEM. */
int stable_ids_find(const uint32_t *labels, const uint32_t *previous, uint64_t n, uint32_t k, uint32_t *id,
                    struct err *e) WARN_UNUSED;

/* Gives labels [n] the new ids; LABEL_NONE stays. */
void stable_ids_rename(uint32_t *labels, uint64_t n, const uint32_t *id);

/* Moves the centroids [k, d] to their new ids. 0 or -ENOMEM, then nothing has moved. */
int stable_ids_move(float *centroids, uint32_t k, uint32_t d, const uint32_t *id, struct err *e) WARN_UNUSED;
