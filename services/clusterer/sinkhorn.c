#include "services/clusterer/sinkhorn.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/softmax.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK FEED_STEP
#define TOGETHER 4 /* rows whose exponentials are added to the columns at once */
/* Units of the sums: a chunk's part is at most CHUNK, or CHUNK * SINKHORN_MAX for sums of whole rows. */
#define COLUMN_UNIT 0x1p80
#define ROW_UNIT 0x1p50
/* The published rule. */
#define COMPAT_EVERY 10
#define COMPAT_SUM 0.1
/* What a row may add to the published rule's sum; more ends nothing either. */
#define COMPAT_MOST 1e6

/* One pass over the rows. */
struct pass {
    size_t k, room; /* room: k in whole cache lines of f64 */
    double factor;
    const double *shift; /* [k] */
    const double *bias;  /* [k]: log alpha */
    double *previous;    /* [n]: each row's -log beta - log n of the iteration before, or NULL */
    uint32_t *labels;    /* [n] */
    double *scratch;     /* owned, [threads][1 + TOGETHER][room] */

    pthread_mutex_t lock; /* of what follows; nothing in it depends on the order */
    __uint128_t *sum;     /* owned, [k] in COLUMN_UNIT */
    __uint128_t rows_sum; /* in ROW_UNIT */
    float *most;          /* owned, [k] */
    uint64_t bad;         /* the first bad row, or UINT64_MAX */
};

static void pass_close(struct pass *p)
{
    free(p->scratch);
    free(p->sum);
    free(p->most);
    pthread_mutex_destroy(&p->lock);
}

static int pass_init(struct pass *p, uint32_t k, unsigned threads, struct err *e)
{
    *p = (struct pass){.k = k, .room = (k + 7u) / 8 * 8, .bad = UINT64_MAX};
    pthread_mutex_init(&p->lock, NULL);
    p->scratch = aligned_alloc(64, threads * (1 + TOGETHER) * p->room * sizeof *p->scratch);
    p->sum = malloc(k * sizeof *p->sum);
    p->most = malloc(k * sizeof *p->most);
    if (p->scratch && p->sum && p->most)
        return 0;
    pass_close(p);
    return err_sys(e, ENOMEM, "Sinkhorn-Knopp of %u columns", k);
}

static double *part_of(const struct pass *p, unsigned worker)
{
    return p->scratch + worker * (1 + TOGETHER) * p->room;
}

static void give_part(struct pass *p, const double *part)
{
    pthread_mutex_lock(&p->lock);
    for (size_t j = 0; j < p->k; j++)
        p->sum[j] += (__uint128_t)(part[j] * COLUMN_UNIT);
    pthread_mutex_unlock(&p->lock);
}

static void give_rows(struct pass *p, double part)
{
    pthread_mutex_lock(&p->lock);
    p->rows_sum += (__uint128_t)(part * ROW_UNIT);
    pthread_mutex_unlock(&p->lock);
}

static int run(struct feed *rows, const struct sinkhorn_options *o, feed_work work, struct pass *p,
               struct err *e)
{
    memset(p->sum, 0, p->k * sizeof *p->sum);
    p->rows_sum = 0;
    int rc = feed_run(rows, o->threads, o->stop, CHUNK, work, p, e);
    if (rc == 0 && o->row_passes)
        atomic_fetch_add(o->row_passes, rows->n);
    return rc;
}

static bool sound(const float *x, size_t k)
{
    unsigned bad = 0;
    for (size_t j = 0; j < k; j++)
        bad |= !(x[j] <= 0 && x[j] >= -SINKHORN_MAX);
    return !bad;
}

/* Each column's largest value. */
static void on_most(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker)
{
    struct pass *p = arg;
    float *most = (float *)part_of(p, worker);
    uint64_t bad = UINT64_MAX;
    for (size_t j = 0; j < p->k; j++)
        most[j] = -SINKHORN_MAX;
    for (size_t i = 0; i < rows; i++, x += p->k) {
        if (!sound(x, p->k)) {
            bad = first + i;
            break;
        }
        for (size_t j = 0; j < p->k; j++)
            most[j] = x[j] > most[j] ? x[j] : most[j];
    }
    pthread_mutex_lock(&p->lock);
    p->bad = bad < p->bad ? bad : p->bad;
    for (size_t j = 0; j < p->k; j++)
        p->most[j] = most[j] > p->most[j] ? most[j] : p->most[j];
    pthread_mutex_unlock(&p->lock);
}

static int find_most(struct feed *rows, const struct sinkhorn_options *o, struct pass *p, struct err *e)
{
    for (size_t j = 0; j < p->k; j++)
        p->most[j] = -SINKHORN_MAX;
    int rc = rows->n ? run(rows, o, on_most, p, e) : err_set(e, XDC_EFORMAT, "there are no rows");
    if (rc == 0 && p->bad != UINT64_MAX)
        rc = err_set(e, XDC_EFORMAT,
                     "row %llu is no row of log-probabilities: a value is not finite, above 0 or below %g",
                     (unsigned long long)p->bad, (double)-SINKHORN_MAX);
    return rc;
}

/* Columns of exponentials. */
static void on_columns(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker)
{
    (void)first;
    struct pass *p = arg;
    double *part = part_of(p, worker);
    memset(part, 0, p->room * sizeof *part);
    for (size_t i = 0; i < rows; i++)
        softmax_add(part, x + i * p->k, p->factor, p->shift, p->k);
    give_part(p, part);
}

/* Of row `i`: |b / b' - 1| of the scaling before and the new one, whose logarithm is less by `lse` now. */
static double row_change(struct pass *p, uint64_t i, double lse)
{
    double change = fabs(expm1(lse - p->previous[i]));
    p->previous[i] = lse;
    return change < COMPAT_MOST ? change : COMPAT_MOST;
}

/* The rows' scalings given the columns', and with both the columns' masses. */
static void on_iteration(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker)
{
    struct pass *p = arg;
    double *part = part_of(p, worker), *e = part + p->room, changes = 0;
    memset(part, 0, p->room * sizeof *part);
    for (size_t i = 0; i < rows; i += TOGETHER) {
        double share[TOGETHER] = {0}, most, sum;
        for (size_t t = 0; t < TOGETHER && i + t < rows; t++) {
            softmax_row(x + (i + t) * p->k, p->bias, p->k, e + t * p->room, &most, &sum);
            share[t] = 1 / sum;
            changes += p->previous ? row_change(p, first + i + t, most + log(sum)) : 0;
        }
        if (i + TOGETHER > rows) /* what is left there may be no number */
            memset(e + (rows - i) * p->room, 0, (TOGETHER - (rows - i)) * p->room * sizeof *e);
        rows_axpy4(part, share, e, p->room, p->k);
    }
    give_part(p, part);
    if (p->previous)
        give_rows(p, changes);
}

static void on_labels(void *arg, const float *x, uint64_t first, size_t rows, unsigned worker)
{
    (void)worker;
    struct pass *p = arg;
    double below = 0;
    for (size_t i = 0; i < rows; i++, x += p->k) {
        size_t label = softmax_argmax(x, p->bias, p->k);
        p->labels[first + i] = (uint32_t)label;
        below -= (double)x[label];
    }
    give_rows(p, below > 0 ? below : 0);
}

int sinkhorn_mass(struct feed *rows, const struct sinkhorn_options *o, double *mass, struct err *e)
{
    struct pass p;
    double sum = 0;
    double *zeros = calloc(rows->d, sizeof *zeros);
    int rc = zeros ? pass_init(&p, rows->d, o->threads, e) : err_sys(e, ENOMEM, "masses of columns");
    if (rc) {
        free(zeros);
        return rc;
    }
    rc = find_most(rows, o, &p, e);
    p.factor = 2 / o->lambda;
    p.shift = zeros;
    if (rc == 0)
        rc = run(rows, o, on_columns, &p, e);
    for (size_t j = 0; rc == 0 && j < p.k; j++)
        sum += mass[j] = (double)p.sum[j] / COLUMN_UNIT;
    for (size_t j = 0; rc == 0 && j < p.k && sum > 0; j++)
        mass[j] /= sum;
    pass_close(&p);
    free(zeros);
    return rc;
}

/* The published code's start: all rows weigh the same, so log alpha = log sizes - log mean exp(column). */
static int start(struct feed *rows, const double *sizes, const struct sinkhorn_options *o, struct pass *p,
                 double *log_alpha, struct err *e)
{
    int rc = find_most(rows, o, p, e);
    for (size_t j = 0; rc == 0 && j < p->k; j++)
        log_alpha[j] = (double)p->most[j];
    p->factor = 1;
    p->shift = log_alpha;
    if (rc == 0)
        rc = run(rows, o, on_columns, p, e);
    for (size_t j = 0; rc == 0 && j < p->k; j++)
        log_alpha[j] = log(sizes[j]) - log_alpha[j] - log((double)p->sum[j] / COLUMN_UNIT / (double)rows->n);
    return rc;
}

static bool finished(const struct sinkhorn_options *o, const struct pass *p, uint32_t iteration, double error)
{
    if (!o->compat)
        return error <= o->tolerance;
    return iteration % COMPAT_EVERY == 0 && (double)p->rows_sum / ROW_UNIT <= COMPAT_SUM;
}

/* What a column got, in rows; never 0, of which there is no logarithm. */
static double got(const struct pass *p, size_t j)
{
    return (double)(p->sum[j] ? p->sum[j] : 1) / COLUMN_UNIT;
}

static int iterate(struct feed *rows, const double *sizes, const struct sinkhorn_options *o, struct pass *p,
                   struct sinkhorn_result *out, struct err *e)
{
    int rc = 0;
    p->bias = out->log_alpha;
    for (uint32_t i = 0; rc == 0 && i < o->iterations && !out->converged; i++) {
        for (size_t j = 0; i > 0 && j < p->k; j++)
            out->log_alpha[j] += log(sizes[j] * (double)rows->n / got(p, j));
        rc = run(rows, o, on_iteration, p, e);
        out->iterations = i + 1;
        out->error = 0;
        for (size_t j = 0; rc == 0 && j < p->k; j++) {
            double off = fabs(got(p, j) / (double)rows->n / sizes[j] - 1);
            out->error = off > out->error ? off : out->error;
        }
        out->converged = rc == 0 && finished(o, p, i, out->error);
    }
    return rc;
}

int sinkhorn_run(struct feed *rows, const double *sizes, const struct sinkhorn_options *o,
                 struct sinkhorn_result *out, struct err *e)
{
    struct pass p;
    *out = (struct sinkhorn_result){0};
    int rc = pass_init(&p, rows->d, o->threads, e);
    if (rc)
        return rc;
    out->labels = malloc((rows->n + 1) * sizeof *out->labels);
    out->log_alpha = malloc(p.k * sizeof *out->log_alpha);
    p.previous = o->compat ? calloc(rows->n + 1, sizeof *p.previous) : NULL;
    double *previous = p.previous;
    if (!out->labels || !out->log_alpha || (o->compat && !previous))
        rc = err_sys(e, ENOMEM, "Sinkhorn-Knopp of %llu rows", (unsigned long long)rows->n);
    if (rc == 0)
        rc = start(rows, sizes, o, &p, out->log_alpha, e);
    if (rc == 0)
        rc = iterate(rows, sizes, o, &p, out, e);
    p.labels = out->labels;
    if (rc == 0)
        rc = run(rows, o, on_labels, &p, e);
    if (rc == 0)
        out->cost = (double)p.rows_sum / ROW_UNIT / (double)rows->n / o->lambda;
    free(previous);
    pass_close(&p);
    if (rc)
        sinkhorn_result_close(out);
    return rc;
}

void sinkhorn_result_close(struct sinkhorn_result *r)
{
    free(r->labels);
    free(r->log_alpha);
    *r = (struct sinkhorn_result){0};
}

struct labelling {
    const float *x;
    uint64_t n;
    uint32_t k;
    const double *log_alpha;
    uint32_t *labels;
};

static void label_chunk(void *arg, uint64_t chunk, unsigned worker)
{
    (void)worker;
    const struct labelling *l = arg;
    uint64_t end = (chunk + 1) * CHUNK < l->n ? (chunk + 1) * CHUNK : l->n;
    for (uint64_t i = chunk * CHUNK; i < end; i++)
        l->labels[i] = (uint32_t)softmax_argmax(l->x + i * l->k, l->log_alpha, l->k);
}

void sinkhorn_labels(const float *x, uint64_t n, uint32_t k, const double *log_alpha, unsigned threads,
                     uint32_t *labels)
{
    struct labelling l = {x, n, k, log_alpha, labels};
    rows_run(threads, rows_chunks(n, CHUNK), NULL, label_chunk, &l);
}
