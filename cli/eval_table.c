/* What xdc eval says to people: a table out of the JSON object that programs get. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "cli/eval_report.h"

#define NAMES_SHOWN 10

static long long number(const json_t *j, const char *part, const char *what)
{
    return (long long)json_integer_value(json_object_get(json_object_get(j, part), what));
}

static void print_left_out(const json_t *j, const char *why, const char *sentence)
{
    const json_t *left = json_object_get(j, "left_out");
    if (number(left, why, "videos"))
        printf("left out: %lld videos (%lld clips) %s\n", number(left, why, "videos"),
               number(left, why, "rows"), sentence);
}

static void print_lacking(const json_t *j, const char *part, const char *sentence, const char *what)
{
    size_t i;
    json_t *name;
    const json_t *names = json_object_get(json_object_get(j, part), "classes");
    if (json_array_size(names) == 0)
        return;
    printf("%s (%zu, %lld videos %s):", sentence, json_array_size(names), number(j, part, "videos"), what);
    json_array_foreach(names, i, name)
    {
        if (i < NAMES_SHOWN)
            printf("%s %s", i ? "," : "", json_string_value(name));
    }
    puts(json_array_size(names) > NAMES_SHOWN ? ", and more" : "");
}

static void print_choice(const json_t *j)
{
    size_t i, k;
    json_t *one, *cell;
    json_array_foreach(json_object_get(j, "repeats"), i, one)
    {
        const json_t *grid = json_object_get(one, "grid");
        printf("C %g, fitted on %lld videos", json_real_value(json_object_get(one, "c")),
               (long long)json_integer_value(json_object_get(one, "fitted")));
        if (json_array_size(grid))
            printf("; right of %lld held out (%s):",
                   (long long)json_integer_value(json_object_get(one, "held_out")),
                   json_string_value(json_object_get(j, "chosen_on")));
        json_array_foreach(grid, k, cell)
            printf("%s %g: %lld", k ? "," : "", json_real_value(json_object_get(cell, "c")),
                   (long long)json_integer_value(json_object_get(cell, "right")));
        putchar('\n');
    }
}

static void print_figures(const json_t *j)
{
    const char *name;
    json_t *value;
    const json_t *deviations = json_object_get(j, "deviations");
    json_object_foreach(json_object_get(j, "figures"), name, value)
    {
        const json_t *deviation = json_object_get(deviations, name);
        if (json_is_null(value))
            printf("  %-11s       -\n", name);
        else if (deviation)
            printf("  %-11s %7.4f  deviation %.4f\n", name, json_real_value(value),
                   json_real_value(deviation));
        else
            printf("  %-11s %7.4f\n", name, json_real_value(value));
    }
}

/* One line of figures. */
static void print_row(const char *what, const json_t *cost, const json_t *figures)
{
    const char *name;
    json_t *value;
    printf("  %-22s", what);
    if (cost)
        printf(" %9.4f", json_real_value(cost));
    else
        printf(" %9s", "");
    json_object_foreach((json_t *)(uintptr_t)figures, name, value) printf(" %8.4f", json_real_value(value));
    putchar('\n');
}

/* The figures of every head, and those of the head that is taken for all, by two rules. */
static void print_heads(const json_t *j)
{
    size_t i;
    char what[64];
    json_t *one;
    const char *name;
    json_t *value;
    if (number(j, "unmatched", "features") + number(j, "unmatched", "with"))
        printf("left out: %lld rows of %s and %lld of %s, whose clips the other file has not\n",
               number(j, "unmatched", "features"), json_string_value(json_object_get(j, "features")),
               number(j, "unmatched", "with"), json_string_value(json_object_get(j, "with")));
    printf("  %-22s %9s", "labels by", "cost");
    json_object_foreach(json_object_get(j, "figures"), name, value) printf(" %8s", name);
    putchar('\n');
    json_array_foreach(json_object_get(j, "by_head"), i, one)
    {
        snprintf(what, sizeof what, "head %zu", i);
        print_row(what, json_object_get(one, "cost"), json_object_get(one, "figures"));
    }
    print_row("mean over heads", NULL, json_object_get(j, "figures_mean"));
    printf(
        "head %lld has the lowest cost, a choice without classes; head %lld the highest NMI, a choice by the "
        "classes, as SeLaVi's:\n",
        (long long)json_integer_value(json_object_get(j, "lowest_cost")),
        (long long)json_integer_value(json_object_get(j, "highest_nmi")));
}

void eval_report_print(const json_t *j, bool json)
{
    if (json) {
        json_dumpf(j, stdout, JSON_COMPACT);
        putchar('\n');
        return;
    }
    const json_t *splits = json_object_get(j, "splits");
    printf("%s: %lld rows of %lld, %lld videos, %lld classes; with a class: train %lld, val %lld, test %lld "
           "videos\n",
           json_string_value(json_object_get(j, "features")),
           (long long)json_integer_value(json_object_get(j, "rows")),
           (long long)json_integer_value(json_object_get(j, "columns")),
           (long long)json_integer_value(json_object_get(j, "videos")),
           (long long)json_integer_value(json_object_get(j, "classes")), number(splits, "train", "videos"),
           number(splits, "val", "videos"), number(splits, "test", "videos"));
    if (strcmp(json_string_value(json_object_get(j, "eval")), "cluster") == 0) {
        printf("%lld clusters of %lld, %lld of which have a class\n",
               (long long)json_integer_value(json_object_get(j, "k")),
               (long long)json_integer_value(json_object_get(j, "clustered")),
               (long long)json_integer_value(json_object_get(j, "compared")));
        if (json_object_get(j, "by_head"))
            print_heads(j);
    } else {
        print_left_out(j, "no_label", "without a label");
        print_left_out(j, "no_split", "with a label but of no split");
        print_lacking(j, "without_train", "classes without train videos", "of test, all wrong");
        print_lacking(j, "without_test", "classes without test videos", "of train");
        print_choice(j);
    }
    print_figures(j);
}
