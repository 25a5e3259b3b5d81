/* quality: what a clustering is worth in numbers: sizes, entropy, imbalance, agreement of two labelings
 * (algorithms.md 1.10, 4.8). Used by cluster_job and `xdc cluster`. Pure; any thread; owns nothing but
 * what it frees. Natural logarithms. Only clips with a label in both labelings count towards an agreement. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

struct quality_sizes {
    uint64_t labelled;
    uint64_t empty;    /* clusters without a clip */
    uint64_t min, max; /* rows of the smallest and the largest cluster, empty ones included */
    double median;
    double entropy;   /* of the labels, in nats; at most ln k */
    double imbalance; /* k sum (n_c / n)^2: 1 when all are equal, k when one has all */
};

struct quality_agreement {
    uint64_t both; /* clips that count */
    double mi;     /* nats */
    double nmi;    /* mi / mean of the entropies; 1 for two labelings of one cluster each */
    double ami; /* the same, both less the mutual information expected of random labelings of these sizes */
};

/* Clusters against classes. Over clips that have both; clusters without such a clip do not count. */
struct quality_truth {
    uint64_t both;
    double ari;      /* adjusted Rand index */
    double accuracy; /* share of clips that the best one-to-one naming of clusters by classes puts right
                        (match.h); classes or clusters without a partner are wrong */
    double entropy;  /* mean over clusters of the entropy of their classes, in nats */
    double purity;   /* mean over clusters of the share of their largest class */
};

/* labels [n] < k, or LABEL_NONE. 0 or -ENOMEM. */
int quality_sizes(const uint32_t *labels, uint64_t n, uint32_t k, struct quality_sizes *out,
                  struct err *e) WARN_UNUSED;

/* a, b [n]: any u32, or LABEL_NONE. No table of size k x k: only the cells that occur. 0 or -ENOMEM. */
int quality_agreement(const uint32_t *a, const uint32_t *b, uint64_t n, struct quality_agreement *out,
                      struct err *e) WARN_UNUSED;

/* Share of the clips with a label in both whose label differs. Of ids that stable_ids gave: 1 less the share
 * of clips within the one-to-one matching of clusters with the largest overlap. 0 where there is no such
 * clip. */
double quality_churn(const uint32_t *labels, const uint32_t *previous, uint64_t n);

/* The same inputs. 0 or -ENOMEM. */
int quality_truth(const uint32_t *labels, const uint32_t *truth, uint64_t n, struct quality_truth *out,
                  struct err *e) WARN_UNUSED;

/* Share of the between-cluster inertia of x [n, d] that lies in its columns [0, split): sum over clusters of
 * n_c |m_c - m|^2 over those columns against all. labels [n] < k. 0 where the clusters' means are all equal.
 * 0 or -ENOMEM. */
int quality_inertia_share(const float *x, uint64_t n, uint32_t d, const uint32_t *labels, uint32_t k,
                          uint32_t split, double *out, struct err *e) WARN_UNUSED;
