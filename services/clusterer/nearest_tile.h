/* nearest_tile: the inner loops of nearest.c, which includes this file once for every kind of vector unit
 * with TILE(name), TILE_TARGET, TILE_LANES and TILE_ROWS set: TILE_ROWS rows times two vectors of columns,
 * whose sums stay in registers. */
#define TILE_WIDTH (2 * TILE_LANES)
typedef float TILE(floats) __attribute__((vector_size(4 * TILE_LANES)));
typedef int32_t TILE(ints) __attribute__((vector_size(4 * TILE_LANES)));

typedef float TILE(loose) __attribute__((vector_size(4 * TILE_LANES), aligned(4)));

/* Lays the first `steps` steps of a row out in its group. */
TILE_TARGET static void TILE(pack)(const float *from, size_t steps, float *to)
{
    for (size_t k = 0; k < steps; k++, from += DEPTH_STEP, to += TILE_ROWS * DEPTH_STEP)
#pragma GCC unroll 4
        for (size_t s = 0; s < DEPTH_STEP; s += TILE_LANES)
            *(TILE(floats) *)(to + s) = *(const TILE(loose) *)(from + s);
}

/* a [blocks, TILE_ROWS, DEPTH_STEP], b [blocks * DEPTH_STEP, TILE_WIDTH], offset [TILE_WIDTH] of the columns
 * from `base` on; `next` is fetched ahead of its use, `stride` bytes a step. */
TILE_TARGET static void TILE(tile)(const float *a, const float *b, size_t blocks, const float *offset,
                                   uint32_t base, struct nearest_lanes *out, const char *next, size_t stride)
{
    TILE(floats) sum[TILE_ROWS][2] = {0};
    for (size_t k = 0; k < blocks; k++, a += TILE_ROWS * DEPTH_STEP)
#pragma GCC unroll 1
        for (size_t s = 0; s < DEPTH_STEP; s++, b += TILE_WIDTH, next += stride) {
            const TILE(floats) b0 = *(const TILE(floats) *)b, b1 = *(const TILE(floats) *)(b + TILE_LANES);
            __builtin_prefetch(b + AHEAD * TILE_WIDTH);
            __builtin_prefetch(b + AHEAD * TILE_WIDTH + TILE_LANES);
            __builtin_prefetch(next, 0, 2);
#pragma GCC unroll 16
            for (size_t i = 0; i < TILE_ROWS; i++) {
                sum[i][0] += a[i * DEPTH_STEP + s] * b0;
                sum[i][1] += a[i * DEPTH_STEP + s] * b1;
            }
        }
#pragma GCC unroll 16
    for (size_t i = 0; i < TILE_ROWS; i++) {
        TILE(floats) best = *(TILE(floats) *)out[i].best, second = *(TILE(floats) *)out[i].second;
        TILE(ints) at = *(TILE(ints) *)out[i].at;
#pragma GCC unroll 2
        for (int32_t v = 0; v < 2; v++) {
            TILE(floats) score = sum[i][v] + *(const TILE(floats) *)(offset + v * TILE_LANES);
            TILE(ints) first = score < best, then = score < second;
            TILE(ints) s = (TILE(ints))score, old = (TILE(ints))best;
            second = (TILE(floats))((first & old) | (~first & ((then & s) | (~then & (TILE(ints))second))));
            best = (TILE(floats))((first & s) | (~first & old));
            at = (first & ((int32_t)base + v * TILE_LANES)) | (~first & at);
        }
        *(TILE(floats) *)out[i].best = best;
        *(TILE(floats) *)out[i].second = second;
        *(TILE(ints) *)out[i].at = at;
    }
}
#undef TILE_WIDTH
#undef TILE
#undef TILE_TARGET
#undef TILE_LANES
#undef TILE_ROWS
