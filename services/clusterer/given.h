/* given: labels or features that somebody else made, which take the place of round 0's clustering or of its
 * features: init.labels and init.features. Used by cluster_job, kmeans_source and source. Blocking; one
 * thread. Owns the open file. Fails with the file's name, the clip where there is one, and what to do;
 * XDC_EFORMAT: the file is not what it should be; XDC_EMISMATCH: it is of other clips, another manifest or
 * another k. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/conf.h"
#include "lib/feature_dump.h"
#include "lib/tensor.h"

/* Whether a round's labels, or the features that it clusters, are given. */
bool given_labels(const struct conf *c, uint32_t round);
bool given_features(const struct conf *c, uint32_t round);

/* The s-th of `sources`, whose labels are of the clips that all of the dump's `encoders` have features of. */
struct given_source {
    const char *name;
    uint32_t s, sources;
    const uint32_t *encoders;
    uint32_t n_encoders;
};

/* labels [rows of the dump]: of a label table the source of that name or its only one, of a .npy the s-th or
 * only row; LABEL_NONE where a clip has none, or no features. *out_n: how many have one; 0 is refused. */
int given_labels_read(const struct conf *c, const struct feature_dump *dump, const struct given_source *of,
                      uint32_t *labels, uint64_t *out_n, struct err *e) WARN_UNUSED;

/* init.features, a row for every clip of the dump. Its columns are out->t.shape[1]; npy_close closes it. */
int given_features_open(const struct conf *c, const struct feature_info *dump, struct npy_file *out,
                        struct err *e) WARN_UNUSED;
/* Rows first .. first + n as f32 [n, columns]. */
int given_features_read(const struct npy_file *f, uint64_t first, uint64_t n, float *out,
                        struct err *e) WARN_UNUSED;
