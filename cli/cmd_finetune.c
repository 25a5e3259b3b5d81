/* xdc eval finetune: what an encoder is worth when it learns another task. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/eval_report.h"
#include "cli/finetune.h"
#include "cli/published.h"
#include "cli/run_live.h"
#include "lib/fsutil.h"
#include "lib/manifest.h"
#include "lib/progress.h"

#define MANIFESTS_MAX 16

static const char help[] =
    "examples:\n"
    "  xdc eval finetune video.safetensors ucf101-1.lmdb ucf101-2.lmdb ucf101-3.lmdb --preset ucf101 --dir "
    "ucf\n"
    "  xdc eval finetune audio.safetensors esc50-1.lmdb --preset esc50 --update fc --dir esc\n"
    "  xdc eval finetune video.safetensors mine.lmdb --lr 0.005 --dir mine --set train.epochs=20\n\n"
    "usage: xdc eval finetune ENCODER.safetensors MANIFEST... --dir DIR [options]\n\n"
    "Trains ENCODER, which `xdc export` has written, with a new classifier on the train videos of MANIFEST, "
    "and\n"
    "counts how many of its test videos come out right. Several manifests are splits or folds of one data "
    "set:\n"
    "mean and deviation. Of several rates the one is taken with which most held-out clips of train are "
    "right; test\n"
    "has no part in it. The same command goes on where it stopped.\n\n"
    "  --dir D        everything is kept here: result.json, and for each manifest its runs and encoder\n"
    "  --preset P     published schedule: ucf101, hmdb51, esc50, dcase, ucf101-32, hmdb51-32 (32 frames)\n"
    "  --update U     all (default), or fc: only a linear layer on the frozen encoder\n"
    "  --lr R[,R...]  learning rates (all: 0.0005,0.001,0.0025,0.005,0.01,0.02; fc: ten times these)\n"
    "  --holdout H    share of the videos on which rates are compared (0.2); 10,000 clips at most\n"
    "  --clips N      of a test video, evenly spaced (10); their softmax is averaged\n"
    "  --seed S       of the classifier and all draws (0)\n"
    "  --allow-unseen test videos whose class train lacks count as wrong; without this they are refused\n"
    "  --set K=V      of the training (xdc run --help-config): train.epochs, train.batch, augment.flip, ...\n"
    "  --json         result.json on stdout\n\n"
    "Without a preset: 8 epochs of 10 clips a video, 2 of warm-up, a tenth of the rate every 2, decay 5e-3 "
    "(fc: 0).\n";

struct request {
    struct finetune_request q;
    struct encoder_file encoder;
    const char *manifests[MANIFESTS_MAX];
    struct finetune_classes classes[MANIFESTS_MAX]; /* owned, [n] */
    uint32_t n;
    const char *dir;
    bool json, allow_unseen;
};

/* What makes the directory the one of this request: all that the result depends on. */
static int describe(const struct request *r, char **out, struct err *e)
{
    const struct finetune_request *q = &r->q;
    size_t size;
    FILE *f = open_memstream(out, &size);
    int rc = f ? 0 : err_sys(e, ENOMEM, "request");
    if (rc < 0)
        return rc;
    fprintf(f,
            "encoder %016" PRIx64 "\nupdate %s\npreset %s\nholdout %.17g\nclips %" PRIu64 "\nseed %" PRIu64
            "\nlr",
            r->encoder.hash, q->fc ? "fc" : "all", q->preset ? q->preset->name : "none", q->holdout, q->clips,
            q->seed);
    for (uint32_t i = 0; i < q->n_rates; i++)
        fprintf(f, " %.17g", q->rates[i]);
    for (uint32_t i = 0; i < q->n_sets; i++)
        if (!finetune_set_of_embed(q->sets[i]))
            fprintf(f, "\nset %s", q->sets[i]);
    for (uint32_t i = 0; rc == 0 && i < r->n; i++) {
        struct manifest *m = NULL;
        rc = manifest_open(r->manifests[i], &m, e);
        if (rc == 0)
            fprintf(f, "\nmanifest %016" PRIx64 " %s", manifest_identity(m), r->manifests[i]);
        manifest_close(m);
    }
    fputc('\n', f);
    return fclose(f) == 0 || rc < 0 ? rc : err_sys(e, ENOMEM, "request");
}

/* Takes the directory, which is empty or of the same request. */
static int enter_dir(const struct request *r, int *lock, struct err *e)
{
    char path[PATH_MAX], *wanted = NULL, *there = NULL;
    size_t size;
    struct err unsaid;
    int rc = describe(r, &wanted, e);
    if (rc == 0)
        rc = run_live_lock("xdc eval finetune", r->dir, lock, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/request", r->dir);
    if (rc == 0 && fs_read(path, 1 << 20, &there, &size, &unsaid) == 0 && strcmp(there, wanted) != 0)
        rc = err_set(e, XDC_EMISMATCH,
                     "%s is of another encoder, manifest or options: take another --dir, or "
                     "remove it (%s says what it is of)",
                     r->dir, path);
    if (rc == 0 && !there)
        rc = fs_write_atomic(path, wanted, strlen(wanted), e);
    free(there);
    free(wanted);
    return rc;
}

static json_t *counts(const struct finetune_classes *c)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:O, s:O, s:O}", "train", (json_int_t)c->train, "test",
                     (json_int_t)c->test, "no_label", (json_int_t)c->unlabelled, "no_split",
                     (json_int_t)c->no_split, "without_train", c->without_train, "without_test",
                     c->without_test, "unused", c->unused);
}

/* The papers' figures of the preset's data set and this way to fine-tune. */
static json_t *published(const struct finetune_request *q)
{
    json_t *list = json_array();
    size_t n;
    const struct published_row *rows = published_rows(&n);
    int set = q->preset ? published_set(q->preset->dataset) : -1;
    bool longer = q->preset && strstr(q->preset->name, "-32");
    const char *protocol = q->fc ? "fc" : longer ? "all-32" : "all";
    for (size_t i = 0; set >= 0 && i < n; i++)
        if (strcmp(rows[i].protocol, protocol) == 0 && rows[i].percent[set] > 0)
            json_array_append_new(list,
                                  json_pack("{s:s, s:s, s:s, s:i, s:f}", "table", rows[i].table, "method",
                                            rows[i].method, "pretraining", rows[i].pretraining, "k",
                                            (int)rows[i].k, "percent", rows[i].percent[set]));
    return list;
}

static int run_split(struct request *r, uint32_t i, json_t *splits, struct err *e)
{
    char dir[PATH_MAX], name[64];
    const struct finetune_classes *classes = &r->classes[i];
    json_t *one = NULL;
    snprintf(name, sizeof name, "split %u of %u", i + 1, r->n);
    int rc = fs_path(dir, e, "%s/%u", r->dir, i + 1);
    if (rc == 0)
        rc = finetune_split(&r->q, &r->encoder, r->manifests[i], dir, name, &one, e);
    if (rc == 0) {
        json_t *videos = counts(classes);
        json_object_set_new(
            videos, "lost",
            json_integer((json_int_t)classes->test - json_integer_value(json_object_get(one, "videos"))));
        json_object_set_new(one, "classes", videos);
        json_array_append_new(splits, one);
    } else
        json_decref(one);
    return rc;
}

static void print_names(const json_t *names, const char *sentence)
{
    size_t i;
    json_t *name;
    if (json_array_size(names) == 0)
        return;
    printf("  %zu classes %s:", json_array_size(names), sentence);
    json_array_foreach(names, i, name)
    {
        if (i < 10)
            printf("%s %s", i ? "," : "", json_string_value(name));
    }
    puts(json_array_size(names) > 10 ? ", and more" : "");
}

static double figure(const json_t *j, const char *part, const char *name)
{
    return json_number_value(json_object_get(json_object_get(j, part), name));
}

static void print_split(const json_t *s)
{
    const json_t *c = json_object_get(s, "classes");
    long long lost = (long long)json_integer_value(json_object_get(c, "lost")),
              faulty = (long long)json_integer_value(json_object_get(s, "train_failed_clips"));
    printf(
        "%s: lr %g, %lld test videos: %.4f right, %.4f among the first five; %.4f by averaged logits; %.4f "
        "of the clips\n",
        json_string_value(json_object_get(s, "manifest")), json_number_value(json_object_get(s, "lr")),
        (long long)json_integer_value(json_object_get(s, "videos")), figure(s, "figures", "video_top1"),
        figure(s, "figures", "video_top5"), figure(s, "figures", "video_top1_logits"),
        figure(s, "figures", "clip_top1"));
    if (lost)
        printf("  %lld test videos could not be decoded and do not count; embed.json names them\n", lost);
    if (faulty)
        printf("  %lld clips of train could not be decoded; final/run/logs says why\n", faulty);
    print_names(json_object_get(c, "without_train"), "of test that train lacks, all wrong");
    print_names(json_object_get(c, "without_test"), "of train without test videos");
    print_names(json_object_get(c, "unused"), "that no video has");
}

static void print_table(const json_t *j)
{
    size_t i;
    json_t *one;
    const char *differs = json_string_value(json_object_get(j, "differs"));
    if (differs && *differs)
        printf("input other than the encoder's own: %s\n", differs);
    json_array_foreach(json_object_get(j, "splits"), i, one) print_split(one);
    printf("top-1 of videos %.2f %%", 100 * figure(j, "figures", "video_top1"));
    if (json_is_object(json_object_get(j, "deviations")))
        printf(", deviation %.2f over %zu splits", 100 * figure(j, "deviations", "video_top1"),
               json_array_size(json_object_get(j, "splits")));
    putchar('\n');
    json_array_foreach(json_object_get(j, "published"), i, one) printf(
        "  published: %s, pretrained on %s: %.1f %% (%s)\n",
        json_string_value(json_object_get(one, "method")),
        json_string_value(json_object_get(one, "pretraining")),
        json_number_value(json_object_get(one, "percent")), json_string_value(json_object_get(one, "table")));
}

static int conclude(const struct request *r, json_t *splits, const char *differs, struct err *e)
{
    char path[PATH_MAX];
    json_t *j = json_pack("{s:s, s:s, s:s, s:s?, s:s, s:I, s:O, s:o}", "eval", "finetune", "encoder",
                          r->q.encoder, "update", r->q.fc ? "fc" : "all", "preset",
                          r->q.preset ? r->q.preset->name : NULL, "differs", differs, "seed",
                          (json_int_t)r->q.seed, "splits", splits, "published", published(&r->q));
    eval_report_summarise(j, splits);
    char *text = json_dumps(j, JSON_INDENT(2));
    int rc = text ? fs_path(path, e, "%s/result.json", r->dir) : err_sys(e, ENOMEM, "result");
    if (rc == 0)
        rc = fs_write_atomic(path, text, strlen(text), e);
    if (rc == 0 && r->json)
        puts(text);
    else if (rc == 0)
        print_table(j);
    free(text);
    json_decref(j);
    return rc;
}

/* All that can be refused before anything is done or written: hours may lie between the first split and the
 * last. */
static int check_all(struct request *r, struct err *e)
{
    int rc = encoder_file_read(r->q.encoder, &r->encoder, e);
    if (rc == 0)
        rc = finetune_check(&r->q, &r->encoder, e);
    for (uint32_t i = 0; rc == 0 && i < r->n; i++)
        rc = finetune_classes(r->manifests[i], r->allow_unseen, &r->classes[i], e);
    for (int last = 0; rc == 0 && last < 2; last++) { /* a run of the grid, and the last one */
        struct settings unused;
        const struct finetune_run run = {r->manifests[0], r->dir, r->q.rates[0], last ? 0 : r->q.holdout};
        rc = finetune_conf_make(&r->q, &r->encoder, &run, &unused, e);
        settings_close(&unused);
    }
    return rc;
}

static int finetune(struct request *r, struct err *e)
{
    char differs[512];
    int lock = -1;
    json_t *splits = json_array();
    int rc = check_all(r, e);
    if (rc == 0)
        rc = enter_dir(r, &lock, e);
    if (rc == 0) {
        finetune_differences(&r->q, &r->encoder, differs, sizeof differs);
        if (*differs)
            fprintf(stderr, "input other than the encoder's own: %s\n", differs);
    }
    for (uint32_t i = 0; rc == 0 && i < r->n; i++)
        rc = run_split(r, i, splits, e);
    if (rc == 0)
        rc = conclude(r, splits, differs, e);
    json_decref(splits);
    if (lock >= 0)
        close(lock);
    return rc;
}

/* -1 to go on, else the exit status. */
static int check(struct request *r, const char *rates, const char *preset, int argc, char **argv)
{
    if (optind + 2 > argc || !r->dir)
        return cli_usage("eval finetune", "needs ENCODER, MANIFEST and --dir");
    if (argc - optind - 1 > MANIFESTS_MAX)
        return cli_usage("eval finetune", "at most %d manifests", MANIFESTS_MAX);
    r->q.encoder = argv[optind];
    for (int i = optind + 1; i < argc; i++)
        r->manifests[r->n++] = argv[i];
    if (preset && !(r->q.preset = finetune_preset(preset)))
        return cli_usage("eval finetune", "--preset %s: is one of %s", preset, finetune_preset_names());
    finetune_rates(r->q.fc, r->q.rates, &r->q.n_rates);
    if (rates && !cli_parse_reals(rates, 1e-9, 100, r->q.rates, FINETUNE_RATES_MAX, &r->q.n_rates))
        return cli_usage("eval finetune", "--lr %s: must be 1 to %d numbers from 1e-9 to 100", rates,
                         FINETUNE_RATES_MAX);
    return -1;
}

int cli_eval_finetune(int argc, char **argv)
{
    struct request *r = calloc(1, sizeof *r);
    if (!r)
        return 70;
    r->q = (struct finetune_request){.holdout = 0.2, .clips = 10};
    const char *rates = NULL, *preset = NULL;
    int update = 0;
    const struct cli_option options[] = {
        {"dir", .text = &r->dir},
        {"preset", .text = &preset},
        {"update", .word = &update, .words = "all|fc"},
        {"lr", .text = &rates},
        {"holdout", .real = &r->q.holdout, .min = 0.01, .max = 0.5},
        {"clips", .count = &r->q.clips, .lo = 1, .hi = 1000000},
        {"seed", .count = &r->q.seed, .hi = UINT32_MAX},
        {"allow-unseen", .on = &r->allow_unseen},
        {"set", .texts = r->q.sets, .n_texts = &r->q.n_sets, .most = FINETUNE_SETS_MAX},
        {"json", .on = &r->json},
        {0}};
    struct err e;
    int status = cli_options("eval finetune", help, options, argc, argv);
    r->q.fc = update == 1;
    if (status < 0)
        status = check(r, rates, preset, argc, argv);
    if (status < 0)
        status = finetune(r, &e) < 0 ? cli_fail("eval finetune", &e) : 0;
    for (uint32_t i = 0; i < r->n; i++)
        finetune_classes_close(&r->classes[i]);
    free(r);
    return status;
}
