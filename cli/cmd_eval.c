/* xdc eval: what features in a file are worth: linear classifiers, neighbours, retrieval, clusters. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/cluster_figures.h"
#include "cli/eval_heads.h"
#include "cli/eval_report.h"
#include "lib/progress.h"
#include "lib/tensor.h"
#include "services/clusterer/normalize.h"
#include "services/clusterer/rows.h"

static const char help[] =
    "examples:\n"
    "  xdc embed audio.safetensors esc50.lmdb --out f.npy        features, and f.jsonl beside them\n"
    "  xdc eval svm f.npy                                        accuracy of linear SVMs, C chosen on train\n"
    "  xdc eval linear f.npy --shots 10 --repeats 5              logistic regression of 10 videos a class\n"
    "  xdc eval knn f.npy --k 20\n"
    "  xdc eval retrieval f.npy --json\n"
    "  xdc eval cluster f.npy --split test\n"
    "  xdc eval cluster video.npy --with audio.npy --heads heads.safetensors   a selavi run's own labels\n"
    "  xdc eval finetune video.safetensors ucf101-1.lmdb --preset ucf101 --dir ucf   trains the encoder on; "
    "--help\n"
    "  xdc eval svm g.npy --labels y.npy --train i.npy --test j.npy   features of others\n\n"
    "usage: xdc eval svm|linear|knn|retrieval|cluster F.npy [options]\n"
    "       xdc eval finetune ENCODER.safetensors MANIFEST... [options]\n\n"
    "  F.npy              f32 or f16 [rows, columns]; F.jsonl beside it says of each row which video's clip "
    "it\n"
    "                     is, its label and its split (docs/evaluation.md)\n"
    "  --rows R.jsonl     instead of F.jsonl, for instance of another fold\n"
    "  --labels L.npy     instead: whole numbers [rows], negative for unknown; every row is a video of its "
    "own\n"
    "  --train I.npy      numbers of the rows to learn from, with --labels\n"
    "  --test J.npy       numbers of the rows to judge\n"
    "  --allow-unseen      test videos whose class train lacks count as wrong; without this they are "
    "refused\n"
    "  --out P.npy        i32 [rows]: the class found for each test row (its place in --json's per_class), "
    "or\n"
    "                     its cluster; -1 elsewhere\n"
    "  --json             one JSON object (docs/evaluation.md)\n"
    "  --threads T        0 for one per CPU (0); the result is the same\n"
    "of svm (one against the rest, squared hinge) and linear (one against the rest, logistic)\n"
    "  --c C[,C...]       (1e-5,1e-4,1e-3,1e-2,1e-1,1); several: the one with most held-out videos right\n"
    "  --holdout H        share of each class's train videos that is held out for that (0.2); where there "
    "are\n"
    "                     videos of the split val, those are used and none of train\n"
    "  --normalize N      of rows: l2 (default of svm), standard (of linear: mean 0, deviation 1 of train), "
    "none\n"
    "  --shots N          learn from N train videos a class alone\n"
    "  --repeats R        draws of shots and of what is held out: mean and deviation (1)\n"
    "  --seed S           of the draws (0)\n"
    "of knn\n"
    "  --k K              neighbours (20)\n"
    "  --metric M         cosine (default) or l2\n"
    "  --vote V           plain (default), or weighted: exp(cosine / temperature)\n"
    "  --temperature T    (0.07)\n"
    "of cluster\n"
    "  --k K              clusters; as many as classes without this\n"
    "  --split S          all (default), train, val or test\n"
    "  --by B             clip (default) or video: the means of videos\n"
    "  --normalize N      none (default) or l2\n"
    "  --restarts R       (5); --iterations N (100); --seed S (0)\n"
    "of cluster, instead of k-means\n"
    "  --heads H          labels by the heads of a selavi run: H is of `xdc export RUN --heads`, F.npy and\n"
    "  --with G.npy       G.npy of `xdc embed`, by that run's video and audio encoder, of the same clips. "
    "The\n"
    "                     figures of every head; `figures` are of the one with the highest NMI, as SeLaVi\n"
    "                     publishes them\n\n"
    "A video's answer is made of the mean of its clips' decision values (svm) or probabilities (linear), or "
    "of\n"
    "the mean of its L2-normalised rows (knn, retrieval). Exits 0, 64 for wrong arguments, 65 for files that "
    "do\n"
    "not fit together (named, with the row), 66 where there is no such file.\n";

enum what { SVM, LINEAR, KNN, RETRIEVAL, CLUSTER };
#define WHATS "svm|linear|knn|retrieval|cluster"
static const char *const names[] = {"svm", "linear", "knn", "retrieval", "cluster"};

enum normalize { L2, STANDARD, NONE };

struct eval_options {
    enum what what;
    struct eval_sources sources;
    bool allow_unseen, json;
    const char *out, *c, *temperature_given;
    const char *heads, *with, *kmeans_given; /* kmeans_given: an option of it */
    uint64_t threads, shots;
    int normalize, metric, vote, by, split;
    struct eval_probe_options probe;
    struct eval_knn_options knn;
    struct eval_cluster_options cluster;
};

/* Options of all; returns how many. */
static size_t common_options(struct eval_options *o, struct cli_option *to)
{
    const struct cli_option options[] = {{"rows", .text = &o->sources.rows},
                                         {"labels", .text = &o->sources.labels},
                                         {"train", .text = &o->sources.train},
                                         {"test", .text = &o->sources.test},
                                         {"out", .text = &o->out},
                                         {"json", .on = &o->json},
                                         {"threads", .count = &o->threads, .hi = 1024}};
    memcpy(to, options, sizeof options);
    return sizeof options / sizeof options[0];
}

/* Those of one way to evaluate, behind the common ones. */
static void own_options(struct eval_options *o, struct cli_option *to)
{
    const struct cli_option unseen = {"allow-unseen", .on = &o->allow_unseen};
    const struct cli_option probe[] = {{"c", .text = &o->c},
                                       {"holdout", .real = &o->probe.holdout, .min = 0.01, .max = 0.9},
                                       {"normalize", .word = &o->normalize, .words = "l2|standard|none"},
                                       {"shots", .count = &o->shots, .lo = 1, .hi = 1000000},
                                       {"repeats", .count32 = &o->probe.repeats, .lo = 1, .hi = 1000},
                                       {"seed", .count = &o->probe.seed, .hi = INT64_MAX},
                                       unseen};
    const struct cli_option knn[] = {
        {"k", .count32 = &o->knn.k, .lo = 1, .hi = 1000000},
        {"metric", .word = &o->metric, .words = "cosine|l2"},
        {"vote", .word = &o->vote, .words = "plain|weighted"},
        {"temperature", .real = &o->knn.temperature, .min = 0.01, .max = 100, .seen = &o->temperature_given},
        unseen};
    const char **seen = &o->kmeans_given;
    const struct cli_option cluster[] = {
        {"heads", .text = &o->heads},
        {"with", .text = &o->with},
        {"k", .count = &o->cluster.k, .lo = 1, .hi = 1000000, .seen = seen},
        {"split", .word = &o->split, .words = "all|train|val|test"},
        {"by", .word = &o->by, .words = "clip|video", .seen = seen},
        {"normalize", .word = &o->normalize, .words = "l2|none", .seen = seen},
        {"restarts", .count32 = &o->cluster.restarts, .lo = 1, .hi = 1000, .seen = seen},
        {"iterations", .count32 = &o->cluster.iterations, .hi = 1000000, .seen = seen},
        {"seed", .count = &o->cluster.seed, .hi = INT64_MAX, .seen = seen}};
    if (o->what == SVM || o->what == LINEAR)
        memcpy(to, probe, sizeof probe);
    else if (o->what == KNN)
        memcpy(to, knn, sizeof knn);
    else if (o->what == CLUSTER)
        memcpy(to, cluster, sizeof cluster);
    else
        memcpy(to, &unseen, sizeof unseen);
}

/* -1 to go on, else the exit status. */
static int check_options(const char *command, struct eval_options *o, int argc, char **argv)
{
    bool indices = o->sources.train || o->sources.test;
    if (optind + 1 != argc)
        return cli_usage(command, "needs one F.npy");
    if (indices && !o->sources.labels)
        return cli_usage(command, "--train and --test go with --labels");
    if (o->sources.labels && o->sources.rows)
        return cli_usage(command, "--labels and --rows both say what the rows are");
    if (o->sources.labels && o->what != CLUSTER && (!o->sources.train || !o->sources.test))
        return cli_usage(command, "--labels needs --train and --test");
    if (!cli_parse_reals(o->c, 1e-9, 1e9, o->probe.c, EVAL_C_MAX, &o->probe.n_c))
        return cli_usage(command, "--c %s: must be 1 to %d numbers from 1e-9 to 1e9", o->c, EVAL_C_MAX);
    if (o->shots == 1 && o->probe.n_c > 1)
        return cli_usage(command, "--shots 1 leaves nothing to hold out: give one --c");
    if (o->vote == EVAL_WEIGHTED && o->metric == EVAL_L2)
        return cli_usage(command, "--vote weighted is of --metric cosine");
    if (o->temperature_given && o->vote == EVAL_PLAIN)
        return cli_usage(command, "--temperature is of --vote weighted");
    if (!o->heads != !o->with)
        return cli_usage(command, "--heads and --with go together");
    if (o->heads && o->sources.labels)
        return cli_usage(command, "--heads needs rows that xdc embed describes, not --labels");
    if (o->heads && o->kmeans_given)
        return cli_usage(command, "--%s is of k-means, not of --heads", o->kmeans_given);
    if (o->out && o->probe.repeats > 1)
        return cli_usage(command, "--out is of one repeat");
    o->sources.features = argv[optind];
    o->probe.loss = o->what == SVM ? EVAL_SQUARED_HINGE : EVAL_LOGISTIC;
    o->probe.shots = o->shots;
    o->probe.threads = o->knn.threads = o->cluster.threads = rows_threads((int64_t)o->threads);
    o->knn.metric = (enum eval_metric)o->metric;
    o->knn.vote = (enum eval_vote)o->vote;
    o->cluster.by_video = o->by == 1;
    o->cluster.part = o->split; /* all is EVAL_NO_SPLIT, the others in their order */
    return -1;
}

/* -1 to go on, else the exit status. */
static int parse(const char *command, enum what what, int argc, char **argv, struct eval_options *o)
{
    struct cli_option options[32] = {0};
    *o = (struct eval_options){.what = what,
                               .c = "1e-5,1e-4,1e-3,1e-2,1e-1,1",
                               .normalize = what == LINEAR    ? STANDARD
                                            : what == CLUSTER ? 1
                                                              : L2,
                               .probe = {.holdout = 0.2, .repeats = 1},
                               .knn = {.k = 20, .temperature = 0.07},
                               .cluster = {.restarts = 5, .iterations = 100}};
    own_options(o, options + common_options(o, options));
    int status = cli_options(command, help, options, argc, argv);
    if (what == CLUSTER && o->normalize == 1)
        o->normalize = NONE;
    return status >= 0 ? status : check_options(command, o, argc, argv);
}

static int normalize(const struct eval_options *o, struct eval_rows *r, struct err *e)
{
    if (o->normalize == STANDARD)
        return eval_rows_standardise(r, e);
    return o->normalize == L2 ? normalize_l2(r->x, r->n, r->d, o->probe.threads, NULL, e) : 0;
}

static int write_answers(const char *path, const struct eval_rows *r, const int32_t *answers, struct err *e)
{
    const struct tensor t = {.dtype = TENSOR_I32, .ndim = 1, .shape = {r->n}, .data = answers};
    return path ? npy_write(path, &t, e) : 0;
}

static int run_probe(const struct eval_options *o, const struct eval_rows *r, json_t *j, json_t *seconds,
                     struct err *e)
{
    static const char *const normal[] = {"l2", "standard", "none"};
    struct eval_probe p;
    int rc = eval_probe_run(r, &o->probe, &p, e);
    if (rc == 0)
        rc = write_answers(o->out, r, p.predictions, e);
    if (rc == 0) {
        json_object_set_new(j, "seed", json_integer((json_int_t)o->probe.seed));
        json_object_set_new(j, "normalize", json_string(normal[o->normalize]));
        eval_report_probe(j, r, &o->probe, &p);
        json_object_set_new(seconds, "choose", json_real(p.choose_s));
        json_object_set_new(seconds, "fit", json_real(p.fit_s));
        json_object_set_new(seconds, "test", json_real(p.test_s));
    }
    eval_probe_close(&p);
    return rc;
}

static int run_knn(const struct eval_options *o, const struct eval_rows *r, json_t *j, struct err *e)
{
    struct eval_score s = {0};
    int32_t *answers = malloc(r->n * sizeof *answers);
    int rc = answers ? eval_knn(r, &o->knn, answers, &s, e) : err_sys(e, ENOMEM, "%" PRIu64 " rows", r->n);
    if (rc == 0)
        rc = write_answers(o->out, r, answers, e);
    if (rc == 0) {
        json_object_set_new(j, "k", json_integer((json_int_t)o->knn.k));
        json_object_set_new(j, "metric", json_string(o->knn.metric == EVAL_L2 ? "l2" : "cosine"));
        json_object_set_new(j, "vote", json_string(o->knn.vote == EVAL_PLAIN ? "plain" : "weighted"));
        eval_report_knn(j, r, &s);
    }
    eval_score_close(&s);
    free(answers);
    return rc;
}

static int run_retrieval(const struct eval_options *o, const struct eval_rows *r, json_t *j, struct err *e)
{
    struct eval_retrieval s = {0};
    int32_t *answers = malloc(r->n * sizeof *answers);
    int rc = answers ? eval_retrieve(r, o->knn.threads, answers, &s, e)
                     : err_sys(e, ENOMEM, "%" PRIu64 " rows", r->n);
    if (rc == 0)
        rc = write_answers(o->out, r, answers, e);
    if (rc == 0)
        eval_report_retrieval(j, r, &s);
    free(s.right);
    free(answers);
    return rc;
}

static int run_cluster(const struct eval_options *o, const struct eval_rows *r, json_t *j, struct err *e)
{
    struct eval_clusters c;
    int rc = eval_cluster(r, &o->cluster, &c, e);
    if (rc == 0)
        rc = write_answers(o->out, r, c.labels, e);
    if (rc == 0) {
        json_object_set_new(j, "seed", json_integer((json_int_t)o->cluster.seed));
        json_object_set_new(j, "normalize", json_string(o->normalize == L2 ? "l2" : "none"));
        eval_report_cluster(j, &c);
    }
    eval_clusters_close(&c);
    return rc;
}

static int run_heads(const struct eval_options *o, const struct eval_rows *r, json_t *j, struct err *e)
{
    const struct eval_sources sources = {.features = o->with};
    const struct eval_heads_options options = {
        .heads = o->heads, .part = o->split, .threads = o->cluster.threads};
    struct eval_rows with;
    struct eval_heads h = {0};
    int rc = eval_rows_read(&sources, options.threads, &with, e);
    if (rc < 0)
        return rc;
    rc = eval_heads(r, &with, &options, &h, e);
    if (rc == 0)
        rc = write_answers(o->out, r, h.labels, e);
    if (rc == 0) {
        json_object_set_new(j, "with", json_string(o->with));
        json_object_set_new(j, "heads", json_string(o->heads));
        eval_report_heads(j, &h);
    }
    eval_heads_close(&h);
    eval_rows_close(&with);
    return rc;
}

static int evaluate(const struct eval_options *o, struct eval_rows *r, struct err *e)
{
    double at = progress_now_s(), start = at;
    json_t *j = NULL, *seconds = json_object();
    int rc = eval_rows_read(&o->sources, o->probe.threads, r, e);
    if (rc == 0 && o->what != CLUSTER)
        rc = eval_rows_check(r, o->allow_unseen, e);
    json_object_set_new(seconds, "load", json_real(cluster_lap(&at)));
    if (rc == 0)
        rc = normalize(o, r, e);
    json_object_set_new(seconds, "normalize", json_real(cluster_lap(&at)));
    if (rc == 0 && !(j = eval_report_rows(names[o->what], r, o->what != CLUSTER)))
        rc = err_sys(e, ENOMEM, "report");
    if (rc == 0)
        rc = o->what == KNN         ? run_knn(o, r, j, e)
             : o->what == RETRIEVAL ? run_retrieval(o, r, j, e)
             : o->heads             ? run_heads(o, r, j, e)
             : o->what == CLUSTER   ? run_cluster(o, r, j, e)
                                    : run_probe(o, r, j, seconds, e);
    json_object_set_new(seconds, "total", json_real(progress_now_s() - start));
    json_object_set(j, "seconds", seconds);
    if (rc == 0)
        eval_report_print(j, o->json);
    json_decref(seconds);
    json_decref(j);
    return rc;
}

int cli_eval(int argc, char **argv)
{
    char command[32] = "eval";
    struct eval_options o;
    struct eval_rows r = {0};
    struct err e;
    int what = argc > 1 ? cli_word(argv[1], WHATS) : -1;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(help, stdout);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "finetune") == 0)
        return cli_eval_finetune(argc - 1, argv + 1);
    if (what < 0)
        return cli_usage(command, "needs one of " WHATS "|finetune");
    snprintf(command, sizeof command, "eval %s", names[what]);
    int status = parse(command, (enum what)what, argc - 1, argv + 1, &o);
    if (status >= 0)
        return status;
    int rc = evaluate(&o, &r, &e);
    eval_rows_close(&r);
    return rc < 0 ? cli_fail(command, &e) : 0;
}
