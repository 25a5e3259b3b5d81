/* kmeans_store: seconds of a k-means pass over a sealed dump of f16 rows, from memory or streamed from the
 * dump as the clusterer does with what does not fit, as a JSON line; the hash of the labels is the same.
 * Makes the dump where there is none. Usage: bench_kmeans_store memory|store DIR ROWS DIM K PASSES THREADS
 * MEMORY_MIB; bench/kmeans_store.sh keeps the page cache small and compares. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "lib/fsutil.h"
#include "lib/progress.h"
#include "services/clusterer/kmeans.h"
#include "services/clusterer/source_stream.h"

static void check(int rc, const struct err *e)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "kmeans_store: %s\n", e->msg);
    exit(err_exit_status(rc));
}

static void *allocate(size_t size)
{
    void *p = malloc(size);
    if (!p)
        abort();
    return p;
}

/* Rows around 1000 centres. */
static void make_dump(const char *dir, uint64_t n, uint32_t d)
{
    struct feature_info info = {
        .rows = n, .total = n, .ranks = 1, .dtype = FEATURE_F16, .encoders = 1, .encoder = {{"video", d, 0}}};
    float *centres = allocate(1000 * d * sizeof *centres), *row = allocate(d * sizeof *row);
    char path[PATH_MAX];
    struct feature_store *s;
    struct err e;
    struct rng r;
    uint64_t hash;
    rng_init(&r, 9);
    for (size_t i = 0; i < (size_t)1000 * d; i++)
        centres[i] = (float)(0.3 * rng_normal(&r));
    check(fs_path(path, &e, "%s/rank-0", dir), &e);
    check(fs_mkdirs(dir, &e), &e);
    check(feature_store_create(path, &info, &s, &e), &e);
    for (uint64_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < d; j++)
            row[j] = centres[i % 1000 * d + j] + (float)rng_normal(&r);
        check(feature_store_put(s, 0, i, row, &e), &e);
    }
    check(feature_store_seal(s, &hash, &e), &e);
    feature_store_close(s);
    free(centres);
    free(row);
}

int main(int argc, char **argv)
{
    if (argc != 9)
        return 64;
    uint64_t v[6];
    for (int i = 0; i < 6; i++)
        v[i] = strtoull(argv[3 + i], NULL, 10);
    const uint64_t n = v[0];
    const uint32_t d = (uint32_t)v[1];
    struct feature_dump *dump;
    struct kmeans_result r;
    struct feed f;
    struct err e;
    if (access(argv[2], F_OK) < 0)
        make_dump(argv[2], n, d);
    check(feature_dump_open(argv[2], &dump, &e), &e);
    uint64_t *clips = allocate(n * sizeof *clips), bad;
    double *mean = allocate(d * sizeof *mean);
    for (uint64_t i = 0; i < n; i++)
        clips[i] = i;
    struct source_stream s = {.dump = dump, .d = d, .clips = clips, .n = n};
    check(source_stream_mean(&s, (unsigned)v[4], mean, &bad, &e), &e);
    s.mean = mean;
    bool memory = strcmp(argv[1], "memory") == 0;
    uint64_t held = memory ? n : v[2];
    float *x = allocate(held * d * sizeof *x);
    check(source_stream_read(&s, 0, held, x, &e), &e);
    struct kmeans_options o = {.k = (uint32_t)v[2],
                               .restarts = 1,
                               .iterations = (uint32_t)v[3] - 1,
                               .threads = (unsigned)v[4],
                               .init = KMEANS_GIVEN,
                               .given = x};
    if (memory)
        feed_array(&f, x, n, d);
    else
        check(feed_reader(&f, n, d, v[5] << 20, source_stream_read, &s, &e), &e);
    double start = progress_now_s();
    check(kmeans_run_feed(&f, &o, &r, &e), &e);
    printf("{\"from\": \"%s\", \"k\": %u, \"pass_s\": %.4f, \"passes\": %u, \"labels\": \"%016llx\"}\n",
           argv[1], o.k, (progress_now_s() - start) / (r.iterations + 1), r.iterations + 1,
           (unsigned long long)XXH3_64bits(r.labels, n * sizeof *r.labels));
    kmeans_result_close(&r);
    feed_close(&f);
    feature_dump_close(dump);
    free(clips);
    free(mean);
    free(x);
    return 0;
}
