#include "cli/cluster_figures.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "lib/progress.h"

/* Agreement with the truth, or NULL. */
static int measure_truth(const uint32_t *labels, const uint32_t *truth, uint64_t n, json_t **out,
                         struct err *e)
{
    struct quality_agreement a;
    struct quality_truth t;
    *out = NULL;
    if (!truth)
        return 0;
    int rc = quality_agreement(labels, truth, n, &a, e);
    if (rc == 0)
        rc = quality_truth(labels, truth, n, &t, e);
    if (rc == 0)
        *out =
            json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "rows", (json_int_t)t.both, "nmi", a.nmi, "ami",
                      a.ami, "ari", t.ari, "accuracy", t.accuracy, "entropy", t.entropy, "purity", t.purity);
    return rc;
}

int cluster_figures(const uint32_t *labels, const uint32_t *truth, uint64_t n, uint32_t k,
                    struct quality_sizes *out_sizes, json_t **out, struct err *e)
{
    json_t *with;
    int rc = quality_sizes(labels, n, k, out_sizes, e);
    if (rc == 0)
        rc = measure_truth(labels, truth, n, &with, e);
    if (rc)
        return rc;
    const struct quality_sizes *q = out_sizes;
    *out = json_pack("{s:f, s:f, s:I, s:{s:I, s:f, s:I}, s:o?}", "entropy", q->entropy, "imbalance",
                     q->imbalance, "empty", (json_int_t)q->empty, "sizes", "min", (json_int_t)q->min,
                     "median", q->median, "max", (json_int_t)q->max, "truth", with);
    return *out ? 0 : err_sys(e, ENOMEM, "figures");
}

void cluster_figures_print_truth(const json_t *figures)
{
    const char *name;
    json_t *value, *truth = json_object_get(figures, "truth");
    if (!json_is_object(truth))
        return;
    printf("with the truth:");
    json_object_foreach(truth, name, value)
        printf(strcmp(name, "rows") == 0 ? " %s %.0f" : ", %s %.4f", name, json_number_value(value));
    putchar('\n');
}

void cluster_figures_print_json(json_t *made, json_t *found, json_t *figures, json_t *seconds)
{
    const char *part;
    json_t *took;
    double total = 0;
    json_object_foreach(seconds, part, took) total += json_number_value(took);
    json_object_set_new(seconds, "total", json_real(total));
    json_object_update(made, found);
    json_object_update(made, figures);
    json_object_set_new(made, "seconds", seconds);
    json_decref(found);
    json_dumpf(made, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(made);
}

double cluster_lap(double *at)
{
    double now = progress_now_s(), took = now - *at;
    *at = now;
    return took;
}
