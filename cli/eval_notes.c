/* What files say of the rows of features: JSON lines, or arrays of whole numbers. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "cli/cluster_input.h"
#include "cli/eval_rows.h"

/* The number of a class, which is new to the map or not. */
static int number_of(json_t *names, const char *name, uint32_t *out, struct err *e)
{
    json_t *known = json_object_get(names, name);
    *out = known ? (uint32_t)json_integer_value(known) : (uint32_t)json_object_size(names);
    if (!known && json_object_set_new(names, name, json_integer(*out)) != 0)
        return err_sys(e, ENOMEM, "class %s", name);
    return 0;
}

static int read_label(const char *path, const json_t *j, struct eval_note *note, json_t *names, struct err *e)
{
    char text[24];
    const json_t *label = json_object_get(j, "label");
    note->label = LABEL_NONE;
    if (!label || json_is_null(label))
        return 0;
    if (json_is_string(label))
        return number_of(names, json_string_value(label), &note->label, e);
    if (!json_is_integer(label))
        return err_set(e, XDC_EFORMAT, "%s: row %" PRIu64 ": the label is neither text nor a whole number",
                       path, note->row);
    snprintf(text, sizeof text, "%lld", (long long)json_integer_value(label));
    return number_of(names, text, &note->label, e);
}

static int read_split(const char *path, const json_t *j, struct eval_note *note, struct err *e)
{
    static const char *const words[EVAL_SPLITS] = {"", "train", "val", "test"};
    const json_t *split = json_object_get(j, "split");
    const char *word = json_string_value(split);
    note->split = EVAL_NO_SPLIT;
    if (!split || json_is_null(split))
        return 0;
    for (int i = EVAL_TRAIN; word && i < EVAL_SPLITS; i++)
        if (strcmp(word, words[i]) == 0)
            note->split = (enum eval_split)i;
    if (note->split != EVAL_NO_SPLIT)
        return 0;
    return err_set(e, XDC_EFORMAT,
                   "%s: row %" PRIu64 ": the split is %s; it must be train, val, test or null", path,
                   note->row, word ? word : "no text");
}

/* A number of the line, or NAN. */
static double read_real(const json_t *j, const char *key)
{
    const json_t *value = json_object_get(j, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static struct eval_moment read_moment(const json_t *j)
{
    const json_t *clip = json_object_get(j, "clip"), *uri = json_object_get(j, "uri");
    bool numbered = json_is_integer(clip) && json_integer_value(clip) >= 0;
    return (struct eval_moment){
        .clip = numbered ? (uint64_t)json_integer_value(clip) : UINT64_MAX,
        .uri = json_is_string(uri) ? XXH3_64bits(json_string_value(uri), json_string_length(uri)) : 0,
        .start_s = read_real(j, "start_s"),
        .seconds = read_real(j, "seconds")};
}

/* The first row says it for all. */
static int read_maker(const char *path, const json_t *j, uint64_t row, struct eval_maker *maker,
                      struct err *e)
{
    const char *encoder = json_string_value(json_object_get(j, "encoder"));
    const char *weights = json_string_value(json_object_get(j, "weights"));
    struct eval_maker is = {0};
    snprintf(is.encoder, sizeof is.encoder, "%s", encoder ? encoder : "");
    snprintf(is.weights, sizeof is.weights, "%s", weights ? weights : "");
    if (row == 0)
        *maker = is;
    if (strcmp(is.encoder, maker->encoder) == 0 && strcmp(is.weights, maker->weights) == 0)
        return 0;
    return err_set(e, XDC_EFORMAT, "%s: rows 0 and %" PRIu64 " are of different encoders", path, row);
}

static int read_line(const char *path, const char *line, size_t size, struct eval_note *note, json_t *names,
                     struct eval_maker *maker, struct err *e)
{
    json_error_t fault;
    json_t *j = json_loadb(line, size, 0, &fault);
    const json_t *row = json_object_get(j, "row"), *video = json_object_get(j, "video");
    int rc = 0;
    if (!json_is_object(j))
        rc = err_set(e, XDC_EFORMAT, "%s: row %" PRIu64 ": no JSON object: %s", path, note->row,
                     j ? "something else" : fault.text);
    else if (!json_is_integer(row) || json_integer_value(row) != (json_int_t)note->row)
        rc = err_set(e, XDC_EFORMAT, "%s: line %" PRIu64 " must have \"row\": %" PRIu64, path, note->row + 1,
                     note->row);
    else if (!json_is_integer(video) || json_integer_value(video) < 0)
        rc = err_set(e, XDC_EFORMAT, "%s: row %" PRIu64 ": \"video\" must be a number from 0", path,
                     note->row);
    note->video = (uint64_t)json_integer_value(video);
    if (rc == 0)
        rc = read_label(path, j, note, names, e);
    if (rc == 0)
        rc = read_split(path, j, note, e);
    if (rc == 0)
        rc = read_maker(path, j, note->row, maker, e);
    note->moment = read_moment(j);
    json_decref(j);
    return rc;
}

int eval_notes_read_lines(const char *path, uint64_t n, struct eval_note *notes, json_t *names,
                          struct eval_maker *maker, struct err *e)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t size = 0;
    uint64_t row = 0;
    int rc = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return err_sys(e, errno, "open %s", path);
    for (; rc == 0 && (size = getline(&line, &room, f)) >= 0; row++) {
        if (row == n)
            rc = err_set(e, XDC_EFORMAT, "%s has more lines than the %" PRIu64 " rows of the features", path,
                         n);
        else
            notes[row].row = row;
        if (rc == 0)
            rc = read_line(path, line, (size_t)size, &notes[row], names, maker, e);
    }
    if (rc == 0 && ferror(f))
        rc = err_sys(e, errno, "read %s", path);
    if (rc == 0 && row != n)
        rc = err_set(e, XDC_EFORMAT, "%s has %" PRIu64 " lines, the features have %" PRIu64 " rows", path,
                     row, n);
    free(line);
    fclose(f);
    return rc;
}

/* Whole numbers [*out_n]; the caller's. */
static int read_numbers(const char *path, int64_t **out, uint64_t *out_n, struct err *e)
{
    struct tensor t;
    void *data = NULL;
    char shape[200];
    *out = NULL;
    int rc = npy_read(path, &t, &data, e);
    if (rc == 0 && t.ndim != 1)
        rc = err_set(e, XDC_EFORMAT, "%s has the shape %s, [numbers] is needed", path,
                     tensor_shape_text(&t, shape, sizeof shape));
    if (rc == 0 && !(*out = malloc((t.shape[0] + 1) * sizeof **out)))
        rc = err_sys(e, ENOMEM, "%s", path);
    for (uint64_t i = 0; rc == 0 && i < t.shape[0]; i++)
        if (!cluster_whole(&t, i, &(*out)[i]))
            rc = err_set(e, XDC_EFORMAT, "%s is of dtype %s, whole numbers are needed (i64, i32, u32, u8)",
                         path, tensor_dtype_name(t.dtype));
    *out_n = rc == 0 ? t.shape[0] : 0;
    free(data);
    if (rc) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

static int read_labels(const char *path, uint64_t n, struct eval_note *notes, json_t *names, struct err *e)
{
    int64_t *labels;
    uint64_t count;
    char text[24];
    int rc = read_numbers(path, &labels, &count, e);
    if (rc == 0 && count != n)
        rc = err_set(e, XDC_EFORMAT, "%s has %" PRIu64 " labels, the features have %" PRIu64 " rows", path,
                     count, n);
    for (uint64_t i = 0; rc == 0 && i < n; i++) {
        notes[i] =
            (struct eval_note){.video = i, .row = i, .label = LABEL_NONE, .moment = {.clip = UINT64_MAX}};
        snprintf(text, sizeof text, "%" PRId64, labels[i]);
        if (labels[i] >= 0)
            rc = number_of(names, text, &notes[i].label, e);
    }
    free(labels);
    return rc;
}

static int read_part(const char *path, enum eval_split split, uint64_t n, struct eval_note *notes,
                     struct err *e)
{
    int64_t *rows;
    uint64_t count;
    if (!path)
        return 0;
    int rc = read_numbers(path, &rows, &count, e);
    for (uint64_t i = 0; rc == 0 && i < count; i++) {
        if (rows[i] < 0 || (uint64_t)rows[i] >= n)
            rc = err_set(e, XDC_EFORMAT,
                         "%s: number %" PRIu64 " is row %" PRId64 ", the features have %" PRIu64, path, i,
                         rows[i], n);
        else if (notes[rows[i]].split != EVAL_NO_SPLIT)
            rc = err_set(e, XDC_EFORMAT, "%s: row %" PRId64 " is %s", path, rows[i],
                         notes[rows[i]].split == split ? "listed twice" : "in train as well");
        else
            notes[rows[i]].split = split;
    }
    free(rows);
    return rc;
}

int eval_notes_read_arrays(const struct eval_sources *s, uint64_t n, struct eval_note *notes, json_t *names,
                           struct err *e)
{
    int rc = read_labels(s->labels, n, notes, names, e);
    if (rc == 0)
        rc = read_part(s->train, EVAL_TRAIN, n, notes, e);
    if (rc == 0)
        rc = read_part(s->test, EVAL_TEST, n, notes, e);
    return rc;
}
