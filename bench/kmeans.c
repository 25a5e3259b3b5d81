/* kmeans: seconds of a k-means pass over the rows of a file, and CPU seconds of it and of nothing but its
 * matrix product by dnnl_sgemm on as many threads, in turns, as one JSON line; with MEMORY_MIB also of a pass
 * that reads the rows from the file through so much memory, none of it left in the page cache. Usage:
 * bench_kmeans ROWS.f32 N D K PASSES THREADS ROUNDS [MEMORY_MIB]; the first K rows are the first centroids.
 * bench/kmeans.py makes the file and compares. */
#include <fcntl.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "services/clusterer/kmeans.h"
#include "services/clusterer/row_store.h"
#include "services/clusterer/rows.h"

enum { ROWS = 1024, COLUMNS = 256, ROUNDS_MAX = 64 };

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *allocate(size_t size)
{
    void *p = malloc(size);
    if (!p)
        abort();
    return p;
}

static float *read_rows(const char *path, size_t n)
{
    float *x = allocate(n * sizeof *x);
    FILE *f = fopen(path, "rb");
    if (!f || fread(x, sizeof *x, n, f) != n) {
        fprintf(stderr, "kmeans: %s does not hold %zu numbers\n", path, n);
        exit(66);
    }
    fclose(f);
    return x;
}

struct product {
    const float *x;
    float *scores; /* [threads, ROWS, COLUMNS] */
    int64_t d, k;
};

static void multiply(void *arg, uint64_t chunk, unsigned worker)
{
    const struct product *p = arg;
    float *scores = p->scores + (size_t)worker * ROWS * COLUMNS;
    for (int64_t c = 0; c < p->k; c += COLUMNS) {
        int64_t width = p->k - c < COLUMNS ? p->k - c : COLUMNS;
        if (dnnl_sgemm('N', 'T', ROWS, width, p->d, 1.0f, p->x + chunk * ROWS * (size_t)p->d, p->d,
                       p->x + c * p->d, p->d, 0.0f, scores, width) != dnnl_success)
            abort();
    }
}

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void die(const struct err *e)
{
    fprintf(stderr, "kmeans: %s\n", e->msg);
    exit(err_exit_status(e->code));
}

/* Reads from the disk, not from what an earlier pass left in memory. */
static int read_cold(void *arg, uint64_t first, uint64_t n, float *out, struct err *e)
{
    const struct row_store *s = arg;
    int rc = row_store_read(arg, first, n, out, e);
    posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
    return rc;
}

/* Seconds of a pass. */
static double cluster(struct feed *f, const struct kmeans_options *o, struct kmeans_result *r)
{
    struct err e;
    double start = seconds(CLOCK_MONOTONIC);
    if (kmeans_run_feed(f, o, r, &e) < 0)
        die(&e);
    return (seconds(CLOCK_MONOTONIC) - start) / (r->iterations + 1);
}

/* The same of rows that are read through `memory` bytes; the labels must not differ. */
static double cluster_file(const char *path, uint64_t n, uint32_t d, uint64_t memory,
                           const struct kmeans_options *o, const struct kmeans_result *same)
{
    struct row_store s = {.d = d, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    struct kmeans_result r;
    struct feed f;
    struct err e;
    if (s.fd < 0 || feed_reader(&f, n, d, memory, read_cold, &s, &e) < 0)
        die(&e);
    double took = cluster(&f, o, &r);
    if (memcmp(r.labels, same->labels, n * sizeof *r.labels) != 0)
        abort();
    kmeans_result_close(&r);
    feed_close(&f);
    close(s.fd);
    return took;
}

int main(int argc, char **argv)
{
    if (argc < 8)
        return 64;
    uint64_t v[7] = {0};
    for (int i = 2; i < argc && i < 9; i++)
        v[i - 2] = strtoull(argv[i], NULL, 10);
    uint64_t n = v[0], chunks = n / ROWS;
    int rounds = (int)(v[5] < 1 ? 1 : v[5] > ROUNDS_MAX ? ROUNDS_MAX : v[5]);
    float *x = read_rows(argv[1], n * v[1]);
    struct kmeans_options o = {.k = (uint32_t)v[2],
                               .restarts = 1,
                               .iterations = (uint32_t)v[3] - 1,
                               .threads = (unsigned)v[4],
                               .init = KMEANS_GIVEN,
                               .given = x};
    struct product p = {x, allocate(o.threads * ROWS * COLUMNS * sizeof(float)), (int64_t)v[1], o.k};
    double product[ROUNDS_MAX], pass[ROUNDS_MAX], cpu[ROUNDS_MAX], ratio[ROUNDS_MAX], file[ROUNDS_MAX] = {0},
                                                                                      objective = 0;
    uint32_t passes = 0;
    for (int i = 0; i < rounds; i++) {
        struct kmeans_result r;
        struct feed f;
        double start = seconds(CLOCK_PROCESS_CPUTIME_ID);
        rows_run(o.threads, chunks, NULL, multiply, &p);
        product[i] = (seconds(CLOCK_PROCESS_CPUTIME_ID) - start) * (double)n / (double)(chunks * ROWS);
        feed_array(&f, x, n, (uint32_t)v[1]);
        double used = seconds(CLOCK_PROCESS_CPUTIME_ID);
        pass[i] = cluster(&f, &o, &r);
        cpu[i] = (seconds(CLOCK_PROCESS_CPUTIME_ID) - used) / (r.iterations + 1);
        if (v[6])
            file[i] = cluster_file(argv[1], n, (uint32_t)v[1], v[6] << 20, &o, &r) / pass[i];
        passes = r.iterations + 1;
        ratio[i] = product[i] / cpu[i];
        objective = r.objective;
        kmeans_result_close(&r);
    }
    printf("{\"pass_s\": %.6f, \"cpu_s\": %.6f, \"product_s\": %.6f, \"of_product\": %.4f, \"passes\": %u, "
           "\"objective\": %.9g, \"file_over_memory\": %.4f}\n",
           median(pass, rounds), median(cpu, rounds), median(product, rounds), median(ratio, rounds), passes,
           objective, median(file, rounds));
    free(p.scores);
    free(x);
    return 0;
}
