/* transform: what a source's features go through before they are clustered, as it was learnt of the rows that
 * were clustered, and the centroids found among them; kept in a file beside the label table
 * (docs/formats.md), so that other features go through the same. Used by source and kmeans_source (learn),
 * cluster_job (write) and `xdc explain` (read). Blocking; any thread. Owns its arrays. On failure it is
 * empty, or the rows are in no defined state. */
#pragma once
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include "lib/conf.h"
#include "lib/feature_store.h"
#include "services/clusterer/normalize.h"

#define TRANSFORM_PARTS_MAX 2
#define TRANSFORM_GIVEN "given" /* the name of a part that is no encoder's: init.features */

/* One encoder's features: their mean is subtracted, then they are scaled. */
struct transform_part {
    char encoder[32];
    uint32_t dim;
    enum conf_scale scale;
    double *mean;  /* owned, [dim] */
    double factor; /* of SCALE_VARIANCE */
};

/* Of parts side by side, if it whitens: another mean is subtracted, they are projected; at last they may be
 * divided by their norms. */
struct transform {
    uint32_t parts;
    struct transform_part part[TRANSFORM_PARTS_MAX];
    enum conf_normalize normalize;
    double *mean;                   /* owned, [d], of NORMALIZE_PCA_WHITEN_L2 */
    struct normalize_directions by; /* owned, likewise */
    uint32_t d, p;                  /* columns before and behind */
    uint32_t k;
    float *centroids; /* owned, [k, p]; row c is cluster c */
};

void transform_close(struct transform *t);

/* Learns a part of the first `fit` rows of x [n, dim] and sends all n through it. `encoder` and `scale` are
 * set. */
int transform_part_fit(struct transform_part *p, float *x, uint64_t n, uint64_t fit, unsigned threads,
                       const atomic_bool *stop, struct err *e) WARN_UNUSED;
/* Learns what follows the parts of the first `fit` rows of x [n, d] and sends all n through it: x [n, p],
 * packed. */
int transform_fit(struct transform *t, float *x, uint64_t n, uint64_t fit, enum conf_normalize normalize,
                  uint32_t pca_dim, unsigned threads, const atomic_bool *stop, struct err *e) WARN_UNUSED;

/* Sends one clip's features through all: features[i] f32 [dim of part i], out f32 [p]. */
int transform_row(const struct transform *t, const float *const features[], float *out,
                  struct err *e) WARN_UNUSED;

/* labels/round-NNNN.<source>.norm.safetensors. */
int transform_path(const char *run_dir, uint32_t round, const char *source, char out[PATH_MAX],
                   struct err *e) WARN_UNUSED;
/* `dump`: what the rows were of. Equal inputs give equal bytes. */
int transform_write(const char *path, const struct transform *t, const struct feature_info *dump,
                    const char *source, struct err *e) WARN_UNUSED;
/* XDC_EFORMAT: not such a file; *out_dump is the hash of the dump that it was learnt of. */
int transform_read(const char *path, struct transform *out, uint64_t *out_dump, struct err *e) WARN_UNUSED;
