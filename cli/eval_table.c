/* What xdc eval says to people: a table out of the JSON object that programs get. */
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
    } else {
        print_left_out(j, "no_label", "without a label");
        print_left_out(j, "no_split", "with a label but of no split");
        print_lacking(j, "without_train", "classes without train videos", "of test, all wrong");
        print_lacking(j, "without_test", "classes without test videos", "of train");
        print_choice(j);
    }
    print_figures(j);
}
