#include "services/clusterer/align.h"
#include "services/clusterer/match.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/vector_units.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SLICE 8     /* video outputs of one piece of work */
#define F32_ROWS 64 /* whose differences are added up in f32 */
/* Costs become whole numbers, for match.h: at most ALIGN_ROWS_MAX each. */
#define UNIT 0x1p24

struct costs {
    const float *video, *audio; /* [n, k] */
    uint64_t n;
    uint32_t k;
    double *cost; /* owned, [k, k] */
    float *part;  /* owned, [threads][k] */
};

BODY void differences_body(float *restrict sum, float p, const float *restrict audio, size_t k)
{
    for (size_t j = 0; j < k; j++)
        sum[j] += fabsf(p - audio[j]);
}
DISPATCH(differences, (float *sum, float p, const float *audio, size_t k), (sum, p, audio, k))

/* cost [j, :] of a slice of the video outputs. */
static void cost_slice(void *arg, uint64_t slice, unsigned worker)
{
    struct costs *c = arg;
    size_t k = c->k, first = slice * SLICE, end = first + SLICE < k ? first + SLICE : k;
    float *part = c->part + worker * SLICE * k;
    for (uint64_t row = 0; row < c->n; row += F32_ROWS) {
        uint64_t rows = c->n - row < F32_ROWS ? c->n - row : F32_ROWS;
        memset(part, 0, (end - first) * k * sizeof *part);
        for (uint64_t i = row; i < row + rows; i++)
            for (size_t j = first; j < end; j++)
                differences_any(part + (j - first) * k, c->video[i * k + j], c->audio + i * k, k);
        rows_add(c->cost + first * k, part, (end - first) * k);
    }
}

/* The matching wants weights above 0, the larger the better. */
static int assign(const struct costs *c, uint32_t *out, struct err *e)
{
    size_t cells = (size_t)c->k * c->k;
    double most = 0;
    struct match_cell *cell = malloc(cells * sizeof *cell);
    if (!cell)
        return err_sys(e, ENOMEM, "alignment of %u outputs", c->k);
    for (size_t i = 0; i < cells; i++)
        most = fmax(most, c->cost[i]);
    double unit = fmin(UNIT, 0x1p60 / ((double)cells * (most + 1)));
    for (size_t i = 0; i < cells; i++)
        cell[i] = (struct match_cell){.row = (uint32_t)(i / c->k),
                                      .column = (uint32_t)(i % c->k),
                                      .weight = 1 + (uint64_t)((most - c->cost[i]) * unit)};
    int rc = match_maximum(cell, cells, c->k, c->k, out, e);
    free(cell);
    return rc;
}

int align_outputs(const float *video, const float *audio, uint64_t n, uint32_t k, unsigned threads,
                  const atomic_bool *stop, uint32_t *out, double *out_before, double *out_after,
                  struct err *e)
{
    struct costs c = {.video = video, .audio = audio, .n = n, .k = k};
    c.cost = calloc((size_t)k * k, sizeof *c.cost);
    c.part = malloc((size_t)threads * SLICE * k * sizeof *c.part);
    int rc = c.cost && c.part ? 0 : err_sys(e, ENOMEM, "alignment of %u outputs", k);
    if (rc == 0 && !rows_run(threads, rows_chunks(k, SLICE), stop, cost_slice, &c))
        rc = err_set(e, XDC_ESTOPPED, "asked to stop");
    if (rc == 0)
        rc = assign(&c, out, e);
    *out_before = *out_after = 0;
    for (uint32_t j = 0; rc == 0 && n > 0 && j < k; j++) {
        *out_before += c.cost[(size_t)j * k + j] / (double)n;
        *out_after += c.cost[(size_t)j * k + out[j]] / (double)n;
    }
    free(c.cost);
    free(c.part);
    return rc;
}
