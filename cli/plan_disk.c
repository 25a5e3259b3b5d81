/* The bytes of a run: on the disk, and in the memory of trainer and clusterer. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include "cli/plan.h"
#include "lib/feature_store.h"
#include "lib/ledger.h"

/* bench/RESULTS.md, "Scale". */
#define MANIFEST_VIDEO_BYTES 86.0
#define PASS_ROW_BYTES 20.0
#define FIGURES_CLIP_BYTES 16.0

#define REPLICAS 2.0 /* that a clusterer on another host keeps */

#define PAGE 4096.0 /* of a sealed file, with a head of 16 bytes (docs/formats.md) */
#define PAGE_HEAD 16.0

static void put(struct plan_bytes *b, const char *name, double bytes, const char *fmt, ...) PRINTF_LIKE(4, 5);

static void put(struct plan_bytes *b, const char *name, double bytes, const char *fmt, ...)
{
    va_list ap;
    if (bytes <= 0 || b->n == PLAN_BYTES_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(b->part[b->n].how, sizeof b->part[b->n].how, fmt, ap);
    va_end(ap);
    b->part[b->n].name = name;
    b->part[b->n++].bytes = bytes;
    b->total += bytes;
}

static const char *plural(double n, const char *one, const char *many)
{
    return n == 1 ? one : many;
}

/* Pages of the blocks, which are full but for the last one. */
static double dump_bytes(const struct run_plan *p, unsigned value)
{
    double bytes = 0, passes = p->method.groups > 0 ? p->method.groups : 1;
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        double dim = p->encoder[i].net.dim, full = floor(p->clips / FEATURE_BLOCK_ROWS);
        double rest = p->clips - full * FEATURE_BLOCK_ROWS;
        if (!p->encoder[i].wanted)
            continue;
        bytes += full * ceil((FEATURE_BLOCK_ROWS * dim * value + PAGE_HEAD) / PAGE) * PAGE;
        bytes += rest > 0 ? ceil((rest * dim * value + PAGE_HEAD) / PAGE) * PAGE : 0;
    }
    return bytes * passes;
}

static void put_features(const struct run_plan *p, struct plan_bytes *b)
{
    static const char *const names[] = {"f32", "f16", "bf16"};
    static const enum feature_dtype dtypes[] = {FEATURE_F32, FEATURE_F16, FEATURE_BF16};
    const struct conf *c = &p->conf;
    double dumps = plan_sum(p, PHASE_EXTRACT).round, keep = (double)c->features.keep_rounds;
    double one = dump_bytes(p, (unsigned)feature_value_bytes(dtypes[c->features.dtype]));
    double kept = keep > 0 ? fmin(dumps, keep + 1) : dumps; /* a new one beside those that are kept */
    double dims = p->encoder[NET_VIDEO].net.dim + p->encoder[NET_AUDIO].net.dim;
    put(b, "features", kept * one, "%.0f %s of %.0f rows x %.0f + %.0f x %s%s", kept,
        plural(kept, "dump", "dumps"), p->clips,
        p->encoder[NET_VIDEO].wanted ? p->encoder[NET_VIDEO].net.dim : 0,
        p->encoder[NET_AUDIO].wanted ? p->encoder[NET_AUDIO].net.dim : 0, names[c->features.dtype],
        p->method.groups > 1 ? ", each group's" : "");
    if (c->cluster.dir[0])
        put(b, "replicas", fmin(dumps, REPLICAS) * one, "of the newest %.0f of them in cluster.dir",
            fmin(dumps, REPLICAS));
    if (c->train.harvest)
        put(b, "harvest", p->clips * (sizeof(float) * dims + sizeof(uint64_t)), "%.0f rows x %.0f x f32",
            p->clips, dims);
}

static void put_labels(const struct run_plan *p, struct plan_bytes *b)
{
    int64_t k = p->conf.cluster.k;
    double bytes = k <= 255 ? 1 : k <= 65535 ? 2 : 4, tables = plan_sum(p, PHASE_LABELS).round;
    put(b, "labels", tables * p->sources * p->clips * bytes, "%.0f tables of %.0f clips x %u %s x %.0f %s",
        tables, p->clips, p->sources, plural(p->sources, "source", "sources"), bytes,
        plural(bytes, "byte", "bytes"));
}

/* Parameters, with heads and without, and statistics. */
struct numbers {
    double encoders, heads, statistics;
};

static struct numbers numbers_of(const struct run_plan *p)
{
    struct numbers n = {0};
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        const struct plan_encoder *x = &p->encoder[i];
        n.encoders += x->net.parameters;
        n.heads += x->head.parameters * x->heads;
        n.statistics += x->net.statistics + x->head.statistics * x->heads;
    }
    return n;
}

static void put_checkpoints(const struct run_plan *p, struct plan_bytes *b)
{
    const struct conf *c = &p->conf;
    struct numbers n = numbers_of(p);
    double copies = c->train.ema > 0 ? 3 : 2;
    double one = sizeof(float) * (copies * n.encoders + 2 * n.heads + n.statistics);
    double kept = (double)c->train.keep + 1;
    kept += c->train.keep_every > 0 ? floor(p->steps / (double)c->train.keep_every) : 0;
    put(b, "checkpoints", kept * one,
        "%.0f x 4 bytes x (%.0f x %.0f parameters + %.0f of heads and their momentum + %.0f statistics)",
        kept, copies, n.encoders, 2 * n.heads, n.statistics);
    bool both = c->net.encoders == ENCODERS_BOTH;
    if (both || c->train.rounds > 0)
        put(b, "export", sizeof(float) * (copies - 1) * (n.encoders + n.statistics), "%.0f encoders",
            (both ? 2 : 1) * (copies - 1));
}

void plan_disk(const struct run_plan *p, struct plan_bytes *out)
{
    const struct plan_videos *v = &p->videos;
    *out = (struct plan_bytes){0};
    if (v->manifest_bytes > 0)
        put(out, "manifest", v->manifest_bytes, "as it is");
    else
        put(out, "manifest", (double)v->all * MANIFEST_VIDEO_BYTES, "%llu videos x %.0f bytes, measured",
            (unsigned long long)v->all, MANIFEST_VIDEO_BYTES);
    put_features(p, out);
    put_labels(p, out);
    put(out, "ledger", p->trained * sizeof(struct ledger_record), "%.0f positions x %zu bytes", p->trained,
        sizeof(struct ledger_record));
    put_checkpoints(p, out);
}

static void put_clustering(const struct run_plan *p, struct plan_bytes *b)
{
    const struct conf *c = &p->conf;
    double rows = p->clips - p->held, dim = 0;
    for (unsigned i = 0; i < NET_ENCODERS; i++)
        dim = c->method == METHOD_CDC ? dim + p->encoder[i].net.dim : fmax(dim, p->encoder[i].net.dim);
    if (c->method == METHOD_SELAVI)
        dim = (double)c->cluster.k;
    put(b, "rows", sizeof(float) * p->clips * dim, "%.0f rows x %.0f x f32; above cluster.memory_mib on disk",
        p->clips, dim);
    put(b, "passes", PASS_ROW_BYTES * rows, "%.0f bytes a row, measured", PASS_ROW_BYTES);
    double clip = FIGURES_CLIP_BYTES + 4 * (double)p->sources + 4 + 4 + 8;
    put(b, "clips", clip * p->clips, "%.0f bytes a clip: figures, labels, those before, classes, list", clip);
}

void plan_memory(const struct run_plan *p, struct plan_bytes *trainer, struct plan_bytes *clusterer)
{
    struct memory_need need;
    *trainer = *clusterer = (struct plan_bytes){0};
    if (plan_sum(p, PHASE_TRAIN).round > 0) {
        memory_need(&p->conf, &p->spec, &need);
        put(trainer, "activations", need.activations, "of the encoder that needs more, in f32");
        put(trainer, "weights", need.weights, "with momentum and gradients");
        put(trainer, "samples", need.samples, "decoded, waiting for their step, in the host's memory");
        put(trainer, "checkpoint", need.checkpoint, "the copy that is written, in the host's memory");
    }
    if (plan_sum(p, PHASE_LABELS).round > 0)
        put_clustering(p, clusterer);
}
