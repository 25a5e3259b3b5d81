/* kmeans_source: one source's rows of a dump clustered with k-means: read, scaled, normalised, clustered, and
 * numbered as in the round before. Used by cluster_job and `xdc compare`. Blocking; one thread, which starts
 * others. Owns nothing but what it frees; while it works a checkpoint may lie beside the tables, which a run
 * that was cut off goes on from. On failure the out-parameters are empty, and labels are in no defined state.
 */
#pragma once
#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/conf.h"
#include "lib/feature_dump.h"
#include "services/clusterer/nearest_device.h"
#include "services/clusterer/transform.h"

struct kmeans_source {
    const struct conf *conf;
    struct feature_dump *dump;
    const uint32_t *encoders; /* of the dump, [n_encoders] */
    uint32_t n_encoders;      /* two are one joint source */
    uint32_t index;           /* of the source; a key of its randomness */
    const char *name;
    bool unkept;                   /* no checkpoint: nothing is written into the run's directory */
    const uint32_t *previous;      /* [clips]: labels of the round before, or NULL */
    struct nearest_device *device; /* NULL: the CPU */
    const atomic_bool *stop;
    _Atomic uint64_t *row_passes;
};

/* Labels [clips] of the clips that have features, those of the hold-out by the nearest centroid; others keep
 * what they have. *out_transform: what the rows went through, with the centroids; *out_figures: a new object.
 * 0; XDC_EFORMAT: a row is unsound, or there are fewer, or fewer different ones, than clusters; XDC_ESTOPPED;
 * -ENOMEM; -ENOSPC; or what reading and writing gave. */
int kmeans_source_run(const struct kmeans_source *s, uint32_t *labels, struct transform *out_transform,
                      json_t **out_figures, struct err *e) WARN_UNUSED;

/* Rows that k-means may go through for a source of `rows` rows. */
uint64_t kmeans_source_passes(const struct conf *c, uint64_t rows);
