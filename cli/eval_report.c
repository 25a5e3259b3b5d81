#include "cli/eval_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* {"videos", "rows"} of what has, or lacks, class and split. */
static json_t *count(const struct eval_rows *r, bool labelled, int split)
{
    json_int_t videos = 0, rows = 0;
    for (uint64_t v = 0; v < r->n_videos; v++) {
        const struct eval_video *video = &r->videos[v];
        if ((video->label != LABEL_NONE) != labelled || (split >= 0 && (int)video->split != split))
            continue;
        videos++;
        rows += video->clips;
    }
    return json_pack("{s:I, s:I}", "videos", videos, "rows", rows);
}

/* Names of the classes of which a split has no video, and how many videos the other split has of them. */
static json_t *lacking(const struct eval_rows *r, enum eval_split split, enum eval_split other)
{
    json_t *names = json_array();
    uint64_t *here = calloc(2 * (size_t)r->n_classes + 1, sizeof *here), *there = here + r->n_classes;
    json_int_t videos = 0;
    if (here) {
        eval_rows_count(r, split, here);
        eval_rows_count(r, other, there);
    }
    for (uint32_t c = 0; here && c < r->n_classes; c++) {
        if (here[c])
            continue;
        json_array_append_new(names, json_string(r->classes[c]));
        videos += (json_int_t)there[c];
    }
    free(here);
    return json_pack("{s:o?, s:I}", "classes", names, "videos", videos);
}

json_t *eval_report_rows(const char *what, const struct eval_rows *r, bool judged)
{
    json_t *splits = json_pack("{s:o, s:o, s:o}", "train", count(r, true, EVAL_TRAIN), "val",
                               count(r, true, EVAL_VAL), "test", count(r, true, EVAL_TEST));
    json_t *left_out =
        json_pack("{s:o, s:o}", "no_label", count(r, false, -1), "no_split", count(r, true, EVAL_NO_SPLIT));
    json_t *j = json_pack("{s:s, s:s, s:I, s:i, s:I, s:i, s:o, s:o}", "eval", what, "features", r->path,
                          "rows", (json_int_t)r->n, "columns", (int)r->d, "videos", (json_int_t)r->n_videos,
                          "classes", (int)r->n_classes, "splits", splits, "left_out", left_out);
    if (judged) {
        json_object_set_new(j, "without_train", lacking(r, EVAL_TRAIN, EVAL_TEST));
        json_object_set_new(j, "without_test", lacking(r, EVAL_TEST, EVAL_TRAIN));
    }
    return j;
}

/* right: of `repeats` passes over test together. */
static void per_class(json_t *j, const struct eval_rows *r, const uint64_t *right, uint32_t repeats)
{
    json_t *list = json_array();
    uint64_t *train = calloc(2 * (size_t)r->n_classes + 1, sizeof *train), *test = train + r->n_classes;
    if (train) {
        eval_rows_count(r, EVAL_TRAIN, train);
        eval_rows_count(r, EVAL_TEST, test);
    }
    for (uint32_t c = 0; train && c < r->n_classes; c++) {
        double tested = (double)test[c] * repeats;
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I, s:o}", "class", r->classes[c], "train",
                                              (json_int_t)train[c], "test", (json_int_t)test[c], "right",
                                              (json_int_t)right[c], "accuracy",
                                              test[c] ? json_real((double)right[c] / tested) : json_null()));
    }
    free(train);
    json_object_set_new(j, "per_class", list);
}

static double share(uint64_t part, uint64_t all)
{
    return all ? (double)part / (double)all : 0;
}

static json_t *shares(const struct eval_score *s)
{
    return json_pack("{s:f, s:f, s:f, s:f}", "video_top1", share(s->video_top1, s->videos), "video_top5",
                     share(s->video_top5, s->videos), "clip_top1", share(s->clip_top1, s->clips), "clip_top5",
                     share(s->clip_top5, s->clips));
}

void eval_report_summarise(json_t *j, const json_t *repeats)
{
    size_t n = json_array_size(repeats), i;
    json_t *means = json_object(), *deviations = n > 1 ? json_object() : json_null(), *one, *value;
    const char *name;
    json_object_foreach(json_object_get(json_array_get(repeats, 0), "figures"), name, value)
    {
        double sum = 0, squares = 0;
        json_array_foreach(repeats, i, one) sum +=
            json_real_value(json_object_get(json_object_get(one, "figures"), name));
        double mean = sum / (double)n;
        json_array_foreach(repeats, i, one)
        {
            double off = json_real_value(json_object_get(json_object_get(one, "figures"), name)) - mean;
            squares += off * off;
        }
        json_object_set_new(means, name, json_real(mean));
        if (n > 1)
            json_object_set_new(deviations, name, json_real(sqrt(squares / (double)(n - 1))));
    }
    json_object_set_new(j, "figures", means);
    json_object_set_new(j, "deviations", deviations);
}

static json_t *repeat(const struct eval_probe_options *o, const struct eval_repeat *p)
{
    json_t *grid = json_array();
    for (uint32_t i = 0; o->n_c > 1 && i < o->n_c; i++)
        json_array_append_new(grid,
                              json_pack("{s:f, s:I, s:f}", "c", o->c[i], "right", (json_int_t)p->right[i],
                                        "accuracy", share(p->right[i], p->held)));
    return json_pack("{s:f, s:I, s:I, s:o, s:o}", "c", p->c, "held_out", (json_int_t)p->held, "fitted",
                     (json_int_t)p->fitted, "grid", grid, "figures", shares(&p->score));
}

void eval_report_probe(json_t *j, const struct eval_rows *r, const struct eval_probe_options *o,
                       const struct eval_probe *p)
{
    json_t *repeats = json_array();
    uint64_t *right = calloc(r->n_classes + 1u, sizeof *right);
    for (uint32_t i = 0; i < p->n_repeats; i++) {
        json_array_append_new(repeats, repeat(o, &p->repeats[i]));
        for (uint32_t c = 0; right && c < r->n_classes; c++)
            right[c] += p->repeats[i].score.right[c];
    }
    const json_t *val = json_object_get(json_object_get(json_object_get(j, "splits"), "val"), "videos");
    const char *from = o->n_c < 2 ? NULL : json_integer_value(val) ? "val" : "train";
    json_object_set_new(j, "shots", o->shots ? json_integer((json_int_t)o->shots) : json_null());
    json_object_set_new(j, "chosen_on", from ? json_string(from) : json_null());
    json_object_set_new(j, "c", json_real(p->repeats[p->n_repeats - 1].c));
    eval_report_summarise(j, repeats);
    json_object_set_new(j, "repeats", repeats);
    if (right)
        per_class(j, r, right, p->n_repeats);
    free(right);
}

void eval_report_knn(json_t *j, const struct eval_rows *r, const struct eval_score *s)
{
    json_object_set_new(j, "figures",
                        json_pack("{s:f, s:f}", "video_top1", share(s->video_top1, s->videos), "video_top5",
                                  share(s->video_top5, s->videos)));
    per_class(j, r, s->right, 1);
}

void eval_report_retrieval(json_t *j, const struct eval_rows *r, const struct eval_retrieval *s)
{
    char name[16];
    json_t *figures = json_object();
    for (unsigned i = 0; i < EVAL_RECALLS; i++) {
        snprintf(name, sizeof name, "r@%u", eval_recall_k[i]);
        json_object_set_new(figures, name,
                            eval_recall_k[i] > s->gallery ? json_null()
                                                          : json_real(share(s->hits[i], s->queries)));
    }
    json_object_set_new(j, "figures", figures);
    per_class(j, r, s->right, 1);
}

static json_t *sizes(const struct quality_sizes *s)
{
    return json_pack("{s:I, s:f, s:I, s:I}", "min", (json_int_t)s->min, "median", s->median, "max",
                     (json_int_t)s->max, "empty", (json_int_t)s->empty);
}

static json_t *agreement(const struct quality_agreement *a, const struct quality_truth *t)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "nmi", a->nmi, "ami", a->ami, "ari", t->ari,
                     "accuracy", t->accuracy, "entropy", t->entropy, "purity", t->purity);
}

void eval_report_cluster(json_t *j, const struct eval_clusters *c)
{
    const struct quality_truth *t = &c->truth;
    json_object_set_new(j, "k", json_integer((json_int_t)c->k));
    json_object_set_new(j, "clustered", json_integer((json_int_t)c->n));
    json_object_set_new(j, "compared", json_integer((json_int_t)t->both));
    json_object_set_new(j, "compared_classes", json_integer((json_int_t)c->classes));
    json_object_set_new(j, "objective", json_real(c->objective));
    json_object_set_new(j, "iterations", json_integer((json_int_t)c->iterations));
    json_object_set_new(j, "sizes", sizes(&c->sizes));
    json_object_set_new(j, "figures", agreement(&c->agreement, t));
}

static json_t *mean_over_heads(const struct eval_heads *h)
{
    struct quality_agreement a = {0};
    struct quality_truth t = {0};
    for (uint32_t i = 0; i < h->heads; i++) {
        a.nmi += h->head[i].agreement.nmi / h->heads;
        a.ami += h->head[i].agreement.ami / h->heads;
        t.ari += h->head[i].truth.ari / h->heads;
        t.accuracy += h->head[i].truth.accuracy / h->heads;
        t.entropy += h->head[i].truth.entropy / h->heads;
        t.purity += h->head[i].truth.purity / h->heads;
    }
    return agreement(&a, &t);
}

void eval_report_heads(json_t *j, const struct eval_heads *h)
{
    const struct eval_head *best = &h->head[h->by_nmi], *blind = &h->head[h->by_cost];
    json_t *list = json_array();
    for (uint32_t i = 0; i < h->heads; i++) {
        const struct eval_head *one = &h->head[i];
        json_array_append_new(list, json_pack("{s:i, s:f, s:o, s:o}", "head", (int)i, "cost", one->cost,
                                              "sizes", sizes(&one->sizes), "figures",
                                              agreement(&one->agreement, &one->truth)));
    }
    json_object_set_new(
        j, "unmatched",
        json_pack("{s:I, s:I}", "features", (json_int_t)h->only[0], "with", (json_int_t)h->only[1]));
    json_object_set_new(j, "k", json_integer((json_int_t)h->k));
    json_object_set_new(j, "clustered", json_integer((json_int_t)h->n));
    json_object_set_new(j, "compared", json_integer((json_int_t)best->truth.both));
    json_object_set_new(j, "compared_classes", json_integer((json_int_t)h->classes));
    json_object_set_new(j, "by_head", list);
    json_object_set_new(j, "highest_nmi", json_integer((json_int_t)h->by_nmi));
    json_object_set_new(j, "lowest_cost", json_integer((json_int_t)h->by_cost));
    json_object_set_new(j, "figures", agreement(&best->agreement, &best->truth));
    json_object_set_new(j, "figures_label_free", agreement(&blind->agreement, &blind->truth));
    json_object_set_new(j, "figures_mean", mean_over_heads(h));
}
