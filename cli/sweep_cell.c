/* One cell of a sweep with one seed: its pretrainings, then every evaluation of their encoders. Each step is
 * a command of this program and leaves one file when it is done. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/child.h"
#include "cli/run_events.h"
#include "cli/settings.h"
#include "cli/sweep.h"
#include "lib/fsutil.h"
#include "lib/progress.h"

struct job {
    const struct sweep *s;
    const json_t *cell;
    uint32_t seed, seed_index;
    char dir[PATH_MAX]; /* of the cell and seed */
    struct sweep_counts *n;
    struct err *e;
};

static int seed_dir(const struct sweep *s, const json_t *cell, uint32_t seed, char out[PATH_MAX],
                    struct err *e)
{
    return fs_path(out, e, "%s/%s/seed-%u", s->dir, sweep_text(cell, "slug"), seed);
}

int sweep_part_dir(const struct sweep *s, const json_t *cell, size_t part, uint32_t seed, char out[PATH_MAX],
                   struct err *e)
{
    char dir[PATH_MAX];
    int rc = seed_dir(s, cell, seed, dir, e);
    return rc == 0 ? fs_path(out, e, "%s/pretrain-%zu", dir, part) : rc;
}

int sweep_result_path(const struct sweep *s, const json_t *cell, const json_t *column, const char *modality,
                      size_t manifest, uint32_t seed, char out[PATH_MAX], struct err *e)
{
    char dir[PATH_MAX];
    int rc = seed_dir(s, cell, seed, dir, e);
    return rc == 0 ? fs_path(out, e, "%s/%s-%s-%zu.json", dir, sweep_text(column, "key"), modality, manifest)
                   : rc;
}

int sweep_part_of(const json_t *cell, const char *modality, const char **encoder)
{
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(cell, "parts"), i, part)
    {
        *encoder = sweep_text(part, modality);
        if (*encoder)
            return (int)i;
    }
    return -1;
}

uint32_t sweep_cell_steps(const struct sweep *s, const json_t *cell)
{
    size_t i, j;
    json_t *column, *modality;
    const char *unused;
    uint32_t n = (uint32_t)json_array_size(json_object_get(cell, "parts"));
    json_array_foreach(s->columns, i, column)
    {
        json_array_foreach(json_object_get(column, "of"), j, modality)
        {
            if (sweep_part_of(cell, json_string_value(modality), &unused) >= 0)
                n += (uint32_t)json_array_size(json_object_get(column, "manifests"));
        }
    }
    return n;
}

/* Counts a step and says what came of it. */
static void say(struct job *x, const char *what, const char *outcome, double seconds)
{
    struct sweep_counts *n = x->n;
    n->done++;
    double left = (progress_now_s() - n->start_s) / n->done * (n->total - n->done);
    fprintf(stderr, "[%u of %u] %s seed %u: %s: %s, %.0f s; %.0f min left\n", n->done, n->total,
            sweep_text(x->cell, "slug"), x->seed, what, outcome, seconds, left / 60);
}

/* What a failed step leaves: a file with the sentence, beside where its result would be. The sweep goes on;
 * not so when it was stopped or nothing can be written. */
static int note_failure(struct job *x, const char *result, const char *what, double seconds)
{
    char path[PATH_MAX], sentence[sizeof x->e->msg];
    struct err unsaid;
    int code = x->e->code;
    if (code == XDC_ESTOPPED || err_exit_status(code) == 74)
        return code;
    snprintf(sentence, sizeof sentence, "%s", x->e->msg);
    x->n->failed++;
    say(x, what, sentence, seconds);
    int rc = fs_path(path, &unsaid, "%s.failed", result);
    return rc == 0 ? fs_write_atomic(path, sentence, strlen(sentence), x->e) : rc;
}

/* A step that has come right takes the place of its failure. */
static int forget_failure(const char *result, struct err *e)
{
    char path[PATH_MAX];
    int rc = fs_path(path, e, "%s.failed", result);
    return rc < 0 || unlink(path) == 0 || errno == ENOENT ? rc : err_sys(e, errno, "%s", path);
}

static int command(struct job *x, const char *const *args, const char *out)
{
    char log[PATH_MAX];
    int rc = fs_path(log, x->e, "%s/log", x->dir);
    const struct child c = {.args = args, .log = log, .out = out};
    return rc == 0 ? child_run(&c, x->e) : rc;
}

static int part_settings(const struct job *x, const json_t *part, const char *run_dir, struct settings *out)
{
    const char *key;
    json_t *value;
    int rc = 0;
    *out = (struct settings){0};
    json_object_foreach(json_object_get(part, "set"), key, value)
    {
        if (rc == 0)
            rc = settings_add(out, x->e, "%s=%s", key, json_string_value(value));
    }
    if (rc == 0)
        rc = settings_add(out, x->e, "run.seed=%u", x->seed);
    return rc == 0 ? settings_add(out, x->e, "run.dir=%s", run_dir) : rc;
}

/* A directory keeps the settings that it was made with. */
static int check_settings(const struct job *x, const char *dir, const struct settings *sets)
{
    char path[PATH_MAX], *there = NULL, *text = NULL;
    size_t size;
    struct err unsaid;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return err_sys(x->e, ENOMEM, "settings");
    fprintf(f, "base=%s\n", x->s->base);
    for (size_t i = 0; i < sets->n; i++)
        fprintf(f, "%s\n", sets->texts[i]);
    fclose(f);
    int rc = fs_path(path, x->e, "%s/settings", dir);
    if (rc == 0 && fs_read(path, 1 << 20, &there, &size, &unsaid) == 0 && strcmp(there, text) != 0)
        rc = err_set(
            x->e, XDC_EMISMATCH,
            "%s was made with other settings (%s): remove %s with all its results, or take another dir", dir,
            path, x->dir);
    if (rc == 0 && !there)
        rc = fs_write_atomic(path, text, strlen(text), x->e);
    free(there);
    free(text);
    return rc;
}

/* Of all the run's phases, also of those before it was stopped and gone on with. */
static int seconds_of(const char *run_dir, double *out, struct err *e)
{
    struct run_events events;
    const char *name;
    json_t *phase;
    int rc = run_events_read(run_dir, &events, e);
    *out = 0;
    for (size_t i = 0; rc == 0 && i < events.n; i++)
        json_object_foreach(events.round[i].phases, name, phase) *out +=
            json_number_value(json_object_get(phase, "seconds"));
    run_events_close(&events);
    return rc;
}

static int run_part(struct job *x, const char *run_dir, const struct settings *sets, const char *done)
{
    const char *args[2 * SETTINGS_MAX + 4] = {"run", "-c", x->s->base};
    char text[64];
    size_t n = 3;
    double seconds = 0;
    for (size_t i = 0; i < sets->n; i++) {
        args[n++] = "--set";
        args[n++] = sets->texts[i];
    }
    int rc = command(x, args, NULL);
    if (rc == 0)
        rc = seconds_of(run_dir, &seconds, x->e);
    int size = snprintf(text, sizeof text, "{\"seconds\": %.1f}\n", seconds);
    return rc == 0 ? fs_write_atomic(done, text, (size_t)size, x->e) : rc;
}

/* 0 also when it failed and that is noted; *out_there tells whether there are encoders. */
static int pretrain(struct job *x, size_t i, bool *out_there)
{
    char dir[PATH_MAX], run_dir[PATH_MAX], done[PATH_MAX];
    struct settings sets = {0};
    double start = progress_now_s();
    const json_t *part = json_array_get(json_object_get(x->cell, "parts"), i);
    int rc = sweep_part_dir(x->s, x->cell, i, x->seed, dir, x->e);
    if (rc == 0)
        rc = fs_path(run_dir, x->e, "%s/run", dir);
    if (rc == 0)
        rc = fs_path(done, x->e, "%s/pretrained.json", dir);
    if (rc == 0)
        rc = fs_mkdirs(dir, x->e);
    if (rc < 0)
        return rc;
    rc = part_settings(x, part, run_dir, &sets);
    if (rc == 0)
        rc = check_settings(x, dir, &sets);
    *out_there = rc == 0 && access(done, F_OK) == 0;
    if (rc == 0 && !*out_there)
        rc = run_part(x, run_dir, &sets, done);
    settings_close(&sets);
    if (*out_there) {
        x->n->done++;
        return 0;
    }
    if (rc < 0)
        return note_failure(x, done, "pretraining", progress_now_s() - start);
    *out_there = true;
    say(x, "pretraining", "done", progress_now_s() - start);
    return forget_failure(done, x->e);
}

/* The encoder's file, and its features of a manifest's clips, made where they are not there. */
static int features(struct job *x, const json_t *column, size_t manifest, const char *part_dir,
                    const char *encoder, char npy[PATH_MAX])
{
    char file[PATH_MAX];
    const char *path = json_string_value(json_array_get(json_object_get(column, "manifests"), manifest));
    int rc = fs_path(npy, x->e, "%s/%s-%s-%zu-%s.npy", part_dir, encoder, sweep_text(column, "target"),
                     manifest, sweep_text(column, "clips"));
    if (rc == 0)
        rc = fs_path(file, x->e, "%s/run/export/%s.safetensors", part_dir, encoder);
    if (rc < 0 || access(npy, F_OK) == 0)
        return rc;
    const char *const args[] = {"embed", file, path, "--clips", sweep_text(column, "clips"),
                                "--out", npy,  NULL};
    return command(x, args, NULL);
}

/* The rate that the first seed has chosen, as text; false where it has none. */
static bool chosen_rate(const struct job *x, const json_t *column, const char *modality, size_t manifest,
                        char out[32])
{
    char path[PATH_MAX];
    struct err unsaid;
    if (x->seed_index == 0 ||
        sweep_result_path(x->s, x->cell, column, modality, manifest, x->s->seeds[0], path, &unsaid) < 0)
        return false;
    json_t *j = json_load_file(path, 0, NULL);
    const json_t *lr = json_object_get(json_array_get(json_object_get(j, "splits"), 0), "lr");
    bool there = json_is_number(lr);
    snprintf(out, 32, "%.17g", json_number_value(lr));
    json_decref(j);
    return there;
}

/* The column's flags behind args[n], with its --lr replaced by `rate` unless that is NULL. */
static size_t add_flags(const json_t *column, const char *rate, const char **args, size_t n, size_t most)
{
    const json_t *flags = json_object_get(column, "options");
    for (size_t i = 0; i + 1 < json_array_size(flags) && n + 4 < most; i += 2) {
        const char *flag = json_string_value(json_array_get(flags, i));
        if (rate && strcmp(flag, "--lr") == 0)
            continue;
        args[n++] = flag;
        args[n++] = json_string_value(json_array_get(flags, i + 1));
    }
    if (rate) {
        args[n++] = "--lr";
        args[n++] = rate;
    }
    args[n] = NULL;
    return n;
}

static int finetune(struct job *x, const json_t *column, const char *modality, size_t manifest,
                    const char *part_dir, const char *encoder, const char *out)
{
    char dir[PATH_MAX], file[PATH_MAX], seed[16], rate[32];
    const char *path = json_string_value(json_array_get(json_object_get(column, "manifests"), manifest));
    int rc = fs_path(dir, x->e, "%s/%s-%s-%zu", x->dir, sweep_text(column, "key"), modality, manifest);
    if (rc == 0)
        rc = fs_path(file, x->e, "%s/run/export/%s.safetensors", part_dir, encoder);
    snprintf(seed, sizeof seed, "%u", x->seed);
    const char *args[160] = {"eval",   "finetune", file,      path,
                             "--dir",  dir,        "--clips", sweep_text(column, "clips"),
                             "--seed", seed,       "--json"};
    bool chosen = chosen_rate(x, column, modality, manifest, rate);
    add_flags(column, chosen ? rate : NULL, args, 11, sizeof args / sizeof args[0]);
    return rc == 0 ? command(x, args, out) : rc;
}

static int judge(struct job *x, const json_t *column, size_t manifest, const char *part_dir,
                 const char *encoder, const char *out)
{
    char npy[PATH_MAX], seed[16];
    const char *what = sweep_text(column, "eval");
    bool draws = strcmp(what, "knn") != 0 && strcmp(what, "retrieval") != 0;
    int rc = features(x, column, manifest, part_dir, encoder, npy);
    const char *args[160] = {"eval", what, npy, "--json"};
    size_t n = 4;
    snprintf(seed, sizeof seed, "%u", x->seed);
    if (draws) {
        args[n++] = "--seed";
        args[n++] = seed;
    }
    add_flags(column, NULL, args, n, sizeof args / sizeof args[0]);
    return rc == 0 ? command(x, args, out) : rc;
}

static double figure_in(const char *path, const char *name)
{
    json_t *j = json_load_file(path, 0, NULL);
    double figure = json_number_value(json_object_get(json_object_get(j, "figures"), name));
    json_decref(j);
    return figure;
}

static int evaluate(struct job *x, const json_t *column, const char *modality, size_t manifest)
{
    char part_dir[PATH_MAX], path[PATH_MAX], part_path[PATH_MAX], what[256], outcome[64];
    const char *encoder = NULL;
    double start = progress_now_s();
    int part = sweep_part_of(x->cell, modality, &encoder);
    if (part < 0)
        return 0;
    int rc = sweep_part_dir(x->s, x->cell, (size_t)part, x->seed, part_dir, x->e);
    if (rc == 0)
        rc = sweep_result_path(x->s, x->cell, column, modality, manifest, x->seed, path, x->e);
    if (rc == 0)
        rc = fs_path(part_path, x->e, "%s.part", path);
    if (rc < 0)
        return rc;
    if (access(path, F_OK) == 0) {
        x->n->done++;
        return 0;
    }
    snprintf(what, sizeof what, "%s %s", sweep_text(column, "name"), modality);
    if (strcmp(sweep_text(column, "eval"), "finetune") == 0)
        rc = finetune(x, column, modality, manifest, part_dir, encoder, part_path);
    else
        rc = judge(x, column, manifest, part_dir, encoder, part_path);
    if (rc < 0)
        return note_failure(x, path, what, progress_now_s() - start);
    if (rename(part_path, path) < 0)
        return err_sys(x->e, errno, "%s", path);
    snprintf(outcome, sizeof outcome, "%s %.4f", sweep_text(column, "figure"),
             figure_in(path, sweep_text(column, "figure")));
    say(x, what, outcome, progress_now_s() - start);
    return forget_failure(path, x->e);
}

/* The steps that a failed pretraining takes with it. */
static void pass_over(struct job *x, const json_t *column, const char *modality)
{
    const char *unused;
    if (sweep_part_of(x->cell, modality, &unused) >= 0)
        x->n->done += (uint32_t)json_array_size(json_object_get(column, "manifests"));
}

int sweep_cell(const struct sweep *s, const json_t *cell, uint32_t seed_index, struct sweep_counts *n,
               struct err *e)
{
    struct job x = {s, cell, s->seeds[seed_index], seed_index, "", n, e};
    size_t parts = json_array_size(json_object_get(cell, "parts")), i, j;
    bool all = true;
    json_t *column, *modality;
    int rc = seed_dir(s, cell, x.seed, x.dir, e);
    if (rc == 0)
        rc = fs_mkdirs(x.dir, e);
    for (size_t p = 0; rc == 0 && p < parts; p++) {
        bool there;
        rc = pretrain(&x, p, &there);
        all = all && there;
    }
    json_array_foreach(s->columns, i, column)
    {
        json_array_foreach(json_object_get(column, "of"), j, modality)
        {
            if (rc == 0 && !all)
                pass_over(&x, column, json_string_value(modality));
            for (size_t m = 0; rc == 0 && all && m < json_array_size(json_object_get(column, "manifests"));
                 m++)
                rc = evaluate(&x, column, json_string_value(modality), m);
        }
    }
    return rc;
}

/* The configuration of every part, as `xdc run -n` checks it. */
int sweep_check(const struct sweep *s, struct err *e)
{
    size_t i, p;
    json_t *cell, *part;
    int rc = 0;
    struct conf *conf = malloc(sizeof *conf);
    if (!conf)
        return err_sys(e, ENOMEM, "settings");
    json_array_foreach(s->cells, i, cell)
    {
        struct job x = {s, cell, s->seeds[0], 0, "", NULL, e};
        printf("%s: %u steps a seed\n", sweep_text(cell, "slug"), sweep_cell_steps(s, cell));
        json_array_foreach(json_object_get(cell, "parts"), p, part)
        {
            struct settings sets = {0};
            if (rc == 0)
                rc = part_settings(&x, part, s->dir, &sets);
            if (rc == 0)
                rc = settings_load(&sets, s->base, sweep_text(cell, "slug"), conf, e);
            settings_close(&sets);
        }
    }
    free(conf);
    return rc;
}
