#include "services/clusterer/head_rows.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/sinkhorn.h"
#include "services/clusterer/softmax.h"
#include "services/clusterer/source.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define BLOCK 8192 /* rows of features that are read at once */
#define CHUNK 256  /* rows whose logits a thread makes at once */

struct block {
    const struct head_pair *pair;
    double half; /* lambda / 2 */
    float *m;    /* [rows, k], or NULL: */
    float *p[2]; /* [rows, k] */
    uint64_t rows;
    uint32_t k;
    float *features[2]; /* owned, [BLOCK, dim] */
    float *hidden;      /* owned, [threads][CHUNK][dim] */
    float *logits;      /* owned, [threads][2][CHUNK][k] */
    double *sums;       /* owned, [threads][k] */
    double *zeros;      /* owned, [k] */
    uint32_t dim;       /* the larger one */
    atomic_bool refused;
    _Atomic uint64_t bad; /* the first row whose outputs are of no use */
};

static void block_close(struct block *b)
{
    free(b->features[0]);
    free(b->features[1]);
    free(b->hidden);
    free(b->logits);
    free(b->sums);
    free(b->zeros);
}

static int block_init(struct block *b, const struct head_pair *pair, struct err *e)
{
    uint32_t k = pair->heads[0]->k, dims[2] = {pair->heads[0]->dim, pair->heads[1]->dim};
    *b =
        (struct block){.pair = pair, .k = k, .dim = dims[0] > dims[1] ? dims[0] : dims[1], .bad = UINT64_MAX};
    for (int i = 0; i < 2; i++)
        b->features[i] = malloc((size_t)BLOCK * dims[i] * sizeof(float));
    b->hidden = malloc((size_t)pair->threads * CHUNK * b->dim * sizeof(float));
    b->logits = malloc((size_t)pair->threads * 2 * CHUNK * k * sizeof(float));
    b->sums = malloc((size_t)pair->threads * k * sizeof(double));
    b->zeros = calloc(k, sizeof(double));
    if (b->features[0] && b->features[1] && b->hidden && b->logits && b->sums && b->zeros)
        return 0;
    block_close(b);
    return err_sys(e, ENOMEM, "outputs of heads");
}

static void mark_bad(struct block *b, uint64_t row)
{
    uint64_t seen = atomic_load(&b->bad);
    while (row < seen && !atomic_compare_exchange_weak(&b->bad, &seen, row))
        ;
}

/* Both heads' rows into what is wanted; false where they are of no use. */
static bool finish_row(const struct block *b, uint64_t row, const float *video, const float *audio, double *e)
{
    const float *logits[2] = {video, audio};
    double lse[2], most, sum;
    for (int i = 0; i < 2; i++) {
        for (uint32_t j = 0; j < b->k; j++)
            if (!(fabsf(logits[i][j]) <= SINKHORN_MAX))
                return false;
        softmax_row(logits[i], b->zeros, b->k, e, &most, &sum);
        lse[i] = most + log(sum);
        for (uint32_t j = 0; !b->m && j < b->k; j++)
            b->p[i][row * b->k + j] = (float)(e[j] / sum);
    }
    for (uint32_t j = 0; b->m && j < b->k; j++) {
        float v = (float)(b->half * (((double)video[j] - lse[0]) + ((double)audio[j] - lse[1])));
        b->m[row * b->k + j] = v;
        if (v < -SINKHORN_MAX)
            return false;
    }
    return true;
}

static void on_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    struct block *b = arg;
    const struct head_pair *pair = b->pair;
    uint64_t first = chunk * CHUNK;
    uint32_t rows = (uint32_t)(b->rows - first < CHUNK ? b->rows - first : CHUNK);
    float *out = b->logits + (size_t)worker * 2 * CHUNK * b->k, *audio = out + (size_t)CHUNK * b->k;
    for (int i = 0; i < 2; i++)
        if (head_forward(pair->heads[i], b->features[i] + first * pair->heads[i]->dim, rows,
                         b->hidden + (size_t)worker * CHUNK * b->dim, i ? audio : out))
            atomic_store(&b->refused, true);
    for (uint32_t i = 0; i < rows && !atomic_load(&b->refused); i++)
        if (!finish_row(b, first + i, out + (size_t)i * b->k, audio + (size_t)i * b->k,
                        b->sums + (size_t)worker * b->k))
            mark_bad(b, first + i);
}

static int read_block(struct block *b, const uint64_t *clips, struct err *e)
{
    const struct head_pair *p = b->pair;
    int rc = 0;
    for (int i = 0; rc == 0 && i < 2; i++) {
        uint32_t dim = p->heads[i]->dim;
        rc = source_read_clips(p->dump, p->encoders[i], clips, b->rows, b->features[i], p->stop, e);
        uint64_t bad = rc == 0 ? rows_first_bad(b->features[i], b->rows, dim, p->threads) : UINT64_MAX;
        if (bad != UINT64_MAX)
            rc = err_set(
                e, XDC_EFORMAT, "the features of clip %llu by the encoder %s are not finite, or too large",
                (unsigned long long)clips[bad], feature_dump_info(p->dump)->encoder[p->encoders[i]].name);
    }
    return rc;
}

static int run_block(struct block *b, const uint64_t *clips, struct err *e)
{
    const struct head_pair *p = b->pair;
    int rc = read_block(b, clips, e);
    if (rc)
        return rc;
    if (!rows_run(p->threads, rows_chunks(b->rows, CHUNK), p->stop, on_chunk, b))
        return err_set(e, XDC_ESTOPPED, "asked to stop");
    if (atomic_load(&b->refused))
        return err_set(e, -ENOMEM, "oneDNN refused a product of %u x %u x %u", CHUNK, b->k, b->dim);
    uint64_t bad = atomic_load(&b->bad);
    return bad == UINT64_MAX
               ? 0
               : err_set(e, XDC_EFORMAT, "the heads' outputs of clip %llu are not finite, or too large",
                         (unsigned long long)clips[bad]);
}

/* Closes the block. */
static int run_all(struct block *b, const uint64_t *clips, uint64_t n, struct err *e)
{
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < n; at += b->rows) {
        b->rows = n - at < BLOCK ? n - at : BLOCK;
        rc = run_block(b, clips + at, e);
        if (b->m)
            b->m += b->rows * b->k;
        for (int i = 0; !b->m && i < 2; i++)
            b->p[i] += b->rows * b->k;
    }
    block_close(b);
    return rc;
}

int head_rows_joint(const struct head_pair *p, const uint64_t *clips, uint64_t n, double lambda, float *m,
                    struct err *e)
{
    struct block b;
    int rc = block_init(&b, p, e);
    if (rc)
        return rc;
    b.half = lambda / 2;
    b.m = m;
    return run_all(&b, clips, n, e);
}

int head_rows_both(const struct head_pair *p, const uint64_t *clips, uint64_t n, float *video, float *audio,
                   struct err *e)
{
    struct block b;
    int rc = block_init(&b, p, e);
    if (rc)
        return rc;
    b.p[0] = video;
    b.p[1] = audio;
    return run_all(&b, clips, n, e);
}
