/* head_rows: what a pair of heads says of the clips of a selavi dump, block by block: softmax fused, no more
 * than a block of logits at a time. Used by selavi_job. Blocking; runs on threads of its own; the same bits
 * on any number. Owns nothing but what it frees. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "lib/feature_dump.h"
#include "services/clusterer/head_output.h"

/* A head of each modality, and the dump's encoders whose features they take: 0 video, 1 audio. */
struct head_pair {
    struct feature_dump *dump;
    uint32_t encoders[2];
    const struct head *heads[2];
    unsigned threads;
    const atomic_bool *stop;
};

/* `clips` [n] ascend. m [n, k] = lambda / 2 (log p_video + log p_audio), at least -SINKHORN_MAX. 0;
 * XDC_EFORMAT: a clip's features or outputs are not finite or too large; XDC_ESTOPPED; -ENOMEM; what the dump
 * gave. */
int head_rows_joint(const struct head_pair *p, const uint64_t *clips, uint64_t n, double lambda, float *m,
                    struct err *e) WARN_UNUSED;

/* The same clips' probabilities, video and audio [n, k]. */
int head_rows_both(const struct head_pair *p, const uint64_t *clips, uint64_t n, float *video, float *audio,
                   struct err *e) WARN_UNUSED;
