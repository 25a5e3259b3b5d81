/* nearest_int8: nearest's first pass in 8-bit integers, which leaves few centroids of a row for f32 to tell
 * apart and never one too few. Used by nearest. Any thread; a scratch belongs to one of them. Fails only for
 * memory; exists where the CPU has AVX-512 VNNI.
 *
 * Rows x and centroids c become integers times a scale, x' and c', off by at most e(x) and e(c)
 * (int8_kernel.h). The product x'.c' is an exact integer times two scales, and
 *   |x.c - x'.c'| = |x.(c - c') + (x - x').c'| <= |x| e(c) + e(x) |c'|,  |x'| <= |x| + e(x), the same for c'
 * by Cauchy and Schwarz. A score |c|^2 - 2 x.c so is off by at most 2 |x| e(c) + 2 e(x) |c'|, by
 * 10 u |x'| |c'| + 4u |c|^2 for rounding the integer, the scale, the sum, |c|^2 and the bounds themselves,
 * and by what falls below the smallest normal number. For any r > 0 and w(c) = max(|c'|, e(c) / r) the first
 * three terms are at most b(x) w(c), b(x) = 2 (e(x) + r |x|) + 10 u |x'|; with r the mean of e(c) over that
 * of |c'| little is lost. The rest is a(x) = 4u C^2 + 8 d 2^-53 (|x|^2 + C^2) + 2^-140, the middle term being
 * four times what rows_distance64 may err.
 *
 * So score -+ (b w + a) enclose the true one. What starts above the least end is not the nearest, nor, with
 * the least of the f32 scores that were looked at, what starts above that one plus E(x) of nearest.h. Of what
 * is left f32 scores decide as everywhere in nearest, and f64 where they cannot. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"
#include "services/clusterer/int8_kernel.h"

struct nearest;

struct nearest_int8 {
    bool on;
    const struct int8_kernel *kernel;
    struct int8_columns c; /* offset |c|^2, weight w; columns beyond k are infinitely far */
    uint32_t block;        /* panels that rows meet before the next ones are taken */
    uint32_t batch;        /* rows whose scores lie there at a time */
    uint32_t most;         /* centroids that may be left of a row; it is f32's when there are more */
    double *error;         /* owned, [k]: e */
    int32_t *word;         /* owned, [depth / 4]: room for a centroid's integers */
    double ratio;          /* r */
};

struct nearest_int8_scratch {
    int32_t *rows;           /* owned, [batch / GROUP, depth / STEP, GROUP, STEP / 4], four integers each */
    struct int8_row *row;    /* owned, [batch] */
    float *least;            /* owned, [batch, 16]: of the upper ends */
    float *low;              /* owned, [batch, panels * WIDTH]: lower ends, but for a */
    float *left;             /* owned, [batch, most + 16]: lower ends of the centroids that are left */
    uint32_t *column;        /* owned, the same: which */
    uint32_t *rest, *pick;   /* owned, [rows]: rows for f32 */
    uint64_t rows_in, spent; /* rows that came; f32 products that they took */
};

/* Whether this CPU can, and rows of d columns may. */
bool nearest_int8_able(uint32_t d);
/* -ENOMEM. */
int nearest_int8_init(struct nearest_int8 *q, uint32_t k, uint32_t d, struct err *e) WARN_UNUSED;
void nearest_int8_close(struct nearest_int8 *q);
/* Takes the centroids of `n`. */
void nearest_int8_pack(struct nearest_int8 *q, const struct nearest *n);

int nearest_int8_scratch_init(struct nearest_int8_scratch *s, const struct nearest_int8 *q, size_t rows,
                              struct err *e) WARN_UNUSED;
void nearest_int8_scratch_close(struct nearest_int8_scratch *s);

/* nearest_rows, but for the rows with too many centroids left: their indices into `pick` become s->rest.
 * Returns how many. */
size_t nearest_int8_rows(const struct nearest *n, const float *x, const uint32_t *pick, size_t count,
                         const float *norms, struct nearest_int8_scratch *s, uint32_t *labels, float *upper,
                         float *lower);
