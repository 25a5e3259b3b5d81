#include "cli/cluster_sinkhorn.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "cli/cluster_figures.h"
#include "cli/cluster_input.h"
#include "lib/progress.h"
#include "lib/tensor.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/softmax.h"

/* What lives while the command runs. */
struct transport {
    const struct cluster_sinkhorn *o;
    float *x, *audio; /* owned, [n, k]: logits; x becomes the rows of the transport */
    uint64_t n;
    uint32_t k;
    uint32_t *truth; /* owned, or NULL */
    double *scratch; /* owned, [threads + 1][k], the last one zeros */
    double *sizes;   /* owned, [2][k]: sizes, masses */
    struct sinkhorn_result result;
    double load_s, softmax_s, iterations_s, write_s;
};

static int load_file(const struct transport *t, const char *file, float **x, uint64_t *n, uint32_t *k,
                     struct err *e)
{
    int rc = cluster_read_table(file, 0, x, n, k, e);
    return rc ? rc : cluster_check_finite(file, *x, *n, *k, t->o->options.threads, e);
}

static int load(struct transport *t, struct err *e)
{
    const struct cluster_sinkhorn *o = t->o;
    uint64_t rows = 0;
    uint32_t columns = 0;
    int rc = load_file(t, o->file, &t->x, &t->n, &t->k, e);
    if (rc == 0 && o->k && o->k != t->k)
        rc = err_set(e, XDC_EFORMAT, "%s has logits of %u clusters, --k asks for %llu; leave --k out",
                     o->file, t->k, (unsigned long long)o->k);
    if (rc == 0 && o->audio)
        rc = load_file(t, o->audio, &t->audio, &rows, &columns, e);
    if (rc == 0 && o->audio && (rows != t->n || columns != t->k))
        rc = err_set(e, XDC_EFORMAT,
                     "%s has the shape [%llu, %u], %s has [%llu, %u]; they must be of the same clips",
                     o->audio, (unsigned long long)rows, columns, o->file, (unsigned long long)t->n, t->k);
    if (rc == 0 && o->truth_file)
        rc = cluster_read_truth(o->truth_file, t->n, &t->truth, e);
    return rc;
}

static double log_sum(const struct transport *t, const float *logits, double *e)
{
    double most, sum;
    softmax_row(logits, t->scratch + (size_t)t->o->options.threads * t->k, t->k, e, &most, &sum);
    return most + log(sum);
}

/* Logits become lambda / 2 (log p + log q), q of the other file, or p again. */
static void on_rows(void *arg, uint64_t chunk, unsigned worker)
{
    const struct transport *t = arg;
    double half = t->o->options.lambda / 2, *e = t->scratch + (size_t)worker * t->k;
    uint64_t end = (chunk + 1) * ROWS_CHUNK < t->n ? (chunk + 1) * ROWS_CHUNK : t->n;
    for (uint64_t i = chunk * ROWS_CHUNK; i < end; i++) {
        float *x = t->x + i * t->k;
        const float *y = t->audio ? t->audio + i * t->k : x;
        double first = log_sum(t, x, e), second = t->audio ? log_sum(t, y, e) : first;
        for (uint32_t j = 0; j < t->k; j++)
            x[j] = (float)(half * (((double)x[j] - first) + ((double)y[j] - second)));
    }
}

static int make_rows(struct transport *t, struct err *e)
{
    unsigned threads = t->o->options.threads;
    t->scratch = calloc((size_t)(threads + 1) * t->k, sizeof *t->scratch);
    t->sizes = calloc(2 * (size_t)t->k, sizeof *t->sizes);
    if (!t->scratch || !t->sizes)
        return err_sys(e, ENOMEM, "logits of %u clusters", t->k);
    rows_run(threads, rows_chunks(t->n, ROWS_CHUNK), NULL, on_rows, t);
    free(t->audio);
    t->audio = NULL;
    return 0;
}

static int transport(struct transport *t, struct err *e)
{
    const struct cluster_sinkhorn *o = t->o;
    struct feed rows;
    int rc = 0;
    feed_array(&rows, t->x, t->n, t->k);
    marginals_draw(&o->marginals, t->k, t->sizes);
    if (o->marginals.kind != MARGINALS_UNIFORM) {
        rc = sinkhorn_mass(&rows, &o->options, t->sizes + t->k, e);
        if (rc == 0)
            rc = marginals_pair(t->sizes, t->sizes + t->k, t->k, o->options.compat, e);
    }
    if (rc == 0)
        rc = sinkhorn_run(&rows, t->sizes, &o->options, &t->result, e);
    return rc ? err_wrap(e, "%s", o->file) : 0;
}

static int write_files(const struct transport *t, struct err *e)
{
    struct tensor labels = {.dtype = TENSOR_I32, .ndim = 1, .shape = {t->n}, .data = t->result.labels};
    struct tensor alpha = {.dtype = TENSOR_F64, .ndim = 1, .shape = {t->k}, .data = t->result.log_alpha};
    int rc = npy_write(t->o->out, &labels, e);
    if (rc == 0 && t->o->alpha_out)
        rc = npy_write(t->o->alpha_out, &alpha, e);
    return rc;
}

static void print_json(const struct transport *t, json_t *figures)
{
    const struct cluster_sinkhorn *o = t->o;
    const struct sinkhorn_result *r = &t->result;
    json_t *j = json_pack("{s:s, s:s?, s:I, s:s, s:i, s:f, s:s, s:b, s:I, s:i}", "file", o->file, "audio",
                          o->audio, "rows", (json_int_t)t->n, "method", "sinkhorn", "k", (int)t->k, "lambda",
                          o->options.lambda, "marginals", o->marginals_name, "compat", o->options.compat,
                          "seed", (json_int_t)o->marginals.seed, "threads", (int)o->options.threads);
    json_t *found = json_pack("{s:f, s:i, s:f, s:b}", "cost", r->cost, "iterations", (int)r->iterations,
                              "error", r->error, "converged", r->converged);
    json_t *seconds = json_pack("{s:f, s:f, s:f, s:f}", "load", t->load_s, "softmax", t->softmax_s,
                                "iterations", t->iterations_s, "write", t->write_s);
    cluster_figures_print_json(j, found, figures, seconds);
}

static void print_text(const struct transport *t, const struct quality_sizes *q, const json_t *figures)
{
    const struct sinkhorn_result *r = &t->result;
    printf("%s: %llu rows into %u clusters\n", t->o->out, (unsigned long long)t->n, t->k);
    printf("cost %.9g, masses off by %.3g after %u iterations%s; rows in a cluster %llu to %llu, median %g; "
           "entropy %.4f of at most %.4f\n",
           r->cost, r->error, r->iterations, r->converged ? "" : ", not converged",
           (unsigned long long)q->min, (unsigned long long)q->max, q->median, q->entropy, log((double)t->k));
    cluster_figures_print_truth(figures);
    printf("seconds: load %.3f, softmax %.3f, iterations %.3f, write %.3f\n", t->load_s, t->softmax_s,
           t->iterations_s, t->write_s);
}

static int run(struct transport *t, struct err *e)
{
    struct quality_sizes sizes;
    json_t *figures;
    double at = progress_now_s();
    int rc = load(t, e);
    t->load_s = cluster_lap(&at);
    if (rc == 0)
        rc = make_rows(t, e);
    t->softmax_s = cluster_lap(&at);
    if (rc == 0)
        rc = transport(t, e);
    t->iterations_s = cluster_lap(&at);
    if (rc == 0)
        rc = write_files(t, e);
    t->write_s = cluster_lap(&at);
    if (rc == 0)
        rc = cluster_figures(t->result.labels, t->truth, t->n, t->k, &sizes, &figures, e);
    if (rc)
        return rc;
    if (t->o->json)
        print_json(t, figures);
    else
        print_text(t, &sizes, figures);
    json_decref(figures);
    return 0;
}

int cluster_sinkhorn_run(const struct cluster_sinkhorn *o, struct err *e)
{
    struct transport t = {.o = o};
    int rc = run(&t, e);
    free(t.x);
    free(t.audio);
    free(t.truth);
    free(t.scratch);
    free(t.sizes);
    sinkhorn_result_close(&t.result);
    return rc;
}
