/* feature_store: writing a dump of 512-d f16 rows, against the same rows written with write(2) to a flat
 * file, and one key a row into LMDB; each converts the same f32 rows and syncs once written. Rounds
 * alternate; medians. Usage: bench_feature_store DIR [rows dim rounds] */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/feature_store.h"
#include "lib/fsutil.h"
#include "lib/half.h"
#include "lib/progress.h"

enum { POOL = 4096, COMMIT_ROWS = 8192, FLAT_BYTES = 1 << 20, ROUNDS_MAX = 31 };

struct bench {
    char dir[PATH_MAX];
    uint64_t rows;
    uint32_t dim;
    float *pool; /* [POOL, dim] */
};

static void check(int rc, const char *what)
{
    if (rc == 0)
        return;
    fprintf(stderr, "feature_store: %s: %s\n", what, rc > 0 ? mdb_strerror(rc) : strerror(-rc));
    exit(1);
}

static const float *row_of(const struct bench *b, uint64_t row)
{
    return b->pool + row % POOL * b->dim;
}

static void write_store(const struct bench *b, const char *path)
{
    struct feature_info info = {.rows = b->rows,
                                .total = b->rows,
                                .ranks = 1,
                                .dtype = FEATURE_F16,
                                .encoders = 1,
                                .encoder = {{.name = "video", .dim = b->dim}}};
    struct feature_store *s;
    struct err e;
    uint64_t hash;
    int rc = feature_store_create(path, &info, &s, &e);
    for (uint64_t row = 0; rc == 0 && row < b->rows; row++)
        rc = feature_store_put(s, 0, row, row_of(b, row), &e);
    if (rc == 0)
        rc = feature_store_seal(s, &hash, &e);
    check(rc, e.msg);
    feature_store_close(s);
}

static void write_flat(const struct bench *b, const char *path)
{
    size_t row_bytes = b->dim * sizeof(uint16_t), room = FLAT_BYTES / row_bytes * row_bytes, used = 0;
    char file[PATH_MAX];
    uint16_t *buf = malloc(room);
    check(buf ? 0 : -ENOMEM, "buffer");
    check(fs_mkdirs(path, NULL), path);
    snprintf(file, sizeof file, "%.4000s/flat", path);
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    check(fd < 0 ? -errno : 0, file);
    for (uint64_t row = 0; row < b->rows; row++) {
        half_from_float(row_of(b, row), buf + used / 2, b->dim);
        used += row_bytes;
        if (used == room || row + 1 == b->rows) {
            check(fs_write_all(fd, buf, used, file, NULL), file);
            used = 0;
        }
    }
    check(fsync(fd) < 0 ? -errno : 0, file);
    close(fd);
    free(buf);
}

static void write_keys(const struct bench *b, const char *path)
{
    MDB_env *env;
    MDB_txn *txn = NULL;
    MDB_dbi db;
    check(fs_mkdirs(path, NULL), path);
    check(mdb_env_create(&env), "env");
    check(mdb_env_set_mapsize(env, b->rows * b->dim * 8 + (1 << 26)), "map");
    check(mdb_env_open(env, path, MDB_NOSYNC | MDB_NOLOCK, 0666), path);
    for (uint64_t row = 0; row < b->rows; row++) {
        if (!txn) {
            check(mdb_txn_begin(env, NULL, 0, &txn), "begin");
            check(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &db), "database");
        }
        MDB_val key = {sizeof row, &row}, value = {b->dim * sizeof(uint16_t), NULL};
        check(mdb_put(txn, db, &key, &value, MDB_APPEND | MDB_RESERVE), "put");
        half_from_float(row_of(b, row), value.mv_data, b->dim);
        if (row % COMMIT_ROWS == COMMIT_ROWS - 1 || row + 1 == b->rows) {
            check(mdb_txn_commit(txn), "commit");
            txn = NULL;
        }
    }
    check(mdb_env_sync(env, 1), "sync");
    mdb_env_close(env);
}

static const struct {
    const char *name, *file;
    void (*write)(const struct bench *b, const char *path);
} ways[] = {
    {"feature store", "data.mdb", write_store},
    {"flat write(2)", "flat", write_flat},
    {"row-per-key LMDB", "data.mdb", write_keys},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double run(const struct bench *b, int way, double *out_cpu_s, double *out_ratio)
{
    char path[PATH_MAX], file[PATH_MAX + 16];
    struct stat st;
    snprintf(path, sizeof path, "%.4000s/dump-%d", b->dir, way);
    check(fs_remove_tree(path, NULL), path);
    sync();
    double start_s = progress_now_s(), start_cpu_s = cpu_s();
    ways[way].write(b, path);
    double seconds = progress_now_s() - start_s;
    *out_cpu_s = cpu_s() - start_cpu_s;
    snprintf(file, sizeof file, "%s/%s", path, ways[way].file);
    check(stat(file, &st) < 0 ? -errno : 0, file);
    *out_ratio = (double)st.st_size / ((double)b->rows * b->dim * 2);
    check(fs_remove_tree(path, NULL), path);
    return seconds;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    struct bench b = {.rows = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000,
                      .dim = argc > 3 ? (uint32_t)atoi(argv[3]) : 512};
    int rounds = argc > 4 ? atoi(argv[4]) : 5;
    double seconds[WAYS][ROUNDS_MAX], cpu[WAYS][ROUNDS_MAX], ratio[WAYS] = {0};
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_feature_store DIR [rows dim rounds]\n");
        return 64;
    }
    snprintf(b.dir, sizeof b.dir, "%s", argv[1]);
    b.pool = malloc((size_t)POOL * b.dim * sizeof *b.pool);
    check(b.pool ? 0 : -ENOMEM, "rows");
    for (size_t i = 0; i < (size_t)POOL * b.dim; i++)
        b.pool[i] = (float)(i * 2654435761u % 100003) / 1000;
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < WAYS; i++) {
            int way = (r + i) % WAYS;
            seconds[way][r] = run(&b, way, &cpu[way][r], &ratio[way]);
        }
    for (int way = 0; way < WAYS; way++) {
        qsort(seconds[way], (size_t)rounds, sizeof(double), by_value);
        qsort(cpu[way], (size_t)rounds, sizeof(double), by_value);
    }
    double raw = (double)b.rows * b.dim * 2, ours = seconds[0][rounds / 2];
    printf("%llu rows of %u dimensions in f16, %d rounds: medians (least to greatest)\n",
           (unsigned long long)b.rows, b.dim, rounds);
    for (int way = 0; way < WAYS; way++)
        printf("%-18s %6.2f s (%.2f to %.2f) %5.0f MB/s, of the CPU %5.2f s; size / raw %.4f; ours is %.2fx, "
               "by CPU %.2fx\n",
               ways[way].name, seconds[way][rounds / 2], seconds[way][0], seconds[way][rounds - 1],
               raw / seconds[way][rounds / 2] / 1e6, cpu[way][rounds / 2], ratio[way],
               seconds[way][rounds / 2] / ours, cpu[way][rounds / 2] / cpu[0][rounds / 2]);
    free(b.pool);
    return 0;
}
