#include "cli/eval_linear.h"

#include <errno.h>
#include <linear.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "lib/memory.h"
#include "services/clusterer/rows.h"

#define TOLERANCE 1e-4

static void say_nothing(const char *text)
{
    (void)text;
}

int eval_design_create(const float *x, uint64_t n, uint32_t d, struct eval_design *out, struct err *e)
{
    *out = (struct eval_design){.n = n, .d = d};
    uint64_t nodes = 2 * n; /* the bias, and the end */
    for (uint64_t i = 0; i < n * d; i++)
        nodes += x[i] != 0;
    double need = (double)nodes * sizeof *out->nodes, room = memory_free();
    if (room > 0 && need > room)
        return err_set(e, -ENOMEM, "liblinear's form of %llu rows of %u takes %.1f GiB, %.1f GiB are free",
                       (unsigned long long)n, d, need / (1 << 30), room / (1 << 30));
    out->nodes = malloc(nodes * sizeof *out->nodes);
    out->rows = malloc((n + 1) * sizeof(struct feature_node *));
    if (!out->nodes || !out->rows) {
        eval_design_close(out);
        return err_sys(e, ENOMEM, "liblinear's form of %llu rows", (unsigned long long)n);
    }
    struct feature_node *to = out->nodes;
    for (uint64_t i = 0; i < n; i++) {
        out->rows[i] = to;
        for (uint32_t j = 0; j < d; j++)
            if (x[i * d + j] != 0)
                *to++ = (struct feature_node){.index = (int)j + 1, .value = (double)x[i * d + j]};
        *to++ = (struct feature_node){.index = (int)d + 1, .value = 1};
        *to++ = (struct feature_node){.index = -1};
    }
    return 0;
}

void eval_design_close(struct eval_design *s)
{
    free(s->nodes);
    free(s->rows);
    *s = (struct eval_design){0};
}

struct fitting {
    const struct eval_fit *fit;
    struct eval_model *model;
    struct problem problem; /* y is of each class's own */
    atomic_bool failed;
};

/* A class against the rest. */
static void fit_class(void *arg, uint64_t class, unsigned worker)
{
    (void)worker;
    struct fitting *s = arg;
    const struct eval_fit *fit = s->fit;
    struct problem p = s->problem;
    struct parameter how = {
        .solver_type = fit->loss == EVAL_LOGISTIC ? L2R_LR : L2R_L2LOSS_SVC, .eps = TOLERANCE, .C = fit->c};
    if (!s->model->trained[class])
        return;
    p.y = malloc(fit->n * sizeof *p.y);
    if (!p.y) {
        atomic_store(&s->failed, true);
        return;
    }
    for (uint64_t i = 0; i < fit->n; i++)
        p.y[i] = fit->labels[i] == class ? 1 : -1;
    struct model *m = train(&p, &how);
    double sign = m->label[0] == 1 ? 1 : -1;
    for (uint32_t j = 0; j <= s->model->d; j++)
        s->model->w[class * (s->model->d + 1) + j] = sign * m->w[j];
    free_and_destroy_model(&m);
    free(p.y);
}

int eval_model_fit(const struct eval_design *s, const struct eval_fit *fit, struct eval_model *out,
                   struct err *e)
{
    *out = (struct eval_model){.classes = fit->classes, .d = s->d, .loss = fit->loss};
    struct fitting f = {.fit = fit, .model = out};
    out->w = calloc((size_t)fit->classes * (s->d + 1), sizeof *out->w);
    out->trained = calloc(fit->classes, sizeof *out->trained);
    f.problem.x = malloc((fit->n + 1) * sizeof *f.problem.x);
    f.problem.l = (int)fit->n;
    f.problem.n = (int)s->d + 1;
    f.problem.bias = 1;
    int rc = 0;
    if (!out->w || !out->trained || !f.problem.x)
        rc = err_sys(e, ENOMEM, "classifiers of %u classes", fit->classes);
    for (uint64_t i = 0; rc == 0 && i < fit->n; i++) {
        f.problem.x[i] = s->rows[fit->rows[i]];
        out->trained[fit->labels[i]] = true;
    }
    set_print_string_function(say_nothing);
    if (rc == 0)
        rows_run(fit->threads, fit->classes, NULL, fit_class, &f);
    if (rc == 0 && atomic_load(&f.failed))
        rc = err_sys(e, ENOMEM, "classifiers of %u classes", fit->classes);
    free(f.problem.x);
    if (rc)
        eval_model_close(out);
    return rc;
}

void eval_model_close(struct eval_model *m)
{
    free(m->w);
    free(m->trained);
    *m = (struct eval_model){0};
}

void eval_model_scores(const struct eval_model *m, const struct feature_node *row, double *out)
{
    double sum = 0;
    for (uint32_t c = 0; c < m->classes; c++) {
        const double *w = m->w + (size_t)c * (m->d + 1);
        double f = 0;
        for (const struct feature_node *node = row; node->index > 0; node++)
            f += w[node->index - 1] * node->value;
        if (m->loss == EVAL_LOGISTIC)
            f = 1 / (1 + exp(-f));
        out[c] = m->trained[c] ? f : -INFINITY;
        sum += m->trained[c] ? f : 0;
    }
    for (uint32_t c = 0; m->loss == EVAL_LOGISTIC && sum > 0 && c < m->classes; c++)
        out[c] /= sum;
}
