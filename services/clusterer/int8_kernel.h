/* int8_kernel: the inner loops of nearest_int8, for CPUs with AVX-512 VNNI. Used by nearest_int8. Any thread;
 * owns nothing. Cannot fail.
 *
 * A vector v becomes s q, s = max |v_j| / 127 and q the integers nearest to v_j / s. With t_j the quotient in
 * f32, |v_j - s t_j| <= 4u s |t_j| (three roundings, u = 2^-24), and t_j - q_j is exact; so |v - s q| is at
 * most s (|t - q| + 512 u sqrt(d)), |t - q| made larger by what a sum of d squares in f32 can lose. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define INT8_KERNEL_GROUP 14 /* rows of a tile */
#define INT8_KERNEL_WIDTH 32 /* columns of a panel */
#define INT8_KERNEL_STEP 16  /* elements of a row that lie together in a group */
#define INT8_KERNEL_LANES 16
#define INT8_KERNEL_LINE 64 /* bytes that are fetched at a time */

struct int8_vector {
    float scale;
    int32_t sum; /* of the integers */
    double error;
};

struct int8_columns {
    uint32_t depth;                 /* elements, whole steps */
    uint32_t panels;                /* of WIDTH columns */
    uint32_t *panel;                /* owned, [panels, depth / 4, WIDTH], four integers plus 128 each */
    float *offset, *scale, *weight; /* owned, [panels * WIDTH] */
};

struct int8_row {
    int32_t start;     /* takes the 128 of the columns off */
    float twice, wide; /* score = offset + twice * scale * product, its ends -+ wide * weight */
    float apart;
};

struct int8_kernel {
    /* `norm` is at least |v|. Each step of integers comes `stride` words behind the one before; the last is
     * filled up with zeros. */
    struct int8_vector (*quantize)(const float *v, size_t d, double norm, int32_t *out, size_t stride);
    /* Scores of a group of rows [depth / STEP, GROUP, STEP / 4] for a panel: lower ends in `low` [GROUP,
     * panels * WIDTH], least upper ends in `least` [GROUP, LANES]. `next` is fetched ahead of its use, two
     * lines and `stride` bytes a word of depth. */
    void (*tile)(const struct int8_columns *c, size_t panel, const int32_t *a, const struct int8_row *row,
                 float *least, float *low, const char *next, size_t stride);
    /* Lists which of `low` are not above `end`, with room for `most` + LANES; the least of all others.
     * Returns how many, or more than `most` without having looked at all. */
    size_t (*list)(const float *low, size_t columns, float end, size_t most, float *out_low,
                   uint32_t *out_column, float *out_others);
    /* a.b in f32, in any order. */
    float (*dot)(const float *a, const float *b, size_t d);
};

/* NULL where this CPU has none. */
const struct int8_kernel *int8_kernel(void);
