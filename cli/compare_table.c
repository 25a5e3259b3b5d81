#include "cli/compare_table.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_WIDTH 30
#define WIDTH 12
#define VALUE_WIDTH 24 /* of a setting; longer ones have lines of their own */

/* Of what a table's rows are made: puts {label: text} of one run's round into `out`, in order. */
typedef void (*flatten)(const json_t *round, json_t *out);

static const char *text(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static char letter(size_t run)
{
    return (char)('A' + run);
}

static void put_number(json_t *out, const char *before, const char *name, const char *after, const json_t *j,
                       int decimals)
{
    char label[80], value[40];
    if (!json_is_number(j))
        return;
    snprintf(label, sizeof label, "%.30s%.30s%.18s", before, name, after);
    snprintf(value, sizeof value, "%.*f", decimals, json_number_value(j));
    json_object_set_new(out, label, json_string(value));
}

static void flatten_time(const json_t *round, json_t *out)
{
    const char *name;
    json_t *phase, *phases = json_object_get(round, "phases");
    json_object_foreach(phases, name, phase)
        put_number(out, "seconds ", name, json_is_true(json_object_get(phase, "ended")) ? "" : " (goes on)",
                   json_object_get(phase, "seconds"), 2);
    json_object_foreach(phases, name, phase)
        put_number(out, "clips/s ", name, "", json_object_get(phase, "clips_per_s"), 1);
}

static void put_each(json_t *out, const char *before, const json_t *of_encoders)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)of_encoders, name, value) put_number(out, before, name, "", value, 4);
}

static void flatten_training(const json_t *round, json_t *out)
{
    const json_t *epoch = json_object_get(round, "epoch"), *holdout = json_object_get(epoch, "holdout");
    put_each(out, "loss ", json_object_get(epoch, "loss"));
    put_each(out, "accuracy ", json_object_get(epoch, "accuracy"));
    put_each(out, "hold-out loss ", json_object_get(holdout, "loss"));
    put_each(out, "hold-out accuracy ", json_object_get(holdout, "accuracy"));
}

/* Of many heads the best alone. */
static void flatten_quality(const json_t *round, json_t *out)
{
    static const struct {
        const char *key, *name;
        int decimals;
    } figures[] = {
        {"empty", " empty", 0},
        {"imbalance", " imbalance", 3},
        {"nmi_previous", " NMI previous", 4},
        {"nmi_other", " NMI modality", 4},
        {"nmi_truth", " NMI truth", 4},
        {"ami_truth", " AMI truth", 4},
    };
    const json_t *quality = json_object_get(round, "quality");
    const char *name, *best = json_string_value(json_object_get(quality, "best_head"));
    json_t *source;
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
        json_object_foreach(json_object_get(quality, "sources"), name, source)
        {
            if (!best || strcmp(best, name) == 0)
                put_number(out, "", name, figures[i].name, json_object_get(source, figures[i].key),
                           figures[i].decimals);
        }
}

static void put_kinds(json_t *out, const json_t *pairs, const char *key, const char *before,
                      const char *after, int decimals)
{
    const char *name;
    json_t *kind;
    json_object_foreach((json_t *)pairs, name, kind)
    {
        if (strncmp(name, "same_", 5) == 0)
            put_number(out, before, name + 5, after, json_object_get(kind, key), decimals);
    }
}

static void flatten_clips(const json_t *round, json_t *out)
{
    const json_t *pairs = json_object_get(round, "pairs"), *left = json_object_get(pairs, "left_out");
    put_number(out, "clips compared", "", "", json_object_get(pairs, "clips"), 0);
    put_number(out, "left out: ", "no label", "", json_object_get(left, "no_label"), 0);
    put_number(out, "left out: ", "held out", "", json_object_get(left, "held_out"), 0);
    put_number(out, "left out: ", "no class known", "", json_object_get(left, "no_truth"), 0);
}

static void flatten_shares(const json_t *round, json_t *out)
{
    const json_t *pairs = json_object_get(round, "pairs");
    put_number(out, "P(same class)", "", "", json_object_get(json_object_get(pairs, "base"), "p"), 4);
    put_kinds(out, pairs, "p", "P(same class | same ", ")", 4);
}

static void flatten_lifts(const json_t *round, json_t *out)
{
    put_kinds(out, json_object_get(round, "pairs"), "lift", "lift of same ", "", 3);
}

static void flatten_pairs(const json_t *round, json_t *out)
{
    const json_t *pairs = json_object_get(round, "pairs");
    put_number(out, "pairs", "", "", json_object_get(json_object_get(pairs, "base"), "pairs"), 0);
    put_kinds(out, pairs, "pairs", "pairs of same ", "", 0);
}

static const json_t *find_round(const json_t *run, json_int_t number)
{
    size_t i;
    json_t *round;
    json_array_foreach(json_object_get(run, "rounds"), i, round)
    {
        if (json_integer_value(json_object_get(round, "round")) == number)
            return round;
    }
    return NULL;
}

/* A row for each label that any run has. */
static void print_rows(const json_t *runs, json_int_t number, flatten make)
{
    size_t i, n = json_array_size(runs);
    json_t *run, *columns = json_array(), *labels = json_object(), *value;
    const char *label;
    json_array_foreach(runs, i, run)
    {
        json_t *column = json_object();
        make(find_round(run, number), column);
        json_object_update_missing(labels, column);
        json_array_append_new(columns, column);
    }
    json_object_foreach(labels, label, value)
    {
        printf("  %-*s", LABEL_WIDTH, label);
        for (i = 0; i < n; i++) {
            const char *s = json_string_value(json_object_get(json_array_get(columns, i), label));
            printf(" %*s", WIDTH, s ? s : "-");
        }
        putchar('\n');
    }
    json_decref(labels);
    json_decref(columns);
}

static void print_missing(const json_t *runs, json_int_t number)
{
    size_t i, k;
    json_t *run, *sentence;
    json_array_foreach(runs, i, run)
    {
        json_array_foreach(json_object_get(find_round(run, number), "missing"), k, sentence)
            printf("  missing of %c: %s\n", letter(i), json_string_value(sentence));
    }
}

static void print_round(const json_t *runs, json_int_t number)
{
    static const flatten parts[] = {flatten_time,   flatten_training, flatten_quality, flatten_clips,
                                    flatten_shares, flatten_lifts,    flatten_pairs};
    char title[40];
    snprintf(title, sizeof title, "round %lld", (long long)number);
    printf("\n%-*s", LABEL_WIDTH + 2, title);
    for (size_t i = 0; i < json_array_size(runs); i++)
        printf(" %*c", WIDTH, letter(i));
    putchar('\n');
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        print_rows(runs, number, parts[i]);
    print_missing(runs, number);
}

static void print_heads(const json_t *runs)
{
    size_t i;
    json_t *run;
    json_array_foreach(runs, i, run)
        printf("%c  %s: %s, %s\n", letter(i), text(run, "dir"), text(run, "method"),
               json_is_true(json_object_get(run, "finished")) ? "finished" : "not finished");
}

/* Values side by side, or below one another where one is long. */
static void print_setting(const char *key, const json_t *values)
{
    size_t i, longest = 0;
    json_t *value;
    json_array_foreach(values, i, value)
    {
        size_t length = json_string_length(value);
        longest = length > longest ? length : longest;
    }
    printf("  %-*s", LABEL_WIDTH, key);
    json_array_foreach(values, i, value)
    {
        const char *s = json_is_string(value) ? json_string_value(value) : "-";
        if (longest > VALUE_WIDTH)
            printf("\n    %c %s", letter(i), s);
        else
            printf(" %*s", WIDTH, s);
    }
    putchar('\n');
}

static void print_settings(const json_t *all)
{
    const char *key;
    json_t *values;
    printf("\n%-*s", LABEL_WIDTH + 2, "settings that differ");
    for (size_t i = 0; i < json_array_size(json_object_get(all, "runs")); i++)
        printf(" %*c", WIDTH, letter(i));
    putchar('\n');
    if (!json_is_true(json_object_get(all, "same_manifest")))
        puts("  the manifests are not the same");
    json_object_foreach(json_object_get(all, "settings"), key, values) print_setting(key, values);
    if (json_object_size(json_object_get(all, "settings")) == 0)
        puts("  none");
}

static long long at(const json_t *j, const char *key, size_t i)
{
    return (long long)json_integer_value(json_array_get(json_object_get(j, key), i));
}

static void print_agreement(const json_t *one)
{
    size_t i;
    json_t *source, *moment;
    char a = letter((size_t)at(one, "runs", 0)), b = letter((size_t)at(one, "runs", 1));
    if (json_object_get(one, "why_not")) {
        printf("  %c and %c: not compared, %s\n", a, b, text(one, "why_not"));
        return;
    }
    json_array_foreach(json_object_get(one, "sources"), i, source)
    {
        printf("  %s of %c (round %lld) and %s of %c (round %lld): ", text(source, "a"), a,
               at(one, "rounds", 0), text(source, "b"), b, at(one, "rounds", 1));
        if (json_is_null(json_object_get(source, "nmi")))
            puts("no clip has a label in both");
        else
            printf("NMI %.4f, AMI %.4f of %lld clips\n", json_number_value(json_object_get(source, "nmi")),
                   json_number_value(json_object_get(source, "ami")),
                   (long long)json_integer_value(json_object_get(source, "clips")));
    }
    json_array_foreach(json_object_get(one, "other_moments"), i, moment) printf(
        i ? ", %s" : "  (the clips are of other moments of the same videos: %s", json_string_value(moment));
    if (json_array_size(json_object_get(one, "other_moments")))
        puts(" differ)");
}

void compare_table_print(const json_t *all)
{
    const json_t *runs = json_object_get(all, "runs");
    json_int_t first = -1, last = -1;
    size_t i, k;
    json_t *run, *round, *one;
    print_heads(runs);
    print_settings(all);
    json_array_foreach(runs, i, run)
    {
        json_array_foreach(json_object_get(run, "rounds"), k, round)
        {
            json_int_t number = json_integer_value(json_object_get(round, "round"));
            first = first < 0 || number < first ? number : first;
            last = number > last ? number : last;
        }
    }
    for (json_int_t number = first; number >= 0 && number <= last; number++)
        print_round(runs, number);
    puts("\nagreement of the newest label tables");
    json_array_foreach(json_object_get(all, "agreement"), i, one) print_agreement(one);
}
