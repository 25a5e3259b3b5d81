/* xdc explain: what the codes of files and clips, and the warnings of a run, mean; what became of one clip.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/explain_clip.h"
#include "lib/media/codes.h"
#include "lib/run_warning.h"

#define WIDTH 100

static const char help[] =
    "examples:\n"
    "  xdc explain truncated     what it means, what causes it, what to do\n"
    "  xdc explain 7             the same by its number, as logs and ledgers have it\n"
    "  xdc explain dead_features a warning of a run\n"
    "  xdc explain               all codes, a line each\n"
    "  xdc explain clip 17 --run run    how a clip was decoded, clustered, trained on\n"
    "\n"
    "usage: xdc explain [CODE|NUMBER] [--markdown]\n"
    "       xdc explain clip CLIP --run RUN [--json]\n"
    "  --markdown      all codes as the page docs/codes.md\n"
    "\n"
    "Faults (1 to 63) keep a file or clip from being used; facts (from 64) say what "
    "is unusual about it and do "
    "no harm. Warnings, which have names alone, are of a run that goes on.\n"
    "Exits 0, 64 for a code that there is not.\n";

/* Prints `text` in lines of at most WIDTH columns, all but the first indented. */
static void print_wrapped(const char *head, const char *text)
{
    size_t indent = strlen(head), at = indent;
    fputs(head, stdout);
    while (*text) {
        size_t word = strcspn(text, " ");
        bool wraps = at + word > WIDTH && at > indent;
        if (wraps)
            printf("\n%*s", (int)indent, "");
        else if (at > indent)
            putchar(' ');
        at = (wraps || at == indent ? indent : at + 1) + word;
        printf("%.*s", (int)word, text);
        text += word + (text[word] == ' ');
    }
    putchar('\n');
}

static void print_code(unsigned code)
{
    printf("%s (%u, a %s)\n", media_code_name(code), code, media_code_is_fact(code) ? "fact" : "fault");
    print_wrapped("  ", media_code_text(code));
    print_wrapped("  causes   ", media_code_causes(code));
    print_wrapped("  to do    ", media_code_advice(code));
}

static void print_warning(enum run_warning w)
{
    printf("%s (a warning)\n", run_warning_name(w));
    print_wrapped("  ", run_warning_text(w));
    print_wrapped("  causes   ", run_warning_causes(w));
    print_wrapped("  to do    ", run_warning_advice(w));
}

static void print_list(void)
{
    puts("faults: the file or clip cannot be used");
    for (unsigned c = 1; c < MEDIA_REASONS; c++)
        printf("  %3u %-22s %s\n", c, media_code_name(c), media_code_text(c));
    puts("\nfacts: unusual, and no harm");
    for (unsigned c = MEDIA_ROTATED; c < MEDIA_FACTS_END; c++)
        printf("  %3u %-22s %s\n", c, media_code_name(c), media_code_text(c));
    puts("\nwarnings: a run goes on, but may be worth nothing");
    for (unsigned w = 0; w < RUN_WARNINGS; w++)
        printf("  %-26s %s\n", run_warning_name((enum run_warning)w), run_warning_text((enum run_warning)w));
    puts("\nxdc explain CODE says what causes one and what to do.");
}

static void print_markdown_code(unsigned c)
{
    printf("### %u %s\n\n%s\n\n**Causes:** %s\n\n**To do:** %s\n\n", c, media_code_name(c),
           media_code_text(c), media_code_causes(c), media_code_advice(c));
}

static void print_markdown(void)
{
    puts("# Codes\n\n"
         "What xdc says of files and clips, in stable numbers and names: `xdc doctor` and `xdc index` print "
         "the names,\n"
         "manifests, quarantines and ledgers hold the numbers. This page is made by `xdc explain "
         "--markdown`.\n\n"
         "## Faults\n\nThe file or clip cannot be used.\n");
    for (unsigned c = 1; c < MEDIA_REASONS; c++)
        print_markdown_code(c);
    puts("## Facts\n\nUnusual, and no harm: the file is used.\n");
    for (unsigned c = MEDIA_ROTATED; c < MEDIA_FACTS_END; c++)
        print_markdown_code(c);
    puts(
        "## Warnings\n\nA run goes on, but may be worth nothing. Each is said once a round, within an epoch, "
        "an adoption of labels or an\nextraction of its cause: in the trainer's log, as event `warning` in "
        "events.jsonl and in the trainer's /status.\n");
    for (unsigned w = 0; w < RUN_WARNINGS; w++)
        printf("### %s\n\n%s\n\n**Causes:** %s\n\n**To do:** %s\n\n", run_warning_name((enum run_warning)w),
               run_warning_text((enum run_warning)w), run_warning_causes((enum run_warning)w),
               run_warning_advice((enum run_warning)w));
}

static int explain(const char *word)
{
    uint64_t number = 0;
    int code = media_code_find(word), warning = run_warning_find(word);
    if (warning >= 0) {
        print_warning((enum run_warning)warning);
        return 0;
    }
    if (code < 0 && cli_parse_count(word, 1, MEDIA_FACTS_END - 1, &number) &&
        strcmp(media_code_name((unsigned)number), "unknown") != 0)
        code = (int)number;
    if (code <= 0)
        return cli_usage("explain", "there is no code %s; xdc explain lists them all", word);
    print_code((unsigned)code);
    return 0;
}

int cli_explain(int argc, char **argv)
{
    bool markdown = false, json = false;
    const char *run = NULL;
    const struct cli_option options[] = {
        {"markdown", .on = &markdown}, {"run", .text = &run}, {"json", .on = &json}, {0}};
    int status = cli_options("explain", help, options, argc, argv);
    if (status >= 0)
        return status;
    status = 0;
    if (optind < argc && strcmp(argv[optind], "clip") == 0) {
        if (argc - optind != 2 || !run || markdown)
            return cli_usage("explain", "clip takes one CLIP and --run");
        struct err e;
        return explain_clip(argv[optind + 1], run, json, &e) < 0 ? cli_fail("explain", &e) : 0;
    }
    if (run || json)
        return cli_usage("explain", "--run and --json go with clip");
    if (argc - optind > 1 || (markdown && optind < argc))
        return cli_usage("explain", "takes one code");
    if (markdown)
        print_markdown();
    else if (optind < argc)
        status = explain(argv[optind]);
    else
        print_list();
    return fflush(stdout) || ferror(stdout) ? 74 : status;
}
