/* rows: the inner loops over rows of f32 features, and the threads that run them over fixed chunks.
 * Used by kmeans, normalize, sinkhorn, head_rows, kmeans_source and `xdc cluster`. Any thread; owns nothing.
 * Cannot fail. Every result is the same on any number of threads and on any CPU: a chunk's bounds depend on
 * the data's shape alone, and every sum is made in one fixed order. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROWS_CHUNK 1024 /* rows of a chunk */
#define ROWS_SLICE 64   /* columns of a slice, for work that is split over columns */
#define ROWS_LANES 16   /* sums that a row's sum is made of */

/* Above this squared norm f32 scores would overflow. */
#define ROWS_NORM_MAX 1e30

typedef void (*rows_work)(void *arg, uint64_t chunk, unsigned worker);

/* Threads that `configured` asks for: itself, or one per CPU for 0. */
unsigned rows_threads(int64_t configured);

/* Calls work(arg, chunk, worker) for every chunk < chunks, worker < threads, on up to `threads` threads, each
 * with oneDNN kept to that thread. Blocks. Returns false when *stop became true before all were done; `stop`
 * may be NULL. */
bool rows_run(unsigned threads, uint64_t chunks, const atomic_bool *stop, rows_work work, void *arg);

/* ceil(n / size). */
uint64_t rows_chunks(uint64_t n, uint64_t size);

/* Squared L2 distance of a and b, f32 [d]; exactly 0 for equal rows. */
double rows_distance(const float *a, const float *b, size_t d);
/* Squared L2 norm of a, f32 [d]. */
double rows_norm(const float *a, size_t d);

/* sum [n] += x [n]. */
void rows_add(double *sum, const float *x, size_t n);
/* y [n] += a[0] x0 + a[1] x1 + a[2] x2 + a[3] x3, x0..x3 at x, x + stride, ... */
void rows_axpy4(double *y, const double a[4], const double *x, size_t stride, size_t n);

/* The same in f64, off by less than d 2^-52 of itself. */
double rows_distance64(const float *a, const float *b, size_t d);
double rows_norm64(const float *a, size_t d);

/* Sums of f32 that have no order: each x becomes the integer nearest to x * scale, |x * scale| < 2^51, plus
 * the bits of ROWS_FIXED_ZERO, and is added modulo 2^64. */
#define ROWS_FIXED_ZERO 0x1.8p52
/* sum [n] += x [n]. */
void rows_fixed_add(uint64_t *sum, const float *x, double scale, size_t n);
/* from [n] -= x [n], to [n] += x [n]; the two differ. */
void rows_fixed_move(uint64_t *from, uint64_t *to, const float *x, double scale, size_t n);

/* The first row of x [n, d] that is not finite or whose squared norm f32 cannot work with; UINT64_MAX when
 * all are sound. */
uint64_t rows_first_bad(const float *x, uint64_t n, uint32_t d, unsigned threads);
