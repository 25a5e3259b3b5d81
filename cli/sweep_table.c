/* What the cells of a sweep have left, as a table. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/published.h"
#include "cli/sweep.h"

#define MISSING_SHOWN 20

/* The mean over the column's manifests for one seed; NAN where one is missing. */
static double value_of(const struct sweep *s, const json_t *cell, const json_t *column, const char *modality,
                       uint32_t seed)
{
    size_t n = json_array_size(json_object_get(column, "manifests"));
    double sum = 0;
    for (size_t m = 0; m < n; m++) {
        char path[PATH_MAX];
        struct err unsaid;
        json_t *j = sweep_result_path(s, cell, column, modality, m, seed, path, &unsaid) == 0
                        ? json_load_file(path, 0, NULL)
                        : NULL;
        const json_t *figure = json_object_get(json_object_get(j, "figures"), sweep_text(column, "figure"));
        sum += json_is_number(figure) ? json_number_value(figure) : NAN;
        json_decref(j);
    }
    return sum / (double)n;
}

/* {"mean", "deviation", "seeds": [value or null]} of what is there; null of nothing. */
static json_t *summary(const struct sweep *s, const json_t *cell, const json_t *column, const char *modality)
{
    double sum = 0, squares = 0;
    uint32_t n = 0;
    const char *unused;
    json_t *seeds = json_array();
    if (sweep_part_of(cell, modality, &unused) < 0) {
        json_decref(seeds);
        return json_null();
    }
    for (uint32_t i = 0; i < s->n_seeds; i++) {
        double v = value_of(s, cell, column, modality, s->seeds[i]);
        json_array_append_new(seeds, isfinite(v) ? json_real(v) : json_null());
        if (!isfinite(v))
            continue;
        double before = n ? sum / n : 0;
        sum += v;
        n++;
        squares += (v - before) * (v - sum / n);
    }
    return json_pack("{s:o, s:o, s:o}", "mean", n ? json_real(sum / n) : json_null(), "deviation",
                     n > 1 ? json_real(sqrt(squares / (n - 1))) : json_null(), "seeds", seeds);
}

/* Results of a seed that are not there, of any of the column's manifests. */
static void add_missing(const struct sweep *s, const json_t *cell, const json_t *column, const char *modality,
                        uint32_t seed, json_t *out)
{
    const char *encoder;
    size_t n = json_array_size(json_object_get(column, "manifests"));
    for (size_t m = 0; sweep_part_of(cell, modality, &encoder) >= 0 && m < n; m++) {
        char path[PATH_MAX];
        struct err unsaid;
        if (sweep_result_path(s, cell, column, modality, m, seed, path, &unsaid) == 0 &&
            access(path, F_OK) != 0)
            json_array_append_new(out,
                                  json_pack("{s:s, s:I, s:s, s:s, s:i}", "cell", sweep_text(cell, "slug"),
                                            "seed", (json_int_t)seed, "column", sweep_text(column, "name"),
                                            "of", modality, "manifest", (int)m));
    }
}

static void add_missing_of_cell(const struct sweep *s, const json_t *cell, json_t *out)
{
    size_t i, j;
    json_t *column, *modality;
    for (uint32_t k = 0; k < s->n_seeds; k++)
        json_array_foreach(s->columns, i, column)
        {
            json_array_foreach(json_object_get(column, "of"), j, modality)
                add_missing(s, cell, column, json_string_value(modality), s->seeds[k], out);
        }
}

static json_t *seconds_of(const struct sweep *s, const json_t *cell)
{
    double sum = 0;
    for (uint32_t k = 0; k < s->n_seeds; k++)
        for (size_t p = 0; p < json_array_size(json_object_get(cell, "parts")); p++) {
            char dir[PATH_MAX], path[PATH_MAX + 32];
            struct err unsaid;
            if (sweep_part_dir(s, cell, p, s->seeds[k], dir, &unsaid) < 0)
                continue;
            snprintf(path, sizeof path, "%s/pretrained.json", dir);
            json_t *j = json_load_file(path, 0, NULL);
            sum += json_number_value(json_object_get(j, "seconds"));
            json_decref(j);
        }
    return json_real(sum / s->n_seeds);
}

/* "fine-tuned video": the columns of the table, one a modality. */
static json_t *headings(const struct sweep *s)
{
    json_t *list = json_array(), *column, *modality;
    size_t i, j;
    json_array_foreach(s->columns, i, column)
    {
        json_array_foreach(json_object_get(column, "of"), j, modality) json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:i}", "name", sweep_text(column, "name"), "of",
                            json_string_value(modality), "target", sweep_text(column, "target"), "figure",
                            sweep_text(column, "figure"), "column", (int)i));
    }
    return list;
}

static const json_t *row_named(const json_t *rows, const char *name)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        if (strcmp(sweep_text(row, "row"), name) == 0)
            return row;
    }
    return NULL;
}

/* For every column and each two neighbours of the expected order: by how much the first is ahead. */
static json_t *compare_order(const struct sweep *s, const json_t *rows, size_t columns)
{
    json_t *list = json_array();
    for (size_t k = 0; k + 1 < json_array_size(s->order); k++) {
        const char *first = json_string_value(json_array_get(s->order, k));
        const char *second = json_string_value(json_array_get(s->order, k + 1));
        const json_t *a = first ? row_named(rows, first) : NULL, *b = second ? row_named(rows, second) : NULL;
        if (!a || !b)
            continue;
        json_t *ahead = json_array();
        for (size_t c = 0; c < columns; c++) {
            const json_t *x = json_object_get(json_array_get(json_object_get(a, "values"), c), "mean");
            const json_t *y = json_object_get(json_array_get(json_object_get(b, "values"), c), "mean");
            bool both = json_is_number(x) && json_is_number(y);
            json_array_append_new(ahead, both ? json_real(json_number_value(x) - json_number_value(y))
                                              : json_null());
        }
        json_array_append_new(
            list, json_pack("{s:s?, s:s?, s:o}", "first", first, "second", second, "ahead", ahead));
    }
    return list;
}

static json_t *published(const char *table)
{
    json_t *list = json_array();
    size_t n;
    const struct published_row *rows = published_rows(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].table, table) == 0)
            json_array_append_new(
                list, json_pack("{s:s, s:s, s:i, s:s, s:f, s:f, s:f, s:f}", "method", rows[i].method,
                                "pretraining", rows[i].pretraining, "k", (int)rows[i].k, "protocol",
                                rows[i].protocol, "UCF101", rows[i].percent[PUBLISHED_UCF101], "HMDB51",
                                rows[i].percent[PUBLISHED_HMDB51], "ESC-50", rows[i].percent[PUBLISHED_ESC50],
                                "DCASE", rows[i].percent[PUBLISHED_DCASE]));
    return list;
}

json_t *sweep_table(const struct sweep *s)
{
    json_t *rows = json_array(), *missing = json_array(), *heads = headings(s), *cell, *head,
           *seeds = json_array();
    size_t i, j;
    json_array_foreach(s->cells, i, cell)
    {
        json_t *values = json_array();
        json_array_foreach(heads, j, head)
        {
            const json_t *column =
                json_array_get(s->columns, (size_t)json_integer_value(json_object_get(head, "column")));
            json_array_append_new(values, summary(s, cell, column, sweep_text(head, "of")));
        }
        add_missing_of_cell(s, cell, missing);
        json_array_append_new(rows, json_pack("{s:s, s:s, s:O, s:o, s:o}", "row", sweep_text(cell, "row"),
                                              "pretrain", sweep_text(cell, "pretrain"), "grid",
                                              json_object_get(cell, "grid"), "pretrain_s",
                                              seconds_of(s, cell), "values", values));
    }
    for (uint32_t k = 0; k < s->n_seeds; k++)
        json_array_append_new(seeds, json_integer(s->seeds[k]));
    json_t *order = compare_order(s, rows, json_array_size(heads));
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "sweep", s->title, "dir", s->dir, "seeds",
                     seeds, "columns", heads, "rows", rows, "order", order, "missing", missing, "published",
                     published(s->title));
}

/* Shares as percent; entropy and the like as they are. */
static bool is_share(const json_t *head)
{
    return strcmp(sweep_text(head, "figure"), "entropy") != 0;
}

static void print_value(FILE *f, const json_t *value, bool share)
{
    const json_t *mean = json_object_get(value, "mean"), *deviation = json_object_get(value, "deviation");
    double unit = share ? 100 : 1;
    int digits = share ? 1 : 2;
    if (!json_is_number(mean))
        fputs(" - |", f);
    else if (json_is_number(deviation))
        fprintf(f, " %.*f ± %.*f |", digits, unit * json_number_value(mean), digits,
                unit * json_number_value(deviation));
    else
        fprintf(f, " %.*f |", digits, unit * json_number_value(mean));
}

static void print_row(FILE *f, const json_t *row, const json_t *heads)
{
    const char *key;
    json_t *value;
    size_t i;
    const char *data = sweep_text(row, "pretrain");
    fprintf(f, "| %s%s%s%s", sweep_text(row, "row"), *data ? " (" : "", data, *data ? ")" : "");
    json_object_foreach(json_object_get(row, "grid"), key, value)
        fprintf(f, " %s=%s", key, json_string_value(value));
    fputs(" |", f);
    json_array_foreach(json_object_get(row, "values"), i, value)
        print_value(f, value, is_share(json_array_get(heads, i)));
    fprintf(f, " %.0f |\n", json_number_value(json_object_get(row, "pretrain_s")));
}

static void print_order(FILE *f, const json_t *table)
{
    size_t i, c;
    json_t *pair, *ahead;
    const json_t *heads = json_object_get(table, "columns");
    if (json_array_size(json_object_get(table, "order")) == 0)
        return;
    fputs("\nAhead of the next in the expected order, in points:\n\n", f);
    json_array_foreach(json_object_get(table, "order"), i, pair)
    {
        fprintf(f, "%s - %s:", sweep_text(pair, "first"), sweep_text(pair, "second"));
        json_array_foreach(json_object_get(pair, "ahead"), c, ahead)
        {
            if (json_is_number(ahead))
                fprintf(f, " %+.1f",
                        (is_share(json_array_get(heads, c)) ? 100 : 1) * json_number_value(ahead));
            else
                fputs(" -", f);
        }
        fputc('\n', f);
    }
}

static void print_published(FILE *f, const json_t *table)
{
    static const char *const sets[] = {"UCF101", "HMDB51", "ESC-50", "DCASE"};
    size_t i;
    json_t *row;
    if (json_array_size(json_object_get(table, "published")) == 0)
        return;
    fputs("\nPublished:\n", f);
    json_array_foreach(json_object_get(table, "published"), i, row)
    {
        fprintf(f, "%s, %s", sweep_text(row, "method"), sweep_text(row, "pretraining"));
        if (json_integer_value(json_object_get(row, "k")))
            fprintf(f, ", k %d", (int)json_integer_value(json_object_get(row, "k")));
        fprintf(f, " (%s):", sweep_text(row, "protocol"));
        for (size_t k = 0; k < 4; k++)
            if (json_number_value(json_object_get(row, sets[k])) > 0)
                fprintf(f, " %s %.1f", sets[k], json_number_value(json_object_get(row, sets[k])));
        fputc('\n', f);
    }
}

void sweep_table_print(const json_t *table, FILE *f)
{
    size_t i, missing = json_array_size(json_object_get(table, "missing"));
    json_t *head, *row;
    const json_t *heads = json_object_get(table, "columns");
    fprintf(f, "| %s |", sweep_text(table, "sweep"));
    json_array_foreach(heads, i, head)
        fprintf(f, " %s %s |", sweep_text(head, "name"), sweep_text(head, "of"));
    fputs(" pretraining, s |\n|---|", f);
    for (i = 0; i <= json_array_size(heads); i++)
        fputs("---|", f);
    fputc('\n', f);
    json_array_foreach(json_object_get(table, "rows"), i, row) print_row(f, row, heads);
    print_order(f, table);
    print_published(f, table);
    if (missing)
        fprintf(f, "\n%zu results are missing, of steps that failed or have not been run:\n", missing);
    json_array_foreach(json_object_get(table, "missing"), i, row)
    {
        if (i < MISSING_SHOWN)
            fprintf(f, "%s seed %lld: %s %s, manifest %d\n", sweep_text(row, "cell"),
                    (long long)json_integer_value(json_object_get(row, "seed")), sweep_text(row, "column"),
                    sweep_text(row, "of"), (int)json_integer_value(json_object_get(row, "manifest")));
    }
}
