#include "services/clusterer/rows.h"
#include "lib/cpus.h"
#include "services/clusterer/vector_units.h"

#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <string.h>

#define THREADS_MAX 1024

struct run {
    uint64_t chunks;
    const atomic_bool *stop;
    rows_work work;
    void *arg;
    _Atomic uint64_t next;
    _Atomic unsigned workers;
    atomic_bool stopped;
};

unsigned rows_threads(int64_t configured)
{
    int64_t n = configured > 0 ? configured : cpus_usable();
    return n > THREADS_MAX ? THREADS_MAX : (unsigned)n;
}

uint64_t rows_chunks(uint64_t n, uint64_t size)
{
    return n / size + (n % size != 0);
}

static void *run_worker(void *arg)
{
    struct run *r = arg;
    unsigned worker = atomic_fetch_add(&r->workers, 1);
    omp_set_num_threads(1); /* of this thread alone: oneDNN would start a team per worker */
    for (;;) {
        if (r->stop && atomic_load(r->stop)) {
            atomic_store(&r->stopped, true);
            return NULL;
        }
        uint64_t chunk = atomic_fetch_add(&r->next, 1);
        if (chunk >= r->chunks)
            return NULL;
        r->work(r->arg, chunk, worker);
    }
}

bool rows_run(unsigned threads, uint64_t chunks, const atomic_bool *stop, rows_work work, void *arg)
{
    struct run r = {.chunks = chunks, .stop = stop, .work = work, .arg = arg};
    pthread_t ids[THREADS_MAX];
    unsigned started = 0;
    /* A thread that cannot be started only costs time: the others take its chunks. */
    for (unsigned i = 1; i < threads && i < chunks && i < THREADS_MAX; i++)
        if (pthread_create(&ids[started], NULL, run_worker, &r) == 0)
            started++;
    run_worker(&r);
    for (unsigned i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    return !atomic_load(&r.stopped);
}

/* No multiplication is fused with an addition (-ffp-contract=off), so all vector units give the same bits. */
static double sum_lanes(const float lane[ROWS_LANES])
{
    double s = 0;
    for (size_t l = 0; l < ROWS_LANES; l++)
        s += (double)lane[l];
    return s;
}

BODY void distance_body(const float *a, const float *b, size_t d, double *out)
{
    float lane[ROWS_LANES] = {0};
    size_t i = 0;
    for (; i + ROWS_LANES <= d; i += ROWS_LANES)
        for (size_t l = 0; l < ROWS_LANES; l++) {
            float t = a[i + l] - b[i + l];
            lane[l] += t * t;
        }
    for (size_t l = 0; i < d; i++, l++) {
        float t = a[i] - b[i];
        lane[l] += t * t;
    }
    *out = sum_lanes(lane);
}
DISPATCH(distance, (const float *a, const float *b, size_t d, double *out), (a, b, d, out))

double rows_distance(const float *a, const float *b, size_t d)
{
    double out;
    distance_any(a, b, d, &out);
    return out;
}

BODY void norm_body(const float *a, size_t d, double *out)
{
    float lane[ROWS_LANES] = {0};
    size_t i = 0;
    for (; i + ROWS_LANES <= d; i += ROWS_LANES)
        for (size_t l = 0; l < ROWS_LANES; l++)
            lane[l] += a[i + l] * a[i + l];
    for (size_t l = 0; i < d; i++, l++)
        lane[l] += a[i] * a[i];
    *out = sum_lanes(lane);
}
DISPATCH(norm, (const float *a, size_t d, double *out), (a, d, out))

double rows_norm(const float *a, size_t d)
{
    double out;
    norm_any(a, d, &out);
    return out;
}

BODY void add_body(double *restrict sum, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += (double)x[i];
}
DISPATCH(add, (double *sum, const float *x, size_t n), (sum, x, n))

void rows_add(double *sum, const float *x, size_t n)
{
    add_any(sum, x, n);
}

BODY void axpy4_body(double *restrict y, const double *a, const double *restrict x, size_t stride, size_t n)
{
    const double a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
    const double *x1 = x + stride, *x2 = x1 + stride, *x3 = x2 + stride;
    for (size_t i = 0; i < n; i++)
        y[i] += a0 * x[i] + a1 * x1[i] + a2 * x2[i] + a3 * x3[i];
}
DISPATCH(axpy4, (double *y, const double *a, const double *x, size_t stride, size_t n), (y, a, x, stride, n))

void rows_axpy4(double *y, const double a[4], const double *x, size_t stride, size_t n)
{
    axpy4_any(y, a, x, stride, n);
}

BODY void distance64_body(const float *a, const float *b, size_t d, double *out)
{
    double lane[ROWS_LANES] = {0};
    size_t i = 0;
    for (; i + ROWS_LANES <= d; i += ROWS_LANES)
        for (size_t l = 0; l < ROWS_LANES; l++) {
            double t = (double)a[i + l] - (double)b[i + l];
            lane[l] += t * t;
        }
    for (size_t l = 0; i < d; i++, l++) {
        double t = (double)a[i] - (double)b[i];
        lane[l] += t * t;
    }
    double s = 0;
    for (size_t l = 0; l < ROWS_LANES; l++)
        s += lane[l];
    *out = s;
}
DISPATCH(distance64, (const float *a, const float *b, size_t d, double *out), (a, b, d, out))

double rows_distance64(const float *a, const float *b, size_t d)
{
    double out;
    distance64_any(a, b, d, &out);
    return out;
}

BODY void norm64_body(const float *a, size_t d, double *out)
{
    double lane[ROWS_LANES] = {0};
    size_t i = 0;
    for (; i + ROWS_LANES <= d; i += ROWS_LANES)
        for (size_t l = 0; l < ROWS_LANES; l++)
            lane[l] += (double)a[i + l] * (double)a[i + l];
    for (size_t l = 0; i < d; i++, l++)
        lane[l] += (double)a[i] * (double)a[i];
    double s = 0;
    for (size_t l = 0; l < ROWS_LANES; l++)
        s += lane[l];
    *out = s;
}
DISPATCH(norm64, (const float *a, size_t d, double *out), (a, d, out))

double rows_norm64(const float *a, size_t d)
{
    double out;
    norm64_any(a, d, &out);
    return out;
}

BODY uint64_t fixed(float x, double scale)
{
    double v = (double)x * scale + ROWS_FIXED_ZERO; /* the sum's low bits hold the product's integer part */
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

BODY void fixed_add_body(uint64_t *restrict sum, const float *restrict x, double scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += fixed(x[i], scale);
}
DISPATCH(fixed_add, (uint64_t * sum, const float *x, double scale, size_t n), (sum, x, scale, n))

void rows_fixed_add(uint64_t *sum, const float *x, double scale, size_t n)
{
    fixed_add_any(sum, x, scale, n);
}

BODY void fixed_move_body(uint64_t *restrict from, uint64_t *restrict to, const float *restrict x,
                          double scale, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = fixed(x[i], scale);
        from[i] -= v;
        to[i] += v;
    }
}
DISPATCH(fixed_move, (uint64_t * from, uint64_t *to, const float *x, double scale, size_t n),
         (from, to, x, scale, n))

void rows_fixed_move(uint64_t *from, uint64_t *to, const float *x, double scale, size_t n)
{
    fixed_move_any(from, to, x, scale, n);
}

struct finite_check {
    const float *x;
    uint64_t n;
    uint32_t d;
    _Atomic uint64_t first_bad;
};

static void check_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    (void)worker;
    struct finite_check *f = arg;
    uint64_t end = (chunk + 1) * ROWS_CHUNK < f->n ? (chunk + 1) * ROWS_CHUNK : f->n;
    for (uint64_t i = chunk * ROWS_CHUNK; i < end; i++) {
        if (rows_norm(f->x + i * f->d, f->d) < ROWS_NORM_MAX) /* false for NaN */
            continue;
        uint64_t seen = atomic_load(&f->first_bad);
        while (i < seen && !atomic_compare_exchange_weak(&f->first_bad, &seen, i))
            ;
        return;
    }
}

uint64_t rows_first_bad(const float *x, uint64_t n, uint32_t d, unsigned threads)
{
    struct finite_check f = {.x = x, .n = n, .d = d, .first_bad = UINT64_MAX};
    rows_run(threads, rows_chunks(n, ROWS_CHUNK), NULL, check_chunk, &f);
    return f.first_bad;
}
