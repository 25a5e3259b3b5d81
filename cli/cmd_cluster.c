/* xdc cluster: the clusterer's k-means and Sinkhorn-Knopp on NumPy files. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/cluster_figures.h"
#include "cli/cluster_input.h"
#include "cli/cluster_sinkhorn.h"
#include "lib/progress.h"
#include "lib/tensor.h"
#include "services/clusterer/kmeans.h"
#include "services/clusterer/normalize.h"
#include "services/clusterer/rows.h"

static const char help[] =
    "examples:\n"
    "  xdc features run --round last --modality video --out f.npy\n"
    "  xdc cluster f.npy --k 256 --out labels.npy\n"
    "  xdc cluster f.npy --k 256 --normalize pca-whiten-l2 --truth classes.npy --out labels.npy --json\n"
    "  xdc cluster f.npy --k 256 --out labels.npy --centroids c.npy\n"
    "  xdc cluster g.npy --k 256 --init c.npy --iterations 0 --out nearest.npy     the nearest of given "
    "centroids\n"
    "  xdc cluster video.npy --audio audio.npy --method sinkhorn --out labels.npy  SeLaVi's labels of "
    "logits\n"
    "  xdc cluster logits.npy --method sinkhorn --marginals zipf --lambda 25 --out labels.npy\n\n"
    "usage: xdc cluster F.npy --k K --out L.npy [options]\n"
    "       xdc cluster F.npy --method sinkhorn --out L.npy [options]\n\n"
    "  F.npy             f32 or f16 [rows, columns]; all rows are clustered. sinkhorn: logits of a head, of "
    "as\n"
    "                    many columns as clusters, whose log-softmax is taken (so log-probabilities do too)\n"
    "  --out L.npy       i32 [rows]: the cluster of each row\n"
    "  --method M        kmeans (default) or sinkhorn: clusters of given sizes, by Sinkhorn-Knopp\n"
    "  --iterations N    at most: Lloyd's (20), Sinkhorn-Knopp's (2000)\n"
    "  --tolerance T     kmeans: stop when the objective falls by no more than this share (1e-4);\n"
    "                    sinkhorn: when no cluster's mass is off by more than this share (1e-3)\n"
    "  --seed S          of all that is random (0)\n"
    "  --threads T       0 for one per CPU (0); the result is the same\n"
    "  --truth T.npy     whole numbers [rows], negative for unknown: prints how clusters agree with them\n"
    "  --json            prints one JSON object: objective or cost, iterations, sizes, truth, seconds of "
    "each "
    "part\n"
    "of kmeans\n"
    "  --centroids C.npy f32 [K, columns], in the space of F.npy, or of its normalised rows\n"
    "  --init I          kmeans++ (default), 'kmeans||', random, or a .npy file as --centroids writes it\n"
    "  --restarts R      the best of so many counts (1)\n"
    "  --normalize N     none (default), l2, or pca-whiten-l2; of the rows less their mean\n"
    "  --pca-dim D       columns that pca-whiten-l2 keeps (256)\n"
    "of sinkhorn\n"
    "  --audio A.npy     logits of the other modality; the labels follow (p q)^(lambda / 2), without this "
    "p^lambda\n"
    "  --lambda L        (20)\n"
    "  --marginals M     sizes of clusters: gaussian (default), uniform or zipf\n"
    "  --marginal-sd D   gaussian: deviation of a size as a share of the mean (0.1)\n"
    "  --zipf-exponent E the n-th largest cluster is as large as n to minus this (1)\n"
    "  --alpha A.npy     f64 [K]: the logarithms of the clusters' scalings; the label is where row + alpha "
    "is "
    "largest\n"
    "  --compat          stop rule and pairing of sizes with clusters of the published code\n\n"
    "Labels and centroids are the same bits on any number of threads. Exits 0, 64 for wrong arguments, 65 "
    "for\n"
    "files that cannot be clustered (named, with the row), 66 where there is no such file.\n";

struct cluster_options {
    const char *file, *out, *centroids_out, *truth_file, *init_file, *init_name, *normalize_name;
    uint64_t k, iterations, restarts, pca_dim, seed, threads;
    double tolerance;
    int normalize;                           /* enum conf_normalize */
    int sinkhorn;                            /* the method: 0, k-means */
    const char *only_kmeans, *only_sinkhorn; /* an option of that method that was given, or NULL */
    const char *iterations_given, *tolerance_given;
    bool json;
    struct kmeans_options kmeans;
    struct cluster_sinkhorn transport;
};

struct seconds {
    double load, normalize, init, iterations, write;
};

/* What lives while the command runs. */
struct clustering {
    struct cluster_options *o;
    float *x; /* owned, [n + extra, d]: the rows; not normalised, behind them given centroids and a row of
                 zeros, which becomes minus the mean */
    uint64_t n;
    uint32_t columns, d;
    float *given;    /* owned: centroids of a file, [k, given_columns] */
    uint32_t *truth; /* owned, or NULL */
    struct kmeans_result result;
    struct seconds seconds;
};

/* Options of both methods, for sinkhorn. */
static void fill_transport(struct cluster_options *o)
{
    struct cluster_sinkhorn *t = &o->transport;
    t->file = o->file;
    t->out = o->out;
    t->truth_file = o->truth_file;
    t->k = o->k;
    t->json = o->json;
    t->marginals.seed = o->seed;
    t->options.threads = rows_threads((int64_t)o->threads);
    if (o->iterations_given)
        t->options.iterations = (uint32_t)o->iterations;
    if (o->tolerance_given)
        t->options.tolerance = o->tolerance;
}

/* -1 to go on, else the exit status. */
static int check_options(struct cluster_options *o, int argc, char **argv)
{
    if (optind + 1 != argc || !o->out || (!o->k && !o->sinkhorn))
        return cli_usage("cluster", o->sinkhorn ? "needs F.npy and --out" : "needs F.npy, --k and --out");
    const char *other = o->sinkhorn ? o->only_kmeans : o->only_sinkhorn;
    if (other)
        return cli_usage("cluster", "--%s is of --method %s", other, o->sinkhorn ? "kmeans" : "sinkhorn");
    if (o->sinkhorn && o->iterations_given && o->iterations == 0)
        return cli_usage("cluster", "--iterations 0: Sinkhorn-Knopp needs one at least");
    if (o->init_file && o->restarts > 1)
        return cli_usage("cluster", "--restarts from the same given centroids would all be equal");
    o->file = argv[optind];
    o->kmeans.k = (uint32_t)o->k;
    o->kmeans.restarts = (uint32_t)o->restarts;
    o->kmeans.iterations = (uint32_t)o->iterations;
    o->kmeans.tolerance = o->tolerance;
    o->kmeans.threads = rows_threads((int64_t)o->threads);
    o->kmeans.seed = o->seed;
    fill_transport(o);
    return -1;
}

/* -1 to go on, else the exit status. */
static int parse(int argc, char **argv, struct cluster_options *o)
{
    const char **kmeans = &o->only_kmeans, **sinkhorn = &o->only_sinkhorn;
    struct cluster_sinkhorn *t = &o->transport;
    int marginals = MARGINALS_GAUSSIAN;
    *o = (struct cluster_options){
        .init_name = "kmeans++",
        .normalize_name = "none",
        .iterations = 20,
        .restarts = 1,
        .pca_dim = 256,
        .tolerance = 1e-4,
        .transport = {.marginals = {.sd = 0.1, .exponent = 1},
                      .marginals_name = "gaussian",
                      .options = {.lambda = 20, .tolerance = 1e-3, .iterations = 2000}}};
    const struct cli_option options[] = {
        {"out", .text = &o->out},
        {"method", .word = &o->sinkhorn, .words = "kmeans|sinkhorn"},
        {"k", .count = &o->k, .lo = 1, .hi = 1000000},
        {"iterations", .count = &o->iterations, .hi = 1000000, .seen = &o->iterations_given},
        {"tolerance", .real = &o->tolerance, .max = 1, .seen = &o->tolerance_given},
        {"seed", .count = &o->seed, .hi = INT64_MAX},
        {"threads", .count = &o->threads, .hi = 1024},
        {"truth", .text = &o->truth_file},
        {"json", .on = &o->json},
        {"centroids", .text = &o->centroids_out, .seen = kmeans},
        {"init", .text = &o->init_name, .seen = kmeans},
        {"restarts", .count = &o->restarts, .lo = 1, .hi = 1000, .seen = kmeans},
        {"normalize", .word = &o->normalize, .words = conf_find("cluster.normalize")->choices,
         .text = &o->normalize_name, .seen = kmeans},
        {"pca-dim", .count = &o->pca_dim, .lo = 1, .hi = 65536, .seen = kmeans},
        {"audio", .text = &t->audio, .seen = sinkhorn},
        {"lambda", .real = &t->options.lambda, .min = 0.1, .max = 1000, .seen = sinkhorn},
        {"marginals", .word = &marginals, .words = conf_find("selavi.marginals")->choices,
         .text = &t->marginals_name, .seen = sinkhorn},
        {"marginal-sd", .real = &t->marginals.sd, .max = 1, .seen = sinkhorn},
        {"zipf-exponent", .real = &t->marginals.exponent, .max = 10, .seen = sinkhorn},
        {"alpha", .text = &t->alpha_out, .seen = sinkhorn},
        {"compat", .on = &t->options.compat, .seen = sinkhorn},
        {0}};
    int status = cli_options("cluster", help, options, argc, argv);
    if (status >= 0)
        return status;
    t->marginals.kind = (enum conf_marginals)marginals;
    int init = cli_word(o->init_name, conf_find("cluster.init")->choices);
    o->kmeans.init = init < 0 ? KMEANS_GIVEN : (enum kmeans_start)init;
    o->init_file = init < 0 ? o->init_name : NULL;
    return check_options(o, argc, argv);
}

/* Centroids to begin from: their number now, their columns once the rows are normalised. */
static int load_given(struct clustering *w, uint32_t *out_columns, struct err *e)
{
    uint64_t rows;
    const struct cluster_options *o = w->o;
    int rc = cluster_read_table(o->init_file, 0, &w->given, &rows, out_columns, e);
    if (rc == -ENOENT)
        err_wrap(e, "--init is kmeans++, kmeans||, random or a .npy file");
    if (rc == 0 && rows != o->k)
        rc = err_set(e, XDC_EFORMAT, "%s holds %llu centroids; ask for --k %llu, or give %llu", o->init_file,
                     (unsigned long long)rows, (unsigned long long)rows, (unsigned long long)o->k);
    if (rc == 0)
        rc = cluster_check_finite(o->init_file, w->given, rows, *out_columns, o->kmeans.threads, e);
    return rc;
}

static int load(struct clustering *w, uint32_t *out_given_columns, struct err *e)
{
    const struct cluster_options *o = w->o;
    int rc = o->init_file ? load_given(w, out_given_columns, e) : 0;
    if (rc == 0)
        rc = cluster_read_table(o->file, (o->init_file ? o->k : 0) + 1, &w->x, &w->n, &w->columns, e);
    if (rc == 0 && w->n < o->k)
        rc = err_set(e, XDC_EFORMAT, "%s has %llu rows, too few for %llu clusters; ask for --k %llu or less",
                     o->file, (unsigned long long)w->n, (unsigned long long)o->k, (unsigned long long)w->n);
    if (rc == 0)
        rc = cluster_check_finite(o->file, w->x, w->n, w->columns, o->kmeans.threads, e);
    if (rc == 0 && o->truth_file)
        rc = cluster_read_truth(o->truth_file, w->n, &w->truth, e);
    w->d = w->columns;
    return rc;
}

/* Subtracts the rows' mean from them and from the `more` rows behind them. */
static int centre(struct clustering *w, uint64_t more, struct err *e)
{
    double *mean = malloc(w->d * sizeof *mean);
    int rc = mean ? normalize_mean(w->x, w->n, w->d, w->o->kmeans.threads, NULL, mean, e)
                  : err_sys(e, ENOMEM, "mean of %u columns", w->d);
    if (rc == 0)
        rc = normalize_subtract(w->x, w->n + more, w->d, mean, w->o->kmeans.threads, NULL, e);
    free(mean);
    return rc;
}

static int whiten(struct clustering *w, struct err *e)
{
    const struct cluster_options *o = w->o;
    struct normalize_directions by;
    int rc = centre(w, 0, e);
    if (rc)
        return rc;
    rc = normalize_learn_directions(w->x, w->n, w->d, (uint32_t)o->pca_dim, o->kmeans.threads, NULL, &by, e);
    if (rc == 0)
        rc = normalize_project(w->x, w->n, &by, o->kmeans.threads, NULL, e);
    w->d = rc == 0 ? by.p : w->d;
    normalize_directions_close(&by);
    return rc;
}

/* As the clusterer does it: centred, then cluster.normalize. */
static int normalize_rows(struct clustering *w, uint32_t given_columns, struct err *e)
{
    const struct cluster_options *o = w->o;
    unsigned threads = o->kmeans.threads;
    uint64_t k = o->init_file ? o->k : 0;
    bool plain = o->normalize == NORMALIZE_NONE;
    if (k && o->normalize != NORMALIZE_PCA_WHITEN_L2 && given_columns != w->d)
        return err_set(e, XDC_EFORMAT, "%s has centroids of %u columns, %s has rows of %u", o->init_file,
                       given_columns, o->file, w->d);
    float *behind = w->x + w->n * w->d;
    if (k && plain)
        memcpy(behind, w->given, k * w->d * sizeof *behind);
    if (plain)
        memset(behind + k * w->d, 0, w->d * sizeof *behind);
    int rc = centre(w, plain ? k + 1 : 0, e);
    if (rc == 0 && o->normalize == NORMALIZE_PCA_WHITEN_L2)
        rc = whiten(w, e);
    if (rc == 0 && !plain)
        rc = normalize_l2(w->x, w->n, w->d, threads, NULL, e);
    if (rc == 0 && k && given_columns != w->d)
        rc = err_set(e, XDC_EFORMAT, "%s has centroids of %u columns, the normalised rows have %u",
                     o->init_file, given_columns, w->d);
    if (rc == 0)
        rc = cluster_check_distinct(o->file, w->x, w->n, w->d, (uint32_t)o->k, e);
    return rc;
}

static int run_kmeans(struct clustering *w, struct err *e)
{
    struct kmeans_options o = w->o->kmeans;
    _Atomic uint64_t init_ns = 0;
    bool plain = w->o->normalize == NORMALIZE_NONE;
    o.given = plain ? w->x + w->n * w->d : w->given;
    o.init_ns = &init_ns;
    double start = progress_now_s();
    int rc = kmeans_run(w->x, w->n, w->d, &o, &w->result, e);
    w->seconds.init = (double)atomic_load(&init_ns) * 1e-9;
    w->seconds.iterations = progress_now_s() - start - w->seconds.init;
    const float *mean = w->x + (w->n + (w->o->init_file ? o.k : 0)) * w->d; /* less than 0 of it */
    for (size_t i = 0; rc == 0 && plain && i < (size_t)o.k * w->d; i++)
        w->result.centroids[i] -= mean[i % w->d];
    return rc;
}

static int write_files(const struct clustering *w, struct err *e)
{
    const struct cluster_options *o = w->o;
    struct tensor labels = {.dtype = TENSOR_I32, .ndim = 1, .shape = {w->n}, .data = w->result.labels};
    struct tensor centroids = {
        .dtype = TENSOR_F32, .ndim = 2, .shape = {o->k, w->d}, .data = w->result.centroids};
    int rc = npy_write(o->out, &labels, e);
    if (rc == 0 && o->centroids_out)
        rc = npy_write(o->centroids_out, &centroids, e);
    return rc;
}

static void print_json(const struct clustering *w, json_t *figures)
{
    const struct cluster_options *o = w->o;
    const struct kmeans_result *r = &w->result;
    const struct seconds *s = &w->seconds;
    json_t *j = json_pack("{s:s, s:I, s:i, s:i, s:s, s:I, s:s, s:s, s:I, s:i}", "file", o->file, "rows",
                          (json_int_t)w->n, "columns", (int)w->columns, "dim", (int)w->d, "method", "kmeans",
                          "k", (json_int_t)o->k, "init", o->init_name, "normalize", o->normalize_name, "seed",
                          (json_int_t)o->seed, "threads", (int)o->kmeans.threads);
    json_t *found = json_pack("{s:f, s:i, s:i, s:i, s:I}", "objective", r->objective, "iterations",
                              (int)r->iterations, "restarts", (int)o->restarts, "restart", (int)r->restart,
                              "empty_splits", (json_int_t)r->empty_splits);
    json_t *seconds = json_pack("{s:f, s:f, s:f, s:f, s:f}", "load", s->load, "normalize", s->normalize,
                                "init", s->init, "iterations", s->iterations, "write", s->write);
    cluster_figures_print_json(j, found, figures, seconds);
}

static void print_text(const struct clustering *w, const struct quality_sizes *q, const json_t *figures)
{
    const struct cluster_options *o = w->o;
    const struct seconds *s = &w->seconds;
    printf("%s: %llu rows of %u into %llu clusters\n", o->out, (unsigned long long)w->n, w->d,
           (unsigned long long)o->k);
    printf(
        "objective %.9g after %u iterations; rows in a cluster %llu to %llu, median %g; entropy %.4f of at "
        "most %.4f\n",
        w->result.objective, w->result.iterations, (unsigned long long)q->min, (unsigned long long)q->max,
        q->median, q->entropy, log((double)o->k));
    cluster_figures_print_truth(figures);
    printf("seconds: load %.3f, normalize %.3f, init %.3f, iterations %.3f, write %.3f\n", s->load,
           s->normalize, s->init, s->iterations, s->write);
}

static int cluster(struct clustering *w, struct err *e)
{
    struct quality_sizes sizes;
    json_t *figures;
    uint32_t given_columns = 0;
    double at = progress_now_s();
    int rc = load(w, &given_columns, e);
    w->seconds.load = cluster_lap(&at);
    if (rc == 0)
        rc = normalize_rows(w, given_columns, e);
    w->seconds.normalize = cluster_lap(&at);
    if (rc == 0)
        rc = run_kmeans(w, e);
    cluster_lap(&at);
    if (rc == 0)
        rc = write_files(w, e);
    w->seconds.write = cluster_lap(&at);
    if (rc == 0)
        rc = cluster_figures(w->result.labels, w->truth, w->n, (uint32_t)w->o->k, &sizes, &figures, e);
    if (rc)
        return rc;
    if (w->o->json)
        print_json(w, figures);
    else
        print_text(w, &sizes, figures);
    json_decref(figures);
    return 0;
}

int cli_cluster(int argc, char **argv)
{
    struct cluster_options o;
    struct err e;
    int status = parse(argc, argv, &o);
    if (status >= 0)
        return status;
    struct clustering w = {.o = &o};
    int rc = o.sinkhorn ? cluster_sinkhorn_run(&o.transport, &e) : cluster(&w, &e);
    free(w.x);
    free(w.given);
    free(w.truth);
    kmeans_result_close(&w.result);
    return rc < 0 ? cli_fail("cluster", &e) : 0;
}
