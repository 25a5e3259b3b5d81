#include "cli/finetune.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/child.h"
#include "cli/finetune_score.h"
#include "cli/run_events.h"
#include "cli/run_live.h"
#include "lib/fsutil.h"
#include "lib/progress.h"

/* Runs a command with its output in <dir>/log. */
static int step(const char *dir, const char *const *args, const char *out, struct err *e)
{
    char log[PATH_MAX];
    int rc = fs_path(log, e, "%s/log", dir);
    const struct child c = {.args = args, .log = log, .out = out};
    return rc == 0 ? child_run(&c, e) : rc;
}

/* Fine-tunes in r->dir; a finished run is not run again. */
static int train(const struct finetune_request *q, const struct encoder_file *f, const char *dir,
                 const struct finetune_run *r, struct err *e)
{
    struct settings c;
    const char *args[2 * SETTINGS_MAX + 2] = {"run"};
    size_t n = 1;
    int rc = finetune_conf_make(q, f, r, &c, e);
    for (size_t i = 0; i < c.n; i++) {
        args[n++] = "--set";
        args[n++] = c.texts[i];
    }
    if (rc == 0)
        rc = step(dir, args, NULL, e);
    settings_close(&c);
    return rc;
}

/* What a run records of its last epoch; *out is the caller's. XDC_EFORMAT where it learnt nothing. */
static int read_epoch(const char *run_dir, const char *encoder, json_t **out, struct err *e)
{
    struct run_events events;
    int rc = run_events_read(run_dir, &events, e);
    json_t *last = rc == 0 && events.n ? events.round[0].epoch : NULL;
    if (rc == 0 && !json_is_number(json_object_get(json_object_get(last, "loss"), encoder)))
        rc = err_set(e, XDC_EFORMAT,
                     "no clip of train could be learnt: %s/logs has the reasons (%lld clips were faulty)",
                     run_dir, (long long)json_integer_value(json_object_get(last, "quarantined")));
    if (rc == 0)
        *out = json_incref(last);
    run_events_close(&events);
    return rc;
}

/* Whether a run was given up because its loss did not stay finite: another try would end alike. */
static bool diverged(const char *run_dir, int rc)
{
    char path[PATH_MAX];
    struct err unsaid;
    return rc == XDC_EFORMAT && fs_path(path, &unsaid, "%s/unstable.jsonl", run_dir) == 0 &&
           access(path, F_OK) == 0;
}

static const char *name_of(const struct encoder_file *f)
{
    return f->sees == NET_VIDEO ? "video" : "audio";
}

/* What a step has left; NULL when it has not been finished. */
static json_t *read_result(const char *dir)
{
    char path[PATH_MAX];
    struct err unsaid;
    return fs_path(path, &unsaid, "%s/result.json", dir) == 0 ? json_load_file(path, 0, NULL) : NULL;
}

static int write_result(const char *dir, const json_t *j, struct err *e)
{
    char path[PATH_MAX];
    char *text = json_dumps(j, JSON_INDENT(2));
    int rc = text ? fs_path(path, e, "%s/result.json", dir) : err_sys(e, ENOMEM, "result");
    if (rc == 0)
        rc = fs_write_atomic(path, text, strlen(text), e);
    free(text);
    return rc;
}

/* One rate of the grid: {"lr", "accuracy", "seconds"}; accuracy null: its loss did not stay finite, or there
 * is no hold-out. Its weights are of no use afterwards. */
static int try_rate(const struct finetune_request *q, const struct encoder_file *f, const char *manifest,
                    const char *dir, double rate, json_t **out, struct err *e)
{
    char run_dir[PATH_MAX];
    double start = progress_now_s();
    json_t *epoch = NULL;
    int rc = fs_mkdirs(dir, e);
    if (rc == 0)
        rc = fs_path(run_dir, e, "%s/run", dir);
    const struct finetune_run r = {manifest, run_dir, rate, q->holdout};
    *out = rc == 0 ? read_result(dir) : NULL;
    if (rc == 0 && !*out) {
        rc = train(q, f, dir, &r, e);
        if (diverged(run_dir, rc))
            rc = 0;
        else if (rc == 0)
            rc = read_epoch(run_dir, name_of(f), &epoch, e);
        json_t *held = json_object_get(json_object_get(epoch, "holdout"), "accuracy");
        if (rc == 0) {
            *out = json_pack("{s:f, s:O?, s:f}", "lr", rate, "accuracy", json_object_get(held, name_of(f)),
                             "seconds", progress_now_s() - start);
            rc = write_result(dir, *out, e);
        }
        json_decref(epoch);
    }
    return rc == 0 ? run_live_remove(run_dir, e) : rc;
}

/* "lr-0.01"; of rates that print alike each has a name of its own. */
static int name_rate(const char *dir, double rate, char out[PATH_MAX], struct err *e)
{
    char text[32];
    snprintf(text, sizeof text, "%g", rate);
    if (strtod(text, NULL) != rate)
        snprintf(text, sizeof text, "%.17g", rate);
    return fs_path(out, e, "%s/lr-%s", dir, text);
}

static void tell_rate(const struct finetune_request *q, const char *name, uint32_t i, const json_t *one)
{
    const json_t *accuracy = json_object_get(one, "accuracy");
    fprintf(stderr, "%s: lr %g (%u of %u): ", name, q->rates[i], i + 1, q->n_rates);
    if (json_is_number(accuracy))
        fprintf(stderr, "%.4f of the held-out clips right, ", json_number_value(accuracy));
    else
        fprintf(stderr, "nothing on held-out clips (its loss did not stay finite, or there are none), ");
    fprintf(stderr, "%.0f s\n", json_number_value(json_object_get(one, "seconds")));
}

/* The rate with the most held-out clips right, the lowest of equal ones. */
static int choose_rate(const struct finetune_request *q, const struct encoder_file *f, const char *manifest,
                       const char *dir, const char *name, double *rate, json_t *grid, struct err *e)
{
    double best = -1;
    int rc = 0;
    *rate = q->rates[0];
    for (uint32_t i = 0; rc == 0 && q->n_rates > 1 && i < q->n_rates; i++) {
        char sub[PATH_MAX];
        json_t *one = NULL;
        rc = name_rate(dir, q->rates[i], sub, e);
        if (rc == 0)
            rc = try_rate(q, f, manifest, sub, q->rates[i], &one, e);
        if (rc < 0) {
            json_decref(one);
            return rc;
        }
        const json_t *accuracy = json_object_get(one, "accuracy");
        tell_rate(q, name, i, one);
        if (json_is_number(accuracy) && json_number_value(accuracy) > best) {
            best = json_number_value(accuracy);
            *rate = q->rates[i];
        }
        json_array_append_new(grid, one);
    }
    if (rc == 0 && q->n_rates > 1 && best < 0)
        rc = err_set(e, XDC_EFORMAT,
                     "%s: no rate has a figure on held-out clips: nothing of train could be held out, or no "
                     "loss stayed finite; give one --lr and another --dir",
                     dir);
    return rc;
}

/* The features of test's clips by the fine-tuned encoder, as <dir>/test.npy; what could not be decoded is in
 * <dir>/embed.json. */
static int embed_test(const struct finetune_request *q, const char *manifest, const char *dir,
                      const char *encoder, char npy[PATH_MAX], char said[PATH_MAX], struct err *e)
{
    char clips[24];
    int rc = fs_path(npy, e, "%s/test.npy", dir);
    if (rc == 0)
        rc = fs_path(said, e, "%s/embed.json", dir);
    snprintf(clips, sizeof clips, "%llu", (unsigned long long)q->clips);
    const char *args[2 * FINETUNE_SETS_MAX + 16] = {"embed",   encoder, manifest, "--split", "test",
                                                    "--clips", clips,   "--out",  npy,       "--json"};
    size_t n = 10;
    for (uint32_t i = 0; i < q->n_sets; i++)
        if (finetune_set_of_embed(q->sets[i])) {
            args[n++] = "--set";
            args[n++] = q->sets[i];
        }
    return rc == 0 ? step(dir, args, said, e) : rc;
}

/* All of train at the chosen rate, and what comes of it on test. */
static int finish(const struct finetune_request *q, const struct encoder_file *f, const char *manifest,
                  const char *dir, double rate, json_t **out, struct err *e)
{
    const char *sees = name_of(f);
    json_t *epoch = NULL;
    char run_dir[PATH_MAX], encoder[PATH_MAX], npy[PATH_MAX], said[PATH_MAX];
    double start = progress_now_s();
    int rc = fs_mkdirs(dir, e);
    if (rc == 0)
        rc = fs_path(run_dir, e, "%s/run", dir);
    if (rc == 0)
        rc = fs_path(encoder, e, "%s/%s.safetensors", dir, sees);
    const struct finetune_run r = {manifest, run_dir, rate, 0};
    if (rc == 0)
        rc = train(q, f, dir, &r, e);
    if (rc == 0)
        rc = read_epoch(run_dir, sees, &epoch, e);
    const char *const take[] = {"export", run_dir, "--encoder", sees, "--head", "fc", "--out", encoder, NULL};
    if (rc == 0)
        rc = step(dir, take, NULL, e);
    if (rc == 0)
        rc = embed_test(q, manifest, dir, encoder, npy, said, e);
    if (rc == 0)
        rc = finetune_score(encoder, manifest, npy, out, e);
    if (rc < 0) {
        json_decref(epoch);
        return rc;
    }
    json_t *embedded = json_load_file(said, 0, NULL);
    json_object_set_new(*out, "encoder", json_string(encoder));
    json_object_set(*out, "train_failed_clips", json_object_get(epoch, "quarantined"));
    json_object_set(*out, "failed_clips", json_object_get(embedded, "failed_clips"));
    json_object_set(*out, "failed", json_object_get(embedded, "failed"));
    json_object_set_new(*out, "seconds", json_real(progress_now_s() - start));
    json_decref(embedded);
    json_decref(epoch);
    return 0;
}

int finetune_split(const struct finetune_request *q, const struct encoder_file *f, const char *manifest,
                   const char *dir, const char *name, json_t **out, struct err *e)
{
    double rate;
    char final_dir[PATH_MAX];
    *out = read_result(dir);
    if (*out)
        return 0;
    json_t *grid = json_array();
    int rc = fs_mkdirs(dir, e);
    if (rc == 0)
        rc = choose_rate(q, f, manifest, dir, name, &rate, grid, e);
    if (rc == 0)
        rc = fs_path(final_dir, e, "%s/final", dir);
    if (rc == 0)
        rc = finish(q, f, manifest, final_dir, rate, out, e);
    if (rc == 0) {
        json_object_set_new(*out, "manifest", json_string(manifest));
        json_object_set_new(*out, "lr", json_real(rate));
        json_object_set(*out, "grid", grid);
        rc = write_result(dir, *out, e);
        fprintf(stderr, "%s: lr %g: %.4f of %lld test videos right\n", name, rate,
                json_number_value(json_object_get(json_object_get(*out, "figures"), "video_top1")),
                (long long)json_integer_value(json_object_get(*out, "videos")));
    }
    json_decref(grid);
    return rc;
}
