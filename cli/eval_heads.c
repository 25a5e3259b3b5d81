#include "cli/eval_heads.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/eval_pairs.h"
#include "lib/tensor.h"
#include "services/clusterer/head_output.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/softmax.h"

#define CHUNK 256 /* clips whose logits a thread makes at once */

static const char *const modalities[2] = {"video", "audio"};

struct labelling {
    const struct eval_heads_options *o;
    const struct eval_rows *files[2]; /* video, audio */
    struct eval_pairs pairs;          /* owned; of r and with, which are: */
    const uint64_t *rows[2];          /* [n] of files: video, audio */
    struct safetensors *heads;        /* owned */
    uint32_t k, dim;                  /* dim: the larger one */
    uint32_t *labels, *best;          /* owned, [n]: of the head at hand, and of the best one so far */
    double *costs;                    /* owned, [n] */
    struct head head[2];              /* owned: of the head at hand */
    float *scratch;                   /* owned, [threads][CHUNK][2 dim + 2 k] */
    double *sums;                     /* owned, [threads][2 k], the second half zeros */
    atomic_bool refused;
    _Atomic uint64_t bad; /* the first clip whose outputs are of no use */
};

static void close_all(struct labelling *w)
{
    eval_pairs_close(&w->pairs);
    if (w->heads)
        safetensors_close(w->heads);
    head_close(&w->head[0]);
    head_close(&w->head[1]);
    free(w->labels);
    free(w->best);
    free(w->costs);
    free(w->scratch);
    free(w->sums);
}

/* Which file is whose, and that the heads were trained with both encoders. */
static int check_makers(struct labelling *w, const struct eval_rows *const r[2], struct err *e)
{
    const char *weights = safetensors_metadata(w->heads, "xdc.weights");
    if (!weights)
        return err_set(e, XDC_EFORMAT,
                       "%s: its metadata lacks xdc.weights: take one that `xdc export RUN "
                       "--heads` has written",
                       w->o->heads);
    for (int i = 0; i < 2; i++) {
        const struct eval_maker *m = &r[i]->maker;
        if (!*m->encoder || !*m->weights)
            return err_set(e, XDC_EMISMATCH,
                           "the rows of %s do not say by which weights they were made, so that nothing says "
                           "that the heads fit: export the encoder anew (not --ema) and embed with it",
                           r[i]->path);
        if (strcmp(m->weights, weights) != 0)
            return err_set(
                e, XDC_EMISMATCH,
                "%s was made by an encoder of the weights %s, the heads in %s were trained with %s: "
                "export encoders and heads of one run at one time",
                r[i]->path, m->weights, w->o->heads, weights);
        for (int is = 0; is < 2; is++)
            if (strcmp(m->encoder, modalities[is]) == 0)
                w->files[is] = r[i];
    }
    if (w->files[0] && w->files[1])
        return 0;
    return err_set(e, XDC_EMISMATCH, "%s and %s are both of the %s encoder: one must be of the other",
                   r[0]->path, r[1]->path, r[0]->maker.encoder);
}

/* A weight of a head that comes behind its features, or its last one; NULL: there is no such head. */
static const struct tensor *find_weight(const struct labelling *w, int modality, uint32_t number, bool first)
{
    char name[64];
    const struct tensor *t = NULL;
    const char *const parts[] = {first ? "1.weight" : "5.weight", "weight"};
    for (int i = 0; !t && i < 2; i++) {
        snprintf(name, sizeof name, "%s.heads.%u.%s", modalities[modality], number, parts[i]);
        t = safetensors_find(w->heads, name);
    }
    return t && t->ndim == 2 ? t : NULL;
}

/* How many heads, of how many outputs, of what features. */
static int measure_heads(struct labelling *w, struct eval_heads *out, struct err *e)
{
    const char *path = w->o->heads;
    while (out->heads < LABEL_HEADS_MAX && find_weight(w, 0, out->heads, false))
        out->heads++;
    if (out->heads == 0)
        return err_set(e, XDC_EFORMAT, "%s has no tensor video.heads.0.*: it is no file of heads", path);
    uint64_t k = find_weight(w, 0, 0, false)->shape[0];
    if (k < 1 || k > INT32_MAX)
        return err_set(e, XDC_EFORMAT, "%s: heads of %" PRIu64 " outputs", path, k);
    out->k = w->k = (uint32_t)k;
    for (int i = 0; i < 2; i++) {
        const struct tensor *t = find_weight(w, i, 0, true);
        uint32_t d = w->files[i]->d;
        w->dim = d > w->dim ? d : w->dim;
        if (t && t->shape[1] != d)
            return err_set(e, XDC_EMISMATCH,
                           "%s has %u columns, the %s heads in %s take %" PRIu64 ": embed without --maps",
                           w->files[i]->path, d, modalities[i], path, t->shape[1]);
    }
    return 0;
}

static int allocate(struct labelling *w, struct err *e)
{
    uint64_t n = w->pairs.n, threads = w->o->threads;
    w->labels = malloc(n * sizeof *w->labels);
    w->best = malloc(n * sizeof *w->best);
    w->costs = malloc(n * sizeof *w->costs);
    w->scratch = malloc(threads * CHUNK * 2 * ((size_t)w->dim + w->k) * sizeof *w->scratch);
    w->sums = calloc(threads * 2 * w->k, sizeof *w->sums);
    return w->labels && w->best && w->costs && w->scratch && w->sums
               ? 0
               : err_sys(e, ENOMEM, "labels of %" PRIu64 " clips", n);
}

/* Classes among the clips. */
static int count_classes(const struct labelling *w, const struct eval_rows *r, struct eval_heads *out,
                         struct err *e)
{
    bool *has = calloc(r->n_classes + 1u, sizeof *has);
    if (!has)
        return err_sys(e, ENOMEM, "%u classes", r->n_classes);
    for (uint64_t i = 0; i < w->pairs.n; i++) {
        uint32_t label = w->pairs.label[i];
        if (label == LABEL_NONE)
            continue;
        out->classes += !has[label];
        has[label] = true;
    }
    free(has);
    return out->classes > 1
               ? 0
               : err_set(e, XDC_EFORMAT, "%s: the clips have %u classes; two are needed to compare with",
                         r->path, out->classes);
}

/* Label and cost of a clip; false where the outputs are of no use. */
static bool label_clip(struct labelling *w, uint64_t clip, const float *video, const float *audio,
                       double *sums)
{
    const float *logits[2] = {video, audio};
    double lse[2], most, sum, best = -(double)INFINITY;
    for (int i = 0; i < 2; i++) {
        for (uint32_t j = 0; j < w->k; j++)
            if (!isfinite(logits[i][j]))
                return false;
        softmax_row(logits[i], sums + w->k, w->k, sums, &most, &sum);
        lse[i] = most + log(sum);
    }
    for (uint32_t j = 0; j < w->k; j++) {
        double v = ((double)video[j] - lse[0]) + ((double)audio[j] - lse[1]);
        if (v <= best)
            continue;
        best = v;
        w->labels[clip] = j;
    }
    w->costs[clip] = -best / 2;
    return true;
}

static void mark_bad(struct labelling *w, uint64_t clip)
{
    uint64_t seen = atomic_load(&w->bad);
    while (clip < seen && !atomic_compare_exchange_weak(&w->bad, &seen, clip))
        ;
}

static void on_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    struct labelling *w = arg;
    uint64_t first = chunk * CHUNK, left = w->pairs.n - first;
    uint32_t n = (uint32_t)(left < CHUNK ? left : CHUNK);
    float *x = w->scratch + (size_t)worker * CHUNK * 2 * ((size_t)w->dim + w->k);
    float *hidden = x + (size_t)CHUNK * w->dim, *out = hidden + (size_t)CHUNK * w->dim;
    float *logits[2] = {out, out + (size_t)CHUNK * w->k};
    for (int i = 0; i < 2; i++) {
        uint32_t d = w->files[i]->d;
        for (uint32_t c = 0; c < n; c++)
            memcpy(x + (size_t)c * d, w->files[i]->x + w->rows[i][first + c] * d, d * sizeof *x);
        if (head_forward(&w->head[i], x, n, hidden, logits[i]))
            atomic_store(&w->refused, true);
    }
    for (uint32_t c = 0; c < n && !atomic_load(&w->refused); c++)
        if (!label_clip(w, first + c, logits[0] + (size_t)c * w->k, logits[1] + (size_t)c * w->k,
                        w->sums + (size_t)worker * 2 * w->k))
            mark_bad(w, first + c);
}

/* Labels and cost of a head. */
static int run_head(struct labelling *w, uint32_t number, double *out_cost, struct err *e)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < 2; i++) {
        head_close(&w->head[i]);
        rc = head_load(w->heads, w->o->heads, modalities[i], number, w->files[i]->d, w->k, &w->head[i], e);
    }
    if (rc)
        return rc;
    atomic_store(&w->bad, UINT64_MAX);
    rows_run(w->o->threads, rows_chunks(w->pairs.n, CHUNK), NULL, on_chunk, w);
    uint64_t bad = atomic_load(&w->bad);
    if (atomic_load(&w->refused))
        return err_set(e, -ENOMEM, "oneDNN refused a product of %u x %u x %u", CHUNK, w->k, w->dim);
    if (bad != UINT64_MAX)
        return err_set(e, XDC_EFORMAT, "%s: outputs of head %u for row %" PRIu64 " of %s are not finite",
                       w->o->heads, number, w->rows[0][bad], w->files[0]->path);
    double cost = 0;
    for (uint64_t i = 0; i < w->pairs.n; i++)
        cost += w->costs[i];
    *out_cost = cost / (double)w->pairs.n;
    return 0;
}

static int judge_head(struct labelling *w, uint32_t number, struct eval_heads *out, struct err *e)
{
    struct eval_head *h = &out->head[number];
    const uint32_t *truth = w->pairs.label;
    int rc = run_head(w, number, &h->cost, e);
    if (rc == 0)
        rc = quality_sizes(w->labels, w->pairs.n, w->k, &h->sizes, e);
    if (rc == 0)
        rc = quality_agreement(w->labels, truth, w->pairs.n, &h->agreement, e);
    if (rc == 0)
        rc = quality_truth(w->labels, truth, w->pairs.n, &h->truth, e);
    if (rc)
        return rc;
    if (number == 0 || h->cost < out->head[out->by_cost].cost)
        out->by_cost = number;
    if (number == 0 || h->agreement.nmi > out->head[out->by_nmi].agreement.nmi) {
        out->by_nmi = number;
        memcpy(w->best, w->labels, w->pairs.n * sizeof *w->best);
    }
    return 0;
}

/* The best head's labels as labels of the first file's rows. */
static int spread(const struct labelling *w, const struct eval_rows *r, struct eval_heads *out, struct err *e)
{
    out->labels = malloc(r->n * sizeof *out->labels);
    if (!out->labels)
        return err_sys(e, ENOMEM, "%" PRIu64 " labels", r->n);
    for (uint64_t i = 0; i < r->n; i++)
        out->labels[i] = -1;
    for (uint64_t i = 0; i < w->pairs.n; i++)
        out->labels[w->pairs.first[i]] = (int32_t)w->best[i];
    return 0;
}

/* The heads' file, whose encoders' features these are, and the clips. */
static int prepare(struct labelling *w, const struct eval_rows *const r[2], struct eval_heads *out,
                   struct err *e)
{
    int rc = safetensors_open(w->o->heads, &w->heads, e);
    if (rc == 0)
        rc = check_makers(w, r, e);
    if (rc == 0)
        rc = measure_heads(w, out, e);
    if (rc == 0)
        rc = eval_pairs_match(r[0], r[1], w->o->part, &w->pairs, e);
    if (rc)
        return rc;
    bool swapped = w->files[0] == r[1];
    w->rows[0] = swapped ? w->pairs.second : w->pairs.first;
    w->rows[1] = swapped ? w->pairs.first : w->pairs.second;
    out->n = w->pairs.n;
    memcpy(out->only, w->pairs.only, sizeof out->only);
    rc = count_classes(w, r[0], out, e);
    return rc == 0 ? allocate(w, e) : rc;
}

int eval_heads(const struct eval_rows *r, const struct eval_rows *with, const struct eval_heads_options *o,
               struct eval_heads *out, struct err *e)
{
    const struct eval_rows *const files[2] = {r, with};
    struct labelling w = {.o = o};
    *out = (struct eval_heads){0};
    int rc = prepare(&w, files, out, e);
    for (uint32_t h = 0; rc == 0 && h < out->heads; h++)
        rc = judge_head(&w, h, out, e);
    if (rc == 0)
        rc = spread(&w, r, out, e);
    close_all(&w);
    return rc;
}

void eval_heads_close(struct eval_heads *h)
{
    free(h->labels);
    *h = (struct eval_heads){0};
}
