/* cluster_sinkhorn: xdc cluster --method sinkhorn: labels of given sizes for a file of logits. Used by
 * cmd_cluster. Blocking; one thread, which starts others. Owns nothing. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"
#include "services/clusterer/marginals.h"
#include "services/clusterer/sinkhorn.h"

struct cluster_sinkhorn {
    const char *file, *audio, *out, *alpha_out, *truth_file; /* all but file and out may be NULL */
    uint64_t k;                                              /* 0: as many as there are columns */
    struct marginals marginals;
    const char *marginals_name; /* as selavi.marginals has it */
    struct sinkhorn_options options;
    bool json;
};

/* Reads, labels, writes and prints. 0, XDC_EFORMAT with the file named, or what reading and writing gave. */
int cluster_sinkhorn_run(const struct cluster_sinkhorn *o, struct err *e) WARN_UNUSED;
