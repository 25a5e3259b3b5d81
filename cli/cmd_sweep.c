/* xdc sweep: a grid of pretrainings and what each is worth, as one table. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/run_live.h"
#include "cli/sweep.h"
#include "lib/fsutil.h"
#include "lib/progress.h"

static const char help[] =
    "examples:\n"
    "  xdc sweep --show t1-methods                what a preset asks for\n"
    "  xdc sweep t1.yaml -n                       check every configuration of it\n"
    "  xdc sweep t1.yaml                          pretrain, evaluate, table; the same command goes on\n\n"
    "usage: xdc sweep S.yaml [-n | --table] [--json]\n"
    "       xdc sweep --show PRESET\n\n"
    "  preset: t1-methods              rows, evaluate and order of one of the papers' tables\n"
    "  dir: sweeps/t1                  everything is kept here; table.md and table.json are the result\n"
    "  base: kinetics.yaml             the configuration that rows change\n"
    "  seeds: [0, 1, 2]\n"
    "  pretrain: [{name: Kinetics, manifest: k.lmdb}]    data; `labelled` is what Superv learns from\n"
    "  targets: [{name: UCF101, manifests: [u1.lmdb, u2.lmdb, u3.lmdb]}]   splits or folds are averaged\n"
    "  rows: [{name: XDC, set: {method: xdc}}]           settings over the base\n"
    "  grid: {cluster.k: [64, 128]}                      every row with every value\n"
    "  evaluate: [{name: kNN, eval: knn, figure: video_top1}]   columns: options and set as of xdc eval\n\n"
    "The first target is that of columns without one. Learning rates of fine-tuning are chosen with the "
    "first "
    "seed\n"
    "and held for the others. What fails is left out of the table and named; the same command tries it "
    "again.\n\n"
    "  -n             check every configuration and exit\n"
    "  --table        the table of what is there, without running anything\n"
    "  --json         table.json on stdout\n"
    "  --show PRESET  t1-methods, t2-k, t3-data, t4-fc-vs-all, t5-video-sota, t6-audio-sota, "
    "selavi-metrics\n";

static int write_table(const struct sweep *s, bool json, struct err *e)
{
    char path[PATH_MAX], *md = NULL;
    size_t size = 0;
    json_t *table = sweep_table(s);
    char *text = table ? json_dumps(table, JSON_INDENT(2)) : NULL;
    FILE *f = open_memstream(&md, &size);
    int rc = text && f ? 0 : err_sys(e, ENOMEM, "table");
    if (rc == 0)
        sweep_table_print(table, f);
    if (f)
        fclose(f);
    if (rc == 0)
        rc = fs_path(path, e, "%s/table.json", s->dir);
    if (rc == 0)
        rc = fs_write_atomic(path, text, strlen(text), e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/table.md", s->dir);
    if (rc == 0)
        rc = fs_write_atomic(path, md, size, e);
    if (rc == 0)
        fputs(json ? text : md, stdout);
    free(text);
    free(md);
    json_decref(table);
    return rc;
}

/* Seeds outside: after the first, every row has a figure. */
static int run_cells(const struct sweep *s, struct sweep_counts *n, struct err *e)
{
    size_t i;
    json_t *cell;
    int rc = 0;
    *n = (struct sweep_counts){.start_s = progress_now_s()};
    json_array_foreach(s->cells, i, cell) n->total += s->n_seeds * sweep_cell_steps(s, cell);
    for (uint32_t k = 0; rc == 0 && k < s->n_seeds; k++)
        json_array_foreach(s->cells, i, cell)
        {
            if (rc == 0)
                rc = sweep_cell(s, cell, k, n, e);
        }
    return rc;
}

/* The exit status. */
static int sweep(const char *path, bool check, bool table, bool json)
{
    struct sweep *s = calloc(1, sizeof *s);
    struct sweep_counts n = {0};
    struct err e = {0};
    int lock = -1;
    if (!s)
        return 70;
    int rc = sweep_read(path, s, &e);
    if (rc == 0 && check)
        rc = sweep_check(s, &e);
    if (rc == 0 && !check)
        rc = run_live_lock("xdc sweep", s->dir, &lock, &e);
    if (rc == 0 && !check && !table)
        rc = run_cells(s, &n, &e);
    if (rc == 0 && !check)
        rc = write_table(s, json, &e);
    if (lock >= 0)
        close(lock);
    sweep_close(s);
    free(s);
    if (rc < 0)
        return cli_fail("sweep", &e);
    if (n.failed)
        fprintf(stderr, "xdc sweep: %u of %u steps failed, see above; the same command tries them again\n",
                n.failed, n.total);
    return n.failed ? 65 : 0;
}

int cli_sweep(int argc, char **argv)
{
    bool check = false, table = false, json = false;
    const char *show = NULL;
    const struct cli_option options[] = {{"check", 'n', .on = &check},
                                         {"table", .on = &table},
                                         {"json", .on = &json},
                                         {"show", .text = &show},
                                         {0}};
    int status = cli_options("sweep", help, options, argc, argv);
    if (status >= 0)
        return status;
    if (show) {
        const char *text = sweep_preset(show);
        if (!text)
            return cli_usage("sweep", "--show %s: is none of %s", show, sweep_preset_names());
        fputs(text, stdout);
        return 0;
    }
    if (optind + 1 != argc)
        return cli_usage("sweep", "needs one S.yaml");
    return sweep(argv[optind], check, table, json);
}
