/* bench_sinkhorn N K ITERATIONS THREADS: seconds of an iteration of Sinkhorn-Knopp over made rows, and of its
 * other passes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "lib/progress.h"
#include "lib/rng.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/sinkhorn.h"

struct made {
    float *m; /* [n, k] */
    uint64_t n;
    uint32_t k;
};

/* Like lambda / 2 (log p + log q) of trained heads: most mass in a few columns. */
static void make_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    (void)worker;
    const struct made *a = arg;
    struct rng r;
    rng_init(&r, chunk);
    for (uint64_t i = chunk * ROWS_CHUNK; i < (chunk + 1) * ROWS_CHUNK && i < a->n; i++)
        for (uint32_t j = 0; j < a->k; j++)
            a->m[i * a->k + j] =
                (float)(-60 + 20 * (rng_uniform(&r) + rng_uniform(&r) + rng_uniform(&r) - 1.5));
}

static double seconds(struct feed *rows, const double *sizes, struct sinkhorn_options *o, uint32_t iterations,
                      struct sinkhorn_result *out)
{
    struct err e;
    o->iterations = iterations;
    double at = progress_now_s();
    if (sinkhorn_run(rows, sizes, o, out, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    return progress_now_s() - at;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 64;
    struct made a = {.n = strtoull(argv[1], NULL, 10), .k = (uint32_t)atoi(argv[2])};
    uint32_t iterations = (uint32_t)atoi(argv[3]);
    struct sinkhorn_options o = {.lambda = 20, .threads = (unsigned)atoi(argv[4])};
    double *sizes = malloc(a.k * sizeof *sizes);
    a.m = malloc(a.n * a.k * sizeof *a.m);
    if (!sizes || !a.m)
        return 71;
    rows_run(o.threads, rows_chunks(a.n, ROWS_CHUNK), NULL, make_chunk, &a);
    for (uint32_t j = 0; j < a.k; j++)
        sizes[j] = 1.0 / a.k;
    struct feed rows;
    struct sinkhorn_result one, all;
    feed_array(&rows, a.m, a.n, a.k);
    double first = seconds(&rows, sizes, &o, 1, &one);
    double rest = seconds(&rows, sizes, &o, iterations + 1, &all);
    double each = (rest - first) / iterations;
    printf("%.4f s an iteration, %.4f s besides; error %.3g after %u\n", each, first - each, all.error,
           all.iterations);
    sinkhorn_result_close(&one);
    sinkhorn_result_close(&all);
    free(sizes);
    free(a.m);
}
