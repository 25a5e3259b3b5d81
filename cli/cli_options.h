/* cli_options: what a subcommand's options take and where their values go, as a table. Used by the
 * subcommands. One thread (getopt). Owns nothing; values are loans from argv. What is wrong is printed, with
 * what the option takes. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Exactly one of the destinations is there, but `text` may go with a word. */
struct cli_option {
    const char *name;   /* without the -- */
    char letter;        /* the same as one letter, or 0 */
    bool *on, *off;     /* takes no value: becomes true, or false */
    const char **text;  /* any text */
    const char **texts; /* any number of times, up to `most`, counted in n_texts */
    uint32_t *n_texts;
    int *word; /* index among `words`, which | separates (conf_choice_length) */
    const char *words;
    uint64_t *count; /* whole, from lo to hi */
    uint32_t *count32;
    uint64_t lo, hi;
    double *real; /* from min to max */
    double min, max;
    double *reals; /* any number of times, up to `most`: */
    uint32_t *n_reals, most;
    const char **seen; /* may be NULL: becomes the name of the option that was given */
};

/* Parses up to the first argument that is no option, argv[optind]; --help prints `help`. `options` ends with
 * one without a name. -1 to go on, else the exit status: 0 after --help, 64. */
int cli_options(const char *command, const char *help, const struct cli_option *options, int argc,
                char **argv);

/* Index of the word among those that | separates, or -1. */
int cli_word(const char *word, const char *words);
