/* eval_neighbours: nearest neighbours among videos: kNN accuracy and retrieval (algorithms.md 2.5). Used by
 * cmd_eval. Blocking; works on threads of its own, whose number does not show. Results own their arrays. */
#pragma once
#include <stdint.h>
#include "cli/eval_rows.h"
#include "cli/eval_score.h"

/* out [nq, k], squares [nq, k]: of each query of q [nq, d] the k rows of g [ng, d] with the least squared
 * Euclidean distance, rising, of equal ones the lowest row first. Products in f32 only leave candidates: all
 * whose score lies within the products' error bound of the k-th least, and f64 decides among those. No more
 * than 32 x ng scores a thread at a time. k <= ng. 0, -ENOMEM. */
int eval_nearest(const float *q, uint64_t nq, const float *g, uint64_t ng, uint32_t d, uint32_t k,
                 unsigned threads, uint64_t *out, double *squares, struct err *e) WARN_UNUSED;

enum eval_metric { EVAL_COSINE, EVAL_L2 };
/* A neighbour's vote: 1, or exp(cosine / temperature) (Wu et al. 2018, instance discrimination: 200
 * neighbours, 0.07). */
enum eval_vote { EVAL_PLAIN, EVAL_WEIGHTED };

struct eval_knn_options {
    uint32_t k;
    enum eval_metric metric; /* of the means of a video's L2-normalised clips; cosine normalises them again */
    enum eval_vote vote;     /* weighted: of cosine alone */
    double temperature;
    unsigned threads;
};

/* Test videos by the votes of train videos; equal votes: the class whose nearest neighbour is nearer.
 * predictions [rows], may be NULL: the class of each test clip's video, -1 elsewhere. Rows L2-normalised.
 * XDC_EFORMAT where train has fewer videos than k; -ENOMEM. */
int eval_knn(const struct eval_rows *r, const struct eval_knn_options *o, int32_t *predictions,
             struct eval_score *out, struct err *e) WARN_UNUSED;

#define EVAL_RECALLS 5
extern const uint32_t eval_recall_k[EVAL_RECALLS]; /* 1, 5, 10, 20, 50 */

struct eval_retrieval {
    uint64_t queries, gallery;
    uint64_t hits[EVAL_RECALLS]; /* queries with a video of their class among the k nearest */
    uint64_t *right;             /* owned, [classes]: hits at 1 */
};

/* R@k: query = test, gallery = train, Euclidean. Rows L2-normalised. Counts of k beyond the gallery are those
 * of the whole gallery. predictions: as above, the class of the nearest. -ENOMEM. */
int eval_retrieve(const struct eval_rows *r, unsigned threads, int32_t *predictions,
                  struct eval_retrieval *out, struct err *e) WARN_UNUSED;
