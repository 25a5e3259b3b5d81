#include "cli/eval_rows.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cluster_input.h"
#include "lib/fsutil.h"
#include "services/clusterer/rows.h"

#define NAMES_TOLD 5

static bool is_number(const char *name)
{
    return *name && strspn(name, "0123456789") == strlen(name);
}

/* Numbers by size and before other names, those by their bytes. */
static int compare_names(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    bool nx = is_number(x), ny = is_number(y);
    if (nx != ny)
        return nx ? -1 : 1;
    if (nx && strlen(x) != strlen(y))
        return strlen(x) < strlen(y) ? -1 : 1;
    return strcmp(x, y);
}

/* Sorts the classes' names and gives the notes the sorted numbers. */
static int sort_classes(json_t *names, struct eval_note *notes, struct eval_rows *out, struct err *e)
{
    const char *name;
    json_t *number;
    size_t count = json_object_size(names);
    uint32_t *sorted = calloc(count + 1, sizeof *sorted);
    out->classes = calloc(count + 1, sizeof *out->classes);
    int rc = sorted && out->classes ? 0 : err_sys(e, ENOMEM, "%zu classes", count);
    if (rc == 0) {
        json_object_foreach(names, name, number)
        {
            if ((out->classes[out->n_classes] = strdup(name)))
                out->n_classes++;
        }
        if (out->n_classes != count)
            rc = err_sys(e, ENOMEM, "%zu classes", count);
    }
    if (rc == 0)
        qsort(out->classes, count, sizeof *out->classes, compare_names);
    for (uint32_t c = 0; rc == 0 && c < count; c++)
        sorted[json_integer_value(json_object_get(names, out->classes[c]))] = c;
    for (uint64_t i = 0; rc == 0 && i < out->n; i++)
        if (notes[i].label != LABEL_NONE)
            notes[i].label = sorted[notes[i].label];
    free(sorted);
    return rc;
}

static int compare_notes(const void *a, const void *b)
{
    const struct eval_note *x = a, *y = b;
    if (x->video != y->video)
        return x->video < y->video ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static const char *class_name(const struct eval_rows *r, uint32_t label)
{
    return label == LABEL_NONE ? "none" : r->classes[label];
}

/* Rows by video. All rows of a video must say the same of it. */
static int group(const char *path, struct eval_note *notes, struct eval_rows *out, struct err *e)
{
    qsort(notes, out->n, sizeof *notes, compare_notes);
    out->order = malloc(out->n * sizeof *out->order);
    out->videos = malloc(out->n * sizeof *out->videos);
    out->moments = malloc(out->n * sizeof *out->moments);
    if (!out->order || !out->videos || !out->moments)
        return err_sys(e, ENOMEM, "%" PRIu64 " rows", out->n);
    struct eval_video *v = out->videos;
    for (uint64_t i = 0; i < out->n; i++) {
        const struct eval_note *note = &notes[i];
        out->order[i] = note->row;
        out->moments[note->row] = note->moment;
        if (i == 0 || note->video != v->id) {
            v = &out->videos[out->n_videos++];
            *v = (struct eval_video){
                .id = note->video, .first = i, .label = note->label, .split = note->split};
        }
        v->clips++;
        if (note->label != v->label)
            return err_set(e, XDC_EFORMAT,
                           "%s: rows %" PRIu64 " and %" PRIu64 " are of video %" PRIu64
                           " but have the labels %s and %s",
                           path, out->order[v->first], note->row, v->id, class_name(out, v->label),
                           class_name(out, note->label));
        if (note->split != v->split)
            return err_set(e, XDC_EFORMAT,
                           "%s: rows %" PRIu64 " and %" PRIu64 " are of video %" PRIu64
                           " but in different splits",
                           path, out->order[v->first], note->row, v->id);
    }
    return 0;
}

/* "f.npy" -> "f.jsonl" */
static int path_beside(const char *features, char out[PATH_MAX], struct err *e)
{
    size_t n = strlen(features);
    if (n > 4 && strcmp(features + n - 4, ".npy") == 0)
        n -= 4;
    return fs_path(out, e, "%.*s.jsonl", (int)n, features);
}

static int read_notes(const struct eval_sources *s, struct eval_rows *out, struct err *e)
{
    char beside[PATH_MAX];
    const char *path = s->labels ? s->labels : s->rows;
    json_t *names = json_object();
    struct eval_note *notes = calloc(out->n, sizeof *notes);
    int rc = names && notes ? 0 : err_sys(e, ENOMEM, "%" PRIu64 " rows", out->n);
    if (rc == 0 && !path && (rc = path_beside(s->features, beside, e)) == 0)
        path = beside;
    if (rc == 0)
        rc = s->labels ? eval_notes_read_arrays(s, out->n, notes, names, e)
                       : eval_notes_read_lines(path, out->n, notes, names, &out->maker, e);
    if (rc == -ENOENT && path == beside)
        err_wrap(e, "what the rows of %s are: xdc embed writes it, or give --labels", s->features);
    if (rc == 0)
        rc = sort_classes(names, notes, out, e);
    if (rc == 0)
        rc = group(path, notes, out, e);
    free(notes);
    json_decref(names);
    return rc;
}

int eval_rows_read(const struct eval_sources *s, unsigned threads, struct eval_rows *out, struct err *e)
{
    *out = (struct eval_rows){.path = s->features};
    int rc = cluster_read_table(s->features, 0, &out->x, &out->n, &out->d, e);
    if (rc == 0)
        rc = cluster_check_finite(s->features, out->x, out->n, out->d, threads, e);
    if (rc == 0)
        rc = read_notes(s, out, e);
    if (rc)
        eval_rows_close(out);
    return rc;
}

void eval_rows_close(struct eval_rows *r)
{
    for (uint32_t c = 0; c < r->n_classes; c++)
        free(r->classes[c]);
    free(r->classes);
    free(r->moments);
    free(r->videos);
    free(r->order);
    free(r->x);
    *r = (struct eval_rows){0};
}

void eval_rows_count(const struct eval_rows *r, enum eval_split split, uint64_t *out)
{
    memset(out, 0, r->n_classes * sizeof *out);
    for (uint64_t v = 0; v < r->n_videos; v++)
        if (r->videos[v].split == split && r->videos[v].label != LABEL_NONE)
            out[r->videos[v].label]++;
}

/* Classes that test has and train has not. */
static int refuse_unseen(const struct eval_rows *r, const uint64_t *train, const uint64_t *test,
                         struct err *e)
{
    char names[512] = "";
    uint64_t classes = 0, videos = 0;
    size_t at = 0;
    for (uint32_t c = 0; c < r->n_classes; c++) {
        if (train[c] || !test[c])
            continue;
        if (classes < NAMES_TOLD && at < sizeof names)
            at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", at ? ", " : "", r->classes[c]);
        classes++;
        videos += test[c];
    }
    if (!classes)
        return 0;
    uint64_t v = 0;
    while (r->videos[v].split != EVAL_TEST || r->videos[v].label == LABEL_NONE || train[r->videos[v].label])
        v++;
    return err_set(e, XDC_EFORMAT,
                   "%s: %" PRIu64 " test videos are of %" PRIu64 " classes that no train video has (%s%s; "
                   "the first is row %" PRIu64 "); --allow-unseen counts them as wrong",
                   r->path, videos, classes, names, classes > NAMES_TOLD ? ", and more" : "",
                   r->order[r->videos[v].first]);
}

int eval_rows_check(const struct eval_rows *r, bool allow_unseen, struct err *e)
{
    uint64_t *train = calloc(2 * (size_t)r->n_classes + 1, sizeof *train), *test = train + r->n_classes;
    uint64_t trained = 0, tested = 0;
    if (!train)
        return err_sys(e, ENOMEM, "%u classes", r->n_classes);
    eval_rows_count(r, EVAL_TRAIN, train);
    eval_rows_count(r, EVAL_TEST, test);
    for (uint32_t c = 0; c < r->n_classes; c++) {
        trained += train[c] > 0;
        tested += test[c] > 0;
    }
    int rc = 0;
    if (!trained || !tested)
        rc = err_set(e, XDC_EFORMAT, "%s: no row of the split %s has a label", r->path,
                     trained ? "test" : "train");
    else if (trained < 2)
        rc = err_set(e, XDC_EFORMAT, "%s: all rows of the split train are of one class", r->path);
    else if (!allow_unseen)
        rc = refuse_unseen(r, train, test, e);
    free(train);
    return rc;
}

int eval_rows_select(const struct eval_rows *r, enum eval_split split, uint64_t **out_videos, uint64_t *out_n,
                     struct err *e)
{
    *out_n = 0;
    *out_videos = malloc((r->n_videos + 1) * sizeof **out_videos);
    if (!*out_videos)
        return err_sys(e, ENOMEM, "%" PRIu64 " videos", r->n_videos);
    for (uint64_t v = 0; v < r->n_videos; v++)
        if (r->videos[v].split == split && r->videos[v].label != LABEL_NONE)
            (*out_videos)[(*out_n)++] = v;
    return 0;
}

/* sums [d] += the rows of train's, or with means their squared distances from those. Returns how many. */
static uint64_t sum_train(const struct eval_rows *r, const double *means, double *sums)
{
    uint64_t rows = 0;
    for (uint64_t i = 0; i < r->n_videos; i++) {
        const struct eval_video *v = &r->videos[i];
        if (v->split != EVAL_TRAIN || v->label == LABEL_NONE)
            continue;
        for (uint32_t clip = 0; clip < v->clips; clip++, rows++) {
            const float *x = r->x + r->order[v->first + clip] * r->d;
            for (uint32_t j = 0; j < r->d; j++)
                sums[j] += means ? ((double)x[j] - means[j]) * ((double)x[j] - means[j]) : (double)x[j];
        }
    }
    return rows;
}

int eval_rows_standardise(struct eval_rows *r, struct err *e)
{
    double *mean = calloc(2 * (size_t)r->d, sizeof *mean), *scale = mean + r->d;
    if (!mean)
        return err_sys(e, ENOMEM, "deviations of %u columns", r->d);
    double rows = (double)sum_train(r, NULL, mean);
    for (uint32_t j = 0; j < r->d; j++)
        mean[j] /= rows;
    sum_train(r, mean, scale);
    for (uint32_t j = 0; j < r->d; j++)
        scale[j] = scale[j] > 0 ? sqrt(scale[j] / rows) : 1;
    for (uint64_t i = 0; i < r->n; i++)
        for (uint32_t j = 0; j < r->d; j++)
            r->x[i * r->d + j] = (float)(((double)r->x[i * r->d + j] - mean[j]) / scale[j]);
    free(mean);
    return 0;
}

struct means {
    const struct eval_rows *r;
    const uint64_t *videos;
    float *out;
};

static void mean_of_video(void *arg, uint64_t i, unsigned worker)
{
    (void)worker;
    const struct means *s = arg;
    const struct eval_video *v = &s->r->videos[s->videos[i]];
    uint32_t d = s->r->d;
    float *out = s->out + i * d;
    for (uint32_t j = 0; j < d; j++) {
        double sum = 0;
        for (uint32_t c = 0; c < v->clips; c++)
            sum += (double)s->r->x[s->r->order[v->first + c] * d + j];
        out[j] = (float)(sum / v->clips);
    }
}

void eval_rows_means(const struct eval_rows *r, const uint64_t *videos, uint64_t m, unsigned threads,
                     float *out)
{
    struct means s = {.r = r, .videos = videos, .out = out};
    rows_run(threads, m, NULL, mean_of_video, &s);
}
