#include "cli/cli_options.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"

#define OPTIONS_MAX 32
#define LETTERS_FROM 256 /* what getopt returns for the first option */

static bool has_value(const struct cli_option *o)
{
    return !o->on && !o->off;
}

int cli_word(const char *word, const char *words)
{
    size_t n = strlen(word);
    for (int i = 0; *words; i++) {
        size_t length = conf_choice_length(words);
        if (length == n && memcmp(word, words, n) == 0)
            return i;
        words += length + (words[length] == '|');
    }
    return -1;
}

/* False where the value is not one that the option takes. */
static bool take(const struct cli_option *o, const char *value)
{
    uint64_t n = 0;
    if (o->seen)
        *o->seen = o->name;
    if (o->on)
        return *o->on = true;
    if (o->off)
        return !(*o->off = false);
    if (o->text)
        *o->text = value;
    if (o->texts && *o->n_texts == o->most)
        return false;
    if (o->texts)
        o->texts[(*o->n_texts)++] = value;
    if (o->word)
        return (*o->word = cli_word(value, o->words)) >= 0;
    if (o->count)
        return cli_parse_count(value, o->lo, o->hi, o->count);
    if (o->count32) {
        bool sound = cli_parse_count(value, o->lo, o->hi, &n);
        *o->count32 = (uint32_t)n;
        return sound;
    }
    if (o->real)
        return cli_parse_real(value, o->min, o->max, o->real);
    if (o->reals && *o->n_reals == o->most)
        return false;
    if (o->reals)
        return cli_parse_real(value, o->min, o->max, &o->reals[*o->n_reals]) && ++*o->n_reals;
    return true;
}

static int refuse(const char *command, const struct cli_option *o, const char *value)
{
    char range[128];
    if (o->word)
        snprintf(range, sizeof range, "one of %s", o->words);
    else if ((o->reals && *o->n_reals == o->most) || (o->texts && *o->n_texts == o->most))
        snprintf(range, sizeof range, "given %u times at most", o->most);
    else if (o->real || o->reals)
        snprintf(range, sizeof range, "a number from %g to %g", o->min, o->max);
    else if (o->hi >= INT64_MAX)
        snprintf(range, sizeof range, "a whole number from %" PRIu64, o->lo);
    else
        snprintf(range, sizeof range, "a whole number from %" PRIu64 " to %" PRIu64, o->lo, o->hi);
    return cli_usage(command, "--%s %s: must be %s", o->name, value, range);
}

/* The table as getopt has it; `letters` has room for two bytes an option. */
static void translate(const struct cli_option *options, struct option *out, char *letters)
{
    int i = 0;
    for (; options[i].name && i < OPTIONS_MAX; i++) {
        bool value = has_value(&options[i]);
        out[i] =
            (struct option){options[i].name, value ? required_argument : no_argument, NULL, LETTERS_FROM + i};
        if (options[i].letter)
            letters += sprintf(letters, "%c%s", options[i].letter, value ? ":" : "");
    }
    out[i] = (struct option){"help", no_argument, NULL, 'h'};
    out[i + 1] = (struct option){0};
    strcpy(letters, "h");
}

int cli_options(const char *command, const char *help, const struct cli_option *options, int argc,
                char **argv)
{
    struct option table[OPTIONS_MAX + 2];
    char letters[2 * OPTIONS_MAX + 2];
    int c;
    translate(options, table, letters);
    optind = 0; /* argv may be parsed anew */
    while ((c = getopt_long(argc, argv, letters, table, NULL)) != -1) {
        const struct cli_option *o = options;
        if (c == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (c >= LETTERS_FROM)
            o += c - LETTERS_FROM;
        else
            while (o->name && o->letter != c)
                o++;
        if (!o->name) /* getopt has named it */
            return cli_usage(command, "wrong arguments");
        if (!take(o, optarg))
            return refuse(command, o, optarg);
    }
    return -1;
}
