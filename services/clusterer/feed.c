#include "services/clusterer/feed.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

void feed_array(struct feed *f, const float *x, uint64_t n, uint32_t d)
{
    *f = (struct feed){.n = n, .d = d, .x = x, .block = n};
}

int feed_reader(struct feed *f, uint64_t n, uint32_t d, uint64_t memory, feed_read read, void *arg,
                struct err *e)
{
    uint64_t steps = memory / (2 * (uint64_t)FEED_STEP * d * sizeof(float));
    uint64_t most = rows_chunks(n, FEED_STEP);
    steps = steps > most ? most : steps;
    *f = (struct feed){.n = n, .d = d, .read = read, .arg = arg, .block = (steps ? steps : 1) * FEED_STEP};
    for (int i = 0; i < 2; i++)
        f->buffer[i] = malloc(f->block * d * sizeof(float));
    if (f->buffer[0] && f->buffer[1])
        return 0;
    feed_close(f);
    return err_sys(e, ENOMEM, "read rows in blocks of %llu", (unsigned long long)f->block);
}

void feed_close(struct feed *f)
{
    for (int i = 0; i < 2; i++) {
        free(f->buffer[i]);
        f->buffer[i] = NULL;
    }
}

/* One block's reading, on its own thread. */
struct reading {
    const struct feed *f;
    uint64_t first, rows;
    float *out;
    int rc;
    struct err err;
};

static void *read_block(void *arg)
{
    struct reading *r = arg;
    r->rc = r->f->read(r->f->arg, r->first, r->rows, r->out, &r->err);
    return NULL;
}

/* One block's work. */
struct working {
    const float *x;
    uint64_t first, rows;
    uint32_t d;
    size_t chunk;
    feed_work work;
    void *arg;
};

static void work_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    const struct working *w = arg;
    uint64_t at = chunk * w->chunk, left = w->rows - at;
    w->work(w->arg, w->x + at * w->d, w->first + at, left < w->chunk ? (size_t)left : w->chunk, worker);
}

static uint64_t rows_from(const struct feed *f, uint64_t first)
{
    return f->n - first < f->block ? f->n - first : f->block;
}

int feed_run(struct feed *f, unsigned threads, const atomic_bool *stop, size_t chunk, feed_work work,
             void *arg, struct err *e)
{
    struct reading r = {.f = f, .rows = rows_from(f, 0), .out = f->buffer[f->front]};
    struct working w = {.x = f->x, .rows = r.rows, .d = f->d, .chunk = chunk, .work = work, .arg = arg};
    bool done = true, more = !f->x && r.rows < f->n;
    if (!f->x && f->n > 0 && !f->primed)
        read_block(&r);
    for (uint64_t at = 0; done && r.rc == 0 && at < f->n; at += w.rows) {
        pthread_t reader;
        bool ahead = false;
        w.first = at;
        w.rows = rows_from(f, at);
        w.x = f->x ? f->x : r.out;
        if (more) { /* behind the last block comes the next pass's first */
            r.first = at + w.rows < f->n ? at + w.rows : 0;
            r.rows = rows_from(f, r.first);
            r.out = f->buffer[r.out == f->buffer[0]];
            ahead = pthread_create(&reader, NULL, read_block, &r) == 0;
        }
        done = rows_run(threads, rows_chunks(w.rows, chunk), stop, work_chunk, &w);
        if (ahead)
            pthread_join(reader, NULL);
        else if (more && done)
            read_block(&r);
    }
    f->primed = !f->x && done && r.rc == 0;
    f->front = r.out == f->buffer[1];
    if (r.rc) {
        if (e)
            *e = r.err;
        return r.rc;
    }
    return done ? 0 : err_set(e, XDC_ESTOPPED, "asked to stop");
}
