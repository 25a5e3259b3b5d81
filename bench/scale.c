/* scale: what a run of N clips costs in time, memory and bytes where nothing is decoded or computed by a
 * network. Usage: bench_scale order|ledger|table|quality|manifest|dump|pass N DIR [THREADS]; one part a
 * process, so that its peak memory is its own. Prints one JSON line; files in DIR are removed. One clip a
 * video; 32 clips a batch, k 256, features 512 x f16. bench/scale.py makes the table. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/clip.h"
#include "lib/feature_dump.h"
#include "lib/fsutil.h"
#include "lib/label_table.h"
#include "lib/ledger.h"
#include "lib/manifest.h"
#include "lib/rng.h"
#include "lib/wire.h"
#include "services/clusterer/kmeans.h"
#include "services/clusterer/quality.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/stable_ids.h"
#include "services/trainer/draw.h"

enum { BATCH = 32, K = 256, DIM = 512, CLASSES = 1000 };

static void check(int rc, const struct err *e)
{
    if (rc == 0)
        return;
    fprintf(stderr, "scale: %s\n", e->msg);
    exit(err_exit_status(rc));
}

static void *allocate(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (!p)
        abort();
    return p;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds since the last call. */
static double lap(void)
{
    static double at;
    double now = now_s(), took = now - at;
    at = now;
    return took;
}

/* The process's memory without what is mapped from files, MiB. */
static double anonymous_mib(void)
{
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return (double)kib / 1024;
}

static double peak_mib(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)r.ru_maxrss / 1024;
}

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double file_bytes(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : (double)st.st_size;
}

/* An epoch's order walked through, with the key of a lease made and packed for every position, as
 * leases_out does; its hold-out asked for every clip. */
static void run_order(uint64_t n)
{
    struct clip_set set;
    struct clip_holdout hold;
    struct draw d;
    struct err e;
    uint8_t packed[128];
    uint64_t sum = 0, bytes = 0, held = 0;
    check(clip_set_init(&set, n, 1, &e), &e);
    for (uint64_t v = 0; v < n; v++)
        clip_set_add(&set, v);
    clip_set_finish(&set);
    clip_holdout_init(&hold, 1, 0.01, 5000, n, 1);
    double set_s = lap();
    draw_init_shuffled(&d, &set, 1, "train", 3, 0, 0);
    for (uint64_t p = 0; p < n; p++) {
        Xdc__LeaseKey key = XDC__LEASE_KEY__INIT;
        key.incarnation = 0x123456789abcdef;
        key.phase = 5;
        key.round = 3;
        key.epoch = 7;
        key.position = p;
        key.clip = draw_at(&d, p);
        key.attempt = 1;
        bytes += xdc__lease_key__pack(&key, packed) + (clip_augment_seed(1, 3, 7, key.clip) & 1);
        sum += key.clip;
        held += clip_holdout_has(&hold, key.clip);
    }
    double walk_s = lap(), mib = anonymous_mib();
    if (sum != n / 2 * (n - 1 + n % 2) || held != hold.held || !bytes)
        abort();
    printf("{\"set_s\": %.3f, \"walk_s\": %.3f, \"ns_per_position\": %.1f, \"anonymous_mib\": %.1f", set_s,
           walk_s, 1e9 * walk_s / (double)n, mib);
    draw_close(&d);
    clip_set_close(&set);
}

static void count_record(void *arg, const struct ledger_record *r)
{
    *(uint64_t *)arg += r->disposition == LEDGER_TRAINED;
}

static void run_ledger(uint64_t n, const char *dir)
{
    struct ledger_mark mark = {0}, end;
    struct ledger_record batch[BATCH];
    struct ledger *l;
    struct err e;
    char path[PATH_MAX];
    check(fs_path(path, &e, "%s/ledger", dir), &e);
    check(ledger_open(path, &mark, &l, &e), &e);
    lap();
    for (uint64_t at = 0; at < n; at += BATCH) {
        uint32_t rows = n - at < BATCH ? (uint32_t)(n - at) : BATCH;
        for (uint32_t i = 0; i < rows; i++)
            batch[i] = (struct ledger_record){.step = at / BATCH,
                                              .position = at + i,
                                              .clip = n - at - i,
                                              .labels = 77,
                                              .sample = at * 31 + i,
                                              .disposition = LEDGER_TRAINED};
        check(ledger_append(l, batch, rows, &e), &e);
    }
    check(ledger_sync(l, &end, &e), &e);
    ledger_close(l);
    double append_s = lap();
    uint64_t hash = 0, trained = 0;
    check(fs_path(path, &e, "%s/ledger/epoch-000000.led", dir), &e);
    check(ledger_read(path, count_record, &trained, &hash, &e), &e);
    double verify_s = lap();
    if (hash != end.hash || trained != n)
        abort();
    printf("{\"append_s\": %.3f, \"verify_s\": %.3f, \"bytes_per_position\": %.2f, \"anonymous_mib\": %.1f",
           append_s, verify_s, file_bytes(path) / (double)n, anonymous_mib());
}

/* Labels that agree with `base` in seven of eight clips. */
static uint32_t *make_labels(uint64_t n, uint32_t k, uint64_t salt, const uint32_t *base)
{
    uint32_t *labels = allocate(n * sizeof *labels);
    struct rng r;
    rng_init(&r, salt);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = rng_next(&r);
        labels[i] = base && v >> 61 ? base[i] : (uint32_t)(v % k);
    }
    return labels;
}

static void run_table(uint64_t n, const char *dir)
{
    struct label_info info = {.clips = n, .sources = 2, .source = {{"video", K}, {"audio", K}}};
    uint32_t *video = make_labels(n, K, 1, NULL), *audio = make_labels(n, K, 2, video);
    const uint32_t *const labels[] = {video, audio};
    struct label_table *t;
    struct err e;
    char path[PATH_MAX];
    uint64_t hash, sum[2] = {0}, want[2] = {0};
    check(fs_path(path, &e, "%s/table.xdcl", dir), &e);
    lap();
    check(label_table_write(path, &info, labels, "{}", &hash, &e), &e);
    double write_s = lap(), before = 0;
    for (uint64_t i = 0; i < n; i++) {
        want[0] += video[i];
        want[1] += audio[i];
    }
    free(video);
    free(audio);
    before = anonymous_mib();
    lap();
    check(label_table_open(path, &t, &e), &e);
    double open_s = lap();
    for (uint64_t i = 0; i < n; i++)
        for (uint32_t s = 0; s < 2; s++)
            sum[s] += label_table_get(t, s, i);
    double read_s = lap();
    if (sum[0] != want[0] || sum[1] != want[1])
        abort();
    printf("{\"write_s\": %.3f, \"open_s\": %.3f, \"read_s\": %.3f, \"bytes_per_clip_and_source\": %.4f, "
           "\"reader_anonymous_mib\": %.1f",
           write_s, open_s, read_s, file_bytes(path) / 2 / (double)n, anonymous_mib() - before);
    label_table_close(t);
}

/* What cluster_job measures of one source: sizes, agreement with the round before, the other source and the
 * truth, and stable ids. */
static void run_quality(uint64_t n)
{
    uint32_t *before = make_labels(n, K, 1, NULL), *now = make_labels(n, K, 2, before),
             *truth = make_labels(n, CLASSES, 3, NULL), id[K];
    struct quality_sizes sizes;
    struct quality_agreement a;
    struct quality_truth t;
    struct err e;
    double start = anonymous_mib();
    lap();
    check(quality_sizes(now, n, K, &sizes, &e), &e);
    double sizes_s = lap();
    check(stable_ids_find(now, before, n, K, id, &e), &e);
    double ids_s = lap();
    check(quality_agreement(now, before, n, &a, &e), &e);
    double agreement_s = lap();
    double churn = quality_churn(now, before, n);
    lap();
    check(quality_truth(now, truth, n, &t, &e), &e);
    double truth_s = lap();
    if (sizes.labelled != n || a.ami < 0.5 || churn > 0.2 || t.both != n)
        abort();
    printf("{\"sizes_s\": %.3f, \"stable_ids_s\": %.3f, \"agreement_s\": %.3f, \"truth_s\": %.3f, "
           "\"labels_mib\": %.1f, \"peak_over_labels_mib\": %.1f",
           sizes_s, ids_s, agreement_s, truth_s, start, peak_mib() - start);
}

/* Videos as of a large set: names of 11 characters in folders, size, duration, streams, a class, a split;
 * then what every program does at its start, and what the trainer does: a look at every video. */
static void run_manifest(uint64_t n, const char *dir)
{
    struct manifest *m;
    struct err e;
    static struct manifest_video v = {.fps = 29.97,
                                      .width = 340,
                                      .height = 256,
                                      .video_stream = 0,
                                      .audio_stream = 1,
                                      .sample_rate = 44100,
                                      .channels = 2,
                                      .split = MANIFEST_SPLIT_TRAIN};
    char path[PATH_MAX];
    double uris = 0;
    uint64_t seen = 0;
    check(fs_path(path, &e, "%s/m.lmdb", dir), &e);
    check(manifest_create(path, dir, &m, &e), &e);
    lap();
    for (uint64_t i = 0; i < n; i++) {
        uint64_t h = rng_key(5, "uri", 0, 0, i);
        uris += snprintf(v.uri, sizeof v.uri, "%03" PRIx64 "/%011" PRIx64 ".mp4", i >> 14, h >> 20);
        v.size_bytes = 1000000 + h % 4000000;
        v.duration_s = 10 + 1e-6 * (double)(h % 1000000);
        v.mtime_ns = 1700000000000000000 + (int64_t)(h % 1000000000000000);
        v.truth = -1;
        check(manifest_append(m, &v, &e), &e);
    }
    double append_s = lap();
    check(manifest_commit(m, &e), &e);
    double commit_s = lap();
    manifest_close(m);
    double written = anonymous_mib();
    lap();
    check(manifest_open(path, &m, &e), &e);
    double open_s = lap(), cpu = cpu_s();
    for (uint64_t i = 0; i < n; i++) {
        check(manifest_get(m, i, &v, &e), &e);
        seen += v.split == MANIFEST_SPLIT_TRAIN;
    }
    double walk_s = lap(), walk_cpu_s = cpu_s() - cpu;
    if (seen != n)
        abort();
    printf(
        "{\"append_s\": %.3f, \"commit_s\": %.3f, \"open_s\": %.3f, \"walk_s\": %.3f, \"walk_cpu_s\": %.3f, "
        "\"bytes_per_video\": %.1f, "
        "\"uri_bytes\": %.1f, \"reader_anonymous_mib\": %.1f",
        append_s, commit_s, open_s, walk_s, walk_cpu_s, file_bytes(path) / (double)n, uris / (double)n,
        anonymous_mib() - written);
    manifest_close(m);
}

/* Rows around 1000 centres that no file holds: each a function of its number. */
struct made {
    uint64_t n;
    float *pool;    /* [1 << 16] standard normal numbers */
    float *centres; /* [CLASSES, DIM] */
};

static void made_init(struct made *m, uint64_t n)
{
    struct rng r;
    rng_init(&r, 9);
    m->n = n;
    m->pool = allocate((1 << 16) * sizeof *m->pool);
    m->centres = allocate((size_t)CLASSES * DIM * sizeof *m->centres);
    for (uint32_t i = 0; i < 1 << 16; i++)
        m->pool[i] = (float)rng_normal(&r);
    for (uint32_t i = 0; i < CLASSES * DIM; i++)
        m->centres[i] = (float)(0.3 * rng_normal(&r));
}

static void make_row(const struct made *m, uint64_t i, float *out)
{
    uint64_t h = rng_key(3, "row", 0, 0, i);
    const float *noise = m->pool + h % ((1 << 16) - DIM), *centre = m->centres + h / 65536 % CLASSES * DIM;
    float scale = (float)(h >> 40 & 255) / 256 + 0.5f;
    for (uint32_t j = 0; j < DIM; j++)
        out[j] = centre[j] + scale * noise[j];
}

static int read_made(void *arg, uint64_t first, uint64_t n, float *out, struct err *e)
{
    (void)e;
    for (uint64_t i = 0; i < n; i++)
        make_row(arg, first + i, out + i * DIM);
    return 0;
}

static int read_dump(void *arg, uint64_t first, uint64_t n, float *out, struct err *e)
{
    return feature_dump_read(arg, 0, first, n, out, e);
}

/* Labels of all rows by the nearest of K centroids, through 256 MiB, as the clusterer reads rows that do not
 * fit: two passes over the rows, of which the first takes their norms. */
static void assign(const struct made *m, feed_read read, void *arg, unsigned threads)
{
    float *centroids = allocate((size_t)K * DIM * sizeof *centroids);
    uint32_t *labels = allocate(m->n * sizeof *labels);
    struct kmeans_options o = {.k = K, .threads = threads};
    struct feed f;
    struct err e;
    uint64_t in_use = 0;
    static uint64_t counts[K];
    for (uint32_t c = 0; c < K; c++)
        make_row(m, c * 37, centroids + (size_t)c * DIM);
    lap();
    check(feed_reader(&f, m->n, DIM, 256 << 20, read, arg, &e), &e);
    check(kmeans_nearest_feed(&f, &o, centroids, labels, &e), &e);
    double took = lap();
    for (uint64_t i = 0; i < m->n; i++)
        in_use += counts[labels[i]]++ == 0;
    if (in_use < K / 2)
        abort();
    printf(", \"assign_s\": %.3f, \"us_per_row\": %.3f, \"threads\": %u", took, 1e6 * took / (double)m->n,
           threads);
    feed_close(&f);
    free(labels);
    free(centroids);
}

static void run_dump(uint64_t n, const char *dir, unsigned threads)
{
    struct feature_info info = {.rows = n,
                                .total = n,
                                .ranks = 1,
                                .dtype = FEATURE_F16,
                                .encoders = 1,
                                .encoder = {{"video", DIM, 0}}};
    struct made m;
    struct feature_store *s;
    struct feature_dump *d;
    struct err e;
    float row[DIM];
    uint64_t hash;
    char path[PATH_MAX];
    made_init(&m, n);
    check(fs_path(path, &e, "%s/round", dir), &e);
    check(fs_mkdirs(path, &e), &e);
    check(fs_path(path, &e, "%s/round/rank-0", dir), &e);
    check(feature_store_create(path, &info, &s, &e), &e);
    lap();
    for (uint64_t i = 0; i < n; i++) {
        make_row(&m, i, row);
        check(feature_store_put(s, 0, i, row, &e), &e);
    }
    check(feature_store_seal(s, &hash, &e), &e);
    feature_store_close(s);
    double write_s = lap(), write_cpu_s = cpu_s(), mib = anonymous_mib();
    check(fs_path(path, &e, "%s/round", dir), &e);
    check(feature_dump_open(path, &d, &e), &e);
    double open_s = lap();
    check(fs_path(path, &e, "%s/round/rank-0/data.mdb", dir), &e);
    printf("{\"write_s\": %.3f, \"write_cpu_s\": %.3f, \"open_s\": %.3f, \"bytes_per_row\": %.1f, "
           "\"writer_anonymous_mib\": %.1f",
           write_s, write_cpu_s, open_s, file_bytes(path) / (double)n, mib);
    assign(&m, read_dump, d, threads);
    feature_dump_close(d);
    free(m.pool);
    free(m.centres);
}

static void run_pass(uint64_t n, unsigned threads)
{
    struct made m;
    made_init(&m, n);
    printf("{\"rows_mib\": 0");
    assign(&m, read_made, &m, threads);
    free(m.pool);
    free(m.centres);
}

int main(int argc, char **argv)
{
    struct err e;
    char dir[PATH_MAX];
    if (argc < 4)
        return 64;
    uint64_t n = strtoull(argv[2], NULL, 10);
    unsigned threads = rows_threads(argc > 4 ? atoi(argv[4]) : 0);
    check(fs_path(dir, &e, "%s/bench-scale-%d", argv[3], (int)getpid()), &e);
    check(fs_mkdirs(dir, &e), &e);
    lap();
    if (strcmp(argv[1], "order") == 0)
        run_order(n);
    else if (strcmp(argv[1], "ledger") == 0)
        run_ledger(n, dir);
    else if (strcmp(argv[1], "table") == 0)
        run_table(n, dir);
    else if (strcmp(argv[1], "quality") == 0)
        run_quality(n);
    else if (strcmp(argv[1], "manifest") == 0)
        run_manifest(n, dir);
    else if (strcmp(argv[1], "dump") == 0)
        run_dump(n, dir, threads);
    else
        run_pass(n, threads);
    printf(", \"part\": \"%s\", \"n\": %" PRIu64 ", \"peak_mib\": %.1f, \"cpu_s\": %.1f}\n", argv[1], n,
           peak_mib(), cpu_s());
    check(fs_remove_tree(dir, &e), &e);
    return 0;
}
