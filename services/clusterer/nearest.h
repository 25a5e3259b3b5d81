/* nearest: the exact nearest centroid of rows, by a fused f32 product and running minimum, where it pays only
 * of the rows of which a first pass in 8-bit integers (nearest_int8.h) leaves too much, and where f32 cannot
 * tell, by f64. Used by kmeans. Any thread; a scratch belongs to one of them. Fails only for memory.
 *
 * A row's score for a centroid is |c|^2 - 2 x.c, which differs from |x - c|^2 by |x|^2 alone. A dot product
 * of length d in f32, added in any order, fused or not, is off by at most g |x| |c| with g = d u / (1 - d u)
 * and u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1, with |x|.|c|
 * <= |x| |c|). Rounding |c|^2 and adding it cost u |c|^2 and u |score|, and what falls below the smallest
 * normal number d 2^-148. With C the greatest |c|, a score is off by less than E(x) = 2 (g + 2u) |x| C + 3u
 * C^2 + d 2^-147 + 4 d 2^-53 (|x|^2 + C^2), the last term being twice what rows_distance64 may err. Only
 * centroids whose score is within 2 E(x) of the least can be nearest; where there are several, the least
 * rows_distance64 decides, the lowest index among equal ones. So a label is that of a whole search by
 * rows_distance64, whatever the CPU, the shape of blocks and the number of threads. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"
#include "services/clusterer/nearest_int8.h"

#define NEAREST_LANES 16

/* The two least scores of each residue of the columns by the kernel's lanes, and the least one's column less
 * its lane. */
struct nearest_lanes {
    float best[NEAREST_LANES], second[NEAREST_LANES];
    int32_t at[NEAREST_LANES];
};

struct nearest_kernel {
    uint32_t rows, lanes;
    void (*pack)(const float *from, size_t steps, float *to);
    void (*tile)(const float *a, const float *b, size_t blocks, const float *offset, uint32_t base,
                 struct nearest_lanes *out, const char *next, size_t stride);
};

struct nearest {
    uint32_t k, d, depth; /* d rounded up to whole steps */
    uint32_t panels;      /* of the kernel's width of columns; those beyond k are infinitely far */
    uint32_t block;       /* panels that rows meet before the next ones are taken */
    struct nearest_kernel kernel;
    const float *centroids;                /* a loan of nearest_pack, [k, d] */
    float *panel;                          /* owned, [panels, depth, width]: -2 c */
    float *offset;                         /* owned, [panels * width]: |c|^2 */
    double norm;                           /* the greatest |c| */
    double per_norm, per_square, constant; /* E */
    struct nearest_int8 int8;              /* owned; empty where there is no first pass */
};

/* One thread's room for a call of nearest_rows. */
struct nearest_scratch {
    float *rows;                 /* owned, [rows rounded up, depth] */
    struct nearest_lanes *lanes; /* owned, [rows rounded up] */
    struct nearest_int8_scratch int8;
};

/* Whether there is a first pass. */
enum nearest_first { NEAREST_AUTO, NEAREST_F32, NEAREST_INT8 };

#define NEAREST_KERNELS_MAX 3
/* The kernels that this CPU can run, the fastest first. Returns how many. */
unsigned nearest_kernels(struct nearest_kernel out[NEAREST_KERNELS_MAX]);

/* block: columns at a time, 0 for as many as the second-level cache takes; kernel: NULL for the fastest;
 * first: by default where the CPU can and k and d are large enough to gain by it; NEAREST_INT8 has no effect
 * where it cannot. -ENOMEM. */
int nearest_init(struct nearest *n, uint32_t k, uint32_t d, uint32_t block,
                 const struct nearest_kernel *kernel, enum nearest_first first, struct err *e) WARN_UNUSED;
void nearest_close(struct nearest *n);
/* Takes new centroids [k, d], which must stay until the next ones. */
void nearest_pack(struct nearest *n, const float *centroids);

int nearest_scratch_init(struct nearest_scratch *s, const struct nearest *n, size_t rows,
                         struct err *e) WARN_UNUSED;
void nearest_scratch_close(struct nearest_scratch *s);

/* For each i < count the row x[pick[i]] of norm norms[pick[i]] (f32, to the nearest): labels[i], and for the
 * true distances d1 to that centroid and d2 to any other one d1 <= upper[i] and d2 >= lower[i] (0 where f64
 * decided). count is at most the scratch's rows. */
void nearest_rows(const struct nearest *n, const float *x, const uint32_t *pick, size_t count,
                  const float *norms, struct nearest_scratch *s, uint32_t *labels, float *upper,
                  float *lower);

/* Does without the first pass from now on if it left so much to f32 that it cost more than it saved, going by
 * what the scratches counted since the last call. */
void nearest_weigh(struct nearest *n, struct nearest_scratch *scratch, unsigned count);

/* What is known of a row's scores. */
struct nearest_found {
    double best, second;
    uint32_t label;
    bool by64; /* f64 decided: the label's score is not `best`, but at most 2 E above it */
};

/* At least |x|, of a row whose norm in f32 that is. */
double nearest_norm(float norm);
/* E(x). */
double nearest_error(const struct nearest *n, double norm);
/* Bounds as of nearest_rows; `others` is not above the true score of any centroid beside those of f. */
void nearest_bounds(const struct nearest_found *f, double others, double norm, double error, float *upper,
                    float *lower);
