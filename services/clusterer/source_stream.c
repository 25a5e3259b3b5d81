#include "services/clusterer/source_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "services/clusterer/distinct.h"
#include "services/clusterer/normalize.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/source.h"

#define BLOCK (4 * (uint64_t)FEED_STEP) /* 8 MiB of 512 columns */

int source_stream_read(void *arg, uint64_t first, uint64_t n, float *out, struct err *e)
{
    const struct source_stream *s = arg;
    int rc = source_read_clips(s->dump, s->encoder, s->clips + first, n, out, s->stop, e);
    return rc < 0 || !s->mean ? rc : normalize_subtract(out, n, s->d, s->mean, 1, s->stop, e);
}

/* Block after block of the rows until one is refused or `work` has seen enough (1). */
static int each_block(const struct source_stream *s,
                      int (*work)(void *arg, const float *x, uint64_t first, uint64_t n, struct err *e),
                      void *arg, struct err *e)
{
    uint64_t most = s->n < BLOCK ? s->n : BLOCK;
    float *x = malloc(most * s->d * sizeof *x + 1);
    int rc = x ? 0 : err_sys(e, ENOMEM, "%llu rows", (unsigned long long)most);
    for (uint64_t at = 0; rc == 0 && at < s->n; at += most) {
        uint64_t rows = s->n - at < most ? s->n - at : most;
        rc = source_stream_read((void *)s, at, rows, x, e);
        if (rc == 0)
            rc = work(arg, x, at, rows, e);
    }
    free(x);
    return rc < 0 ? rc : 0;
}

struct mean {
    const struct source_stream *s;
    unsigned threads;
    double *sums;
    uint64_t bad;
};

static int add_block(void *arg, const float *x, uint64_t first, uint64_t n, struct err *e)
{
    struct mean *m = arg;
    uint64_t bad = rows_first_bad(x, n, m->s->d, m->threads);
    if (bad != UINT64_MAX) {
        m->bad = first + bad;
        return 1;
    }
    return normalize_add(x, n, m->s->d, m->threads, m->s->stop, m->sums, e);
}

int source_stream_mean(const struct source_stream *s, unsigned threads, double *mean, uint64_t *out_bad,
                       struct err *e)
{
    struct mean m = {s, threads, mean, UINT64_MAX};
    memset(mean, 0, s->d * sizeof *mean);
    int rc = each_block(s, add_block, &m, e);
    for (uint32_t j = 0; j < s->d; j++)
        mean[j] /= (double)s->n;
    *out_bad = m.bad;
    return rc;
}

static int look_at_block(void *arg, const float *x, uint64_t first, uint64_t n, struct err *e)
{
    struct distinct *d = arg;
    (void)first;
    (void)e;
    distinct_add(d, x, n);
    return d->count == d->most;
}

int source_stream_distinct(const struct source_stream *s, uint32_t most, uint32_t *out, struct err *e)
{
    struct distinct d;
    int rc = distinct_init(&d, s->d, most, e);
    if (rc == 0)
        rc = each_block(s, look_at_block, &d, e);
    *out = d.count;
    distinct_close(&d);
    return rc;
}
