/* eval_heads: labels that the heads of a selavi run give to clips, and how they agree with classes
 * (algorithms.md 4.8; services/clusterer/quality.h has the figures). Used by cmd_eval. Blocking; works on
 * threads of its own, whose number does not show. The result owns its arrays. */
#pragma once
#include "cli/eval_rows.h"
#include "lib/label_table.h"
#include "services/clusterer/quality.h"

struct eval_heads_options {
    const char *heads; /* path of what `xdc export --heads` writes */
    int part;          /* enum eval_split, 0: all rows */
    unsigned threads;
};

/* One head: the label of a clip is where softmax_video x softmax_audio is largest. */
struct eval_head {
    double cost; /* mean over clips of -1/2 log (p_video p_audio) at the label; no classes in it */
    struct quality_sizes sizes;
    struct quality_agreement agreement;
    struct quality_truth truth; /* over clips that have a class */
};

struct eval_heads {
    uint64_t n;          /* clips of both files */
    uint64_t only[2];    /* rows of the first, and of the second file, without the other's */
    uint32_t k, classes; /* outputs of a head; classes of the clips */
    uint32_t heads;
    struct eval_head head[LABEL_HEADS_MAX];
    uint32_t by_nmi, by_cost; /* heads with the highest NMI, and the lowest cost; the first of equal ones */
    int32_t *labels;          /* owned, [rows of the first file]: of head by_nmi, -1 elsewhere */
};

/* r, with: features of a video encoder and of an audio encoder, in either order, not normalised. Classes and
 * splits are those of r. XDC_EMISMATCH: the features are not of the encoders that the heads were trained
 * with, or both of one modality; XDC_EFORMAT: as eval_pairs_match, fewer than two classes, or what the heads'
 * file holds; -ENOENT; -ENOMEM. */
int eval_heads(const struct eval_rows *r, const struct eval_rows *with, const struct eval_heads_options *o,
               struct eval_heads *out, struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void eval_heads_close(struct eval_heads *h);
