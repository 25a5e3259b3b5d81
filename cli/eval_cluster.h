/* eval_cluster: how k-means of features agrees with classes (algorithms.md 4.8; services/clusterer/quality.h
 * has the figures). Used by cmd_eval. Blocking; works on threads of its own, whose number does not show. The
 * result owns its labels. */
#pragma once
#include <stdint.h>
#include "cli/eval_rows.h"
#include "services/clusterer/quality.h"

struct eval_cluster_options {
    int part;      /* enum eval_split, 0: all rows, those without class or split too */
    bool by_video; /* cluster the means of videos, of L2-normalised clips if the rows are */
    uint64_t k;    /* 0: as many as there are classes among what is clustered */
    uint32_t restarts, iterations;
    uint64_t seed;
    unsigned threads;
};

struct eval_clusters {
    uint64_t k, n; /* what was clustered: rows, or videos */
    uint32_t classes;
    double objective;
    uint32_t iterations;
    int32_t *labels; /* owned, [rows of the file], -1 where not clustered */
    struct quality_sizes sizes;
    struct quality_agreement agreement;
    struct quality_truth truth; /* over what has a class */
};

/* XDC_EFORMAT: nothing to cluster, fewer than two classes, fewer different rows than k; -ENOMEM. */
int eval_cluster(const struct eval_rows *r, const struct eval_cluster_options *o, struct eval_clusters *out,
                 struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void eval_clusters_close(struct eval_clusters *c);
