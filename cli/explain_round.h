/* explain_round: a clip's labels in one round: how far it lies from the centroids, out of the table, what is
 * kept beside it and the dump, as far as they are there. Used by explain_clip. Blocking; one thread. Owns
 * nothing. Fails on memory, on files that are there and not sound, and on a table of another manifest. */
#pragma once
#include <jansson.h>
#include "lib/conf.h"

/* Adds to `out`, an array, an object of the round; nothing when it has no table. */
int explain_round(const struct conf *c, uint64_t manifest, uint32_t round, uint64_t clip, json_t *out,
                  struct err *e) WARN_UNUSED;
