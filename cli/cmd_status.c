/* xdc status: every daemon of a run, a line each. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "lib/fsutil.h"
#include "lib/status.h"

static const char help[] =
    "examples:\n"
    "  xdc status run            a line for each daemon of the run in this directory\n"
    "  xdc status run --json     all that they say, as one JSON object\n\n"
    "usage: xdc status RUN [--json]\n\n"
    "Exits 0 when at least one daemon answers, 69 when none does. Each daemon also answers by itself:\n"
    "  curl --unix-socket $XDG_RUNTIME_DIR/xdc/<id>/trainer-0.sock http://xdc/metrics\n";

static const char *text(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static double number(const json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

static void print_line(const char *name, const json_t *j)
{
    printf("%-14s pid %-8.0f ", name, number(j, "pid"));
    if (strcmp(text(j, "daemon"), "trainer") == 0)
        printf("%s, round %.0f of %.0f, epoch %.0f of %.0f, %.0f of %.0f clips, %.1f clips/s, %.0f "
               "quarantined\n",
               text(j, "phase"), number(j, "round"), number(j, "rounds"), number(j, "epoch") + 1,
               number(j, "epochs"), number(j, "done"), number(j, "total"), number(j, "clips_per_s"),
               number(j, "quarantined"));
    else if (strcmp(text(j, "daemon"), "decoder") == 0)
        printf("%s, %.0f workers, %.0f slots, %.0f held, %.0f decoded, %.1f clips/s\n", text(j, "state"),
               number(j, "workers"), number(j, "slots"), number(j, "held"), number(j, "decoded"),
               number(j, "clips_per_s"));
    else
        printf("%s, round %.0f, %.0f tables, %.0f %% done\n", text(j, "state"), number(j, "round"),
               number(j, "tables"), 100 * number(j, "done"));
}

/* Of a daemon's status; the edges' own sockets lie beside them. */
static int is_socket(const struct dirent *d)
{
    static const char *const daemons[] = {"clusterer", "decoder-", "trainer-"};
    size_t n = strlen(d->d_name);
    for (size_t i = 0; i < sizeof daemons / sizeof daemons[0]; i++)
        if (n > 5 && strcmp(d->d_name + n - 5, ".sock") == 0 &&
            strncmp(d->d_name, daemons[i], strlen(daemons[i])) == 0)
            return 1;
    return 0;
}

/* Asks one daemon; adds its answer to `all`, or prints its line. */
static int ask(const char *dir, const char *file, json_t *all)
{
    char path[PATH_MAX], name[NAME_MAX + 1];
    char *body = NULL;
    int http = 0;
    struct err e;
    snprintf(name, sizeof name, "%.*s", (int)strlen(file) - 5, file);
    if (fs_path(path, &e, "%s/%s", dir, file) < 0 ||
        status_get(path, "/status", 1000, &body, &http, &e) < 0) {
        if (!all)
            printf("%-14s does not answer\n", name);
        return 0;
    }
    json_t *j = json_loads(body, 0, NULL);
    free(body);
    if (all)
        json_object_set(all, name, j);
    else
        print_line(name, j);
    json_decref(j);
    return 1;
}

int cli_status(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {{"json", 'j', .on = &json}, {0}};
    int status = cli_options("status", help, options, argc, argv);
    if (status >= 0)
        return status;
    if (optind + 1 != argc)
        return cli_usage("status", "needs RUN");
    char dir[PATH_MAX];
    struct err e;
    struct dirent **names = NULL;
    if (fs_runtime_dir(argv[optind], dir, &e) < 0)
        return cli_fail("status", &e);
    int n = scandir(dir, &names, is_socket, alphasort), answers = 0;
    json_t *all = json ? json_object() : NULL;
    for (int i = 0; i < n; i++) {
        answers += ask(dir, names[i]->d_name, all);
        free(names[i]);
    }
    free(names);
    if (all) {
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    } else if (answers == 0) {
        printf("no daemon of %s answers in %s\n", argv[optind], dir);
    }
    return answers ? 0 : 69;
}
