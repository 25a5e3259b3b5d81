/* xdc compare: runs side by side. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/compare_agreement.h"
#include "cli/compare_labels.h"
#include "cli/compare_pairs.h"
#include "cli/compare_run.h"
#include "cli/compare_table.h"
#include "lib/run_json.h"

static const char help[] =
    "examples:\n"
    "  xdc compare runs/xdc runs/cdc                    settings, times, losses, clusters of each round\n"
    "  xdc compare runs/xdc runs/cdc --recluster        clusters of all methods by the same measure\n"
    "  xdc compare runs/* --round last --json           the newest round alone, as one JSON object\n"
    "  xdc run -c xdc.yaml --set features.keep_rounds=0 what keeps the features of all rounds for this\n\n"
    "usage: xdc compare RUN RUN [RUN...] [--round R|last] [--recluster] [--threads T] [--json]\n\n"
    "  RUN               directory of a run, finished or not, 2 to 16 of them\n"
    "  --round R         this round alone; last: the newest one of each run that has labels\n"
    "  --recluster       pairs by k-means of each encoder's features, with the run's own settings, whatever "
    "the\n"
    "                    method is; else that is done for cdc alone, whose labels are of both together\n"
    "  --threads T       of k-means, 0 for one per CPU; the result is the same (each run's cluster.threads)\n"
    "  --json            one JSON object (docs/evaluation.md)\n\n"
    "Says which settings differ, and of each round seconds, clips/s, losses, what the label tables are "
    "worth, and\n"
    "of all pairs of clips in one cluster of video, of audio, of both, of either: how many are of one "
    "class.\n"
    "What is not there any more is named. At the end: how the newest tables agree. Nothing is written.\n"
    "Exits 0, 64 for wrong arguments, 65 for a damaged record, 66 for a directory that is no run.\n";

struct compare_options {
    bool json, recluster;
    const char *round; /* NULL: all */
    const char *threads_given;
    uint64_t threads;
};

/* *out: the table's quality, without a table the record's, or null; what is wrong is said. */
static int read_quality(const struct compare_run *r, uint32_t round, json_t *missing, json_t **out,
                        struct err *e)
{
    struct label_table *t;
    struct err why;
    int rc = compare_table_open(r, round, &t, &why);
    *out = NULL;
    if (rc == 0) {
        *out = json_loads(label_table_quality(t), 0, NULL);
        label_table_close(t);
        json_object_del(*out, "alignment"); /* a permutation, long */
    } else {
        rc = compare_say(missing, rc, why.msg, e);
    }
    if (!*out && round < r->events.n)
        *out = json_incref(json_object_get(r->events.round[round].labels, "quality"));
    if (!*out)
        *out = json_null();
    return rc;
}

/* {name: {"seconds", "clips", "clips_per_s", "ended"}} */
static json_t *read_phases(const struct run_round *events)
{
    const char *name;
    json_t *phase, *phases = json_object();
    json_object_foreach(events->phases, name, phase)
    {
        json_t *j = json_copy(phase);
        double seconds = json_number_value(json_object_get(j, "seconds"));
        double clips = json_number_value(json_object_get(j, "clips"));
        json_object_set_new(j, "clips_per_s",
                            clips > 0 && seconds > 0 ? json_real(clips / seconds) : json_null());
        json_object_set_new(phases, name, j);
    }
    return phases;
}

/* The last epoch's event, without what every event has. */
static json_t *read_epoch(const struct run_round *events)
{
    json_t *j = json_copy(events->epoch);
    json_object_del(j, "event");
    json_object_del(j, "time");
    json_object_del(j, "round");
    return j;
}

static int put_round(const struct compare_run *r, uint32_t round, bool recluster, json_t *rounds,
                     struct err *e)
{
    static const struct run_round nothing;
    const struct run_round *events = round < r->events.n ? &r->events.round[round] : &nothing;
    json_t *missing = json_array(), *pairs = NULL, *quality = NULL;
    int rc = read_quality(r, round, missing, &quality, e);
    if (rc == 0)
        rc = compare_pairs(r, round, recluster, missing, &pairs, e);
    json_t *j =
        rc ? NULL
           : json_pack("{s:i, s:o, s:o?, s:O, s:O, s:O}", "round", (int)round, "phases", read_phases(events),
                       "epoch", read_epoch(events), "quality", quality, "pairs", pairs, "missing", missing);
    if (rc == 0 && json_array_append_new(rounds, j))
        rc = err_sys(e, ENOMEM, "round %u", round);
    json_decref(quality);
    json_decref(pairs);
    json_decref(missing);
    return rc;
}

/* All that is said of one run. */
static int put_run(const struct compare_options *o, const struct compare_run *r, json_t *runs, struct err *e)
{
    json_t *j = compare_run_head(r), *rounds = json_array();
    uint32_t from = 0, to = r->rounds;
    int rc = 0;
    if (o->round) {
        rc = cli_round(r->dir, "labels", o->round, &from, e);
        to = from + 1;
    }
    for (uint32_t i = from; rc == 0 && i < to; i++) {
        rc = put_round(r, i, o->recluster, rounds, e);
        if (rc)
            err_wrap(e, "%s", r->dir);
    }
    json_object_set_new(j, "rounds", rounds);
    if (json_array_append_new(runs, j) && rc == 0)
        rc = err_sys(e, ENOMEM, "%s", r->dir);
    return rc;
}

/* {key: [a value for each run]} of the keys whose values are not all equal; run.dir says itself. */
static json_t *differing(const struct compare_run *runs, uint32_t n)
{
    json_t *all = json_object(), *out = json_object(), *value;
    const char *key;
    for (uint32_t i = 0; i < n; i++)
        json_object_update(all, json_object_get(runs[i].record, "config"));
    json_object_foreach(all, key, value)
    {
        bool same = true;
        const char *first = run_json_config(runs[0].record, key);
        json_t *values = json_array();
        for (uint32_t i = 0; i < n; i++) {
            const char *v = run_json_config(runs[i].record, key);
            same = same && (v && first ? strcmp(v, first) == 0 : v == first);
            json_array_append_new(values, v ? json_string(v) : json_null());
        }
        if (!same && strcmp(key, "run.dir") != 0)
            json_object_set(out, key, values);
        json_decref(values);
    }
    json_decref(all);
    return out;
}

static bool same_manifest(const struct compare_run *runs, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        if (runs[i].manifest != runs[0].manifest)
            return false;
    return true;
}

static int compare(const struct compare_options *o, char **dirs, uint32_t n, struct compare_run *runs,
                   struct err *e)
{
    json_t *said = json_array(), *agreement = NULL;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = compare_run_open(&runs[i], dirs[i], e);
        if (rc == 0 && o->threads_given)
            runs[i].conf.cluster.threads = (int64_t)o->threads;
    }
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        rc = put_run(o, &runs[i], said, e);
    if (rc == 0)
        rc = compare_agreement(runs, n, &agreement, e);
    json_t *all =
        rc ? NULL
           : json_pack("{s:O, s:b, s:o, s:O}", "runs", said, "same_manifest", same_manifest(runs, n),
                       "settings", differing(runs, n), "agreement", agreement);
    if (rc == 0 && !all)
        rc = err_sys(e, ENOMEM, "report");
    if (all && o->json) {
        json_dumpf(all, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (all) {
        compare_table_print(all);
    }
    json_decref(all);
    json_decref(said);
    json_decref(agreement);
    return rc;
}

int cli_compare(int argc, char **argv)
{
    struct compare_options o = {0};
    const struct cli_option options[] = {
        {"round", 'r', .text = &o.round},
        {"recluster", .on = &o.recluster},
        {"threads", .count = &o.threads, .hi = 1024, .seen = &o.threads_given},
        {"json", 'j', .on = &o.json},
        {0}};
    int status = cli_options("compare", help, options, argc, argv);
    if (status >= 0)
        return status;
    int n = argc - optind;
    if (n < 2 || n > COMPARE_RUNS_MAX)
        return cli_usage("compare", "needs 2 to %d directories of runs", COMPARE_RUNS_MAX);
    struct err e;
    struct compare_run *runs = calloc((size_t)n, sizeof *runs);
    int rc = runs ? compare(&o, argv + optind, (uint32_t)n, runs, &e) : err_sys(&e, ENOMEM, "runs");
    for (int i = 0; runs && i < n; i++)
        compare_run_close(&runs[i]);
    free(runs);
    if (rc < 0)
        return cli_fail("compare", &e);
    return fflush(stdout) || ferror(stdout) ? 74 : 0;
}
