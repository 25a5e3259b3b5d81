/* The table at the end of a run. Events may repeat after a restart: the last of each kind and round counts.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "cli/run_view.h"
#include "lib/fsutil.h"

#define ROUNDS_MAX 10000

/* The last event of each kind in a round. */
struct round_events {
    json_t *extract, *labels, *epoch;
};

static void keep(json_t **slot, json_t *event)
{
    json_decref(*slot);
    *slot = json_incref(event);
}

static void sort_event(struct round_events *rounds, size_t *n, json_t *event)
{
    const char *kind = json_string_value(json_object_get(event, "event"));
    json_int_t round = json_integer_value(json_object_get(event, "round"));
    if (!kind || round < 0 || round >= ROUNDS_MAX)
        return;
    struct round_events *r = &rounds[round];
    if (strcmp(kind, "extract") == 0)
        keep(&r->extract, event);
    else if (strcmp(kind, "labels") == 0)
        keep(&r->labels, event);
    else if (strcmp(kind, "epoch") == 0)
        keep(&r->epoch, event);
    else
        return;
    if ((size_t)round + 1 > *n)
        *n = (size_t)round + 1;
}

static void print_number(FILE *out, const json_t *j, int width, int decimals)
{
    if (json_is_number(j))
        fprintf(out, "%*.*f", width, decimals, json_number_value(j));
    else
        fprintf(out, "%*s", width, "-");
}

/* A figure of the source of encoder i. Where both learn the same one, that; of several heads the best. */
static const json_t *figure(const json_t *labels, unsigned i, const char *key)
{
    const json_t *quality = json_object_get(labels, "quality"),
                 *sources = json_object_get(quality, "sources");
    const char *best = json_string_value(json_object_get(quality, "best_head"));
    if (best)
        return json_object_get(json_object_get(sources, best), key);
    return json_object_get(run_view_member(sources, json_object_size(sources) == 2 ? i : 0), key);
}

static void print_round(FILE *out, size_t i, const struct round_events *r)
{
    const json_t *loss = json_object_get(r->epoch, "loss");
    fprintf(out, "%5zu ", i);
    print_number(out, figure(r->labels, 0, "ami_truth"), 9, 3);
    print_number(out, figure(r->labels, 1, "ami_truth"), 9, 3);
    print_number(out, figure(r->labels, 0, "ami_other"), 9, 3);
    print_number(out, figure(r->labels, 0, "ami_previous"), 9, 3);
    print_number(out, figure(r->labels, 1, "ami_previous"), 9, 3);
    print_number(out, run_view_member(loss, 0), 9, 3);
    print_number(out, run_view_member(loss, 1), 9, 3);
    print_number(out, json_object_get(r->extract, "clips_per_s"), 11, 1);
    print_number(out, json_object_get(r->epoch, "clips_per_s"), 11, 1);
    print_number(out, json_object_get(r->labels, "seconds"), 10, 2);
    fputc('\n', out);
}

/* The encoders are called as the first loss says. */
static void print_names(FILE *out, const struct round_events *rounds, size_t n)
{
    const char *name[2] = {"video", "audio"};
    json_t *loss = NULL;
    for (size_t i = 0; i < n && !loss; i++)
        loss = json_object_get(rounds[i].epoch, "loss");
    void *at = json_object_iter(loss);
    for (unsigned i = 0; at && i < 2; i++, at = json_object_iter_next(loss, at))
        name[i] = json_object_iter_key(at);
    fprintf(out, "round  %7s  %7s   modality  %7s  %7s  %7s  %7s    extract      train   seconds\n", name[0],
            name[1], name[0], name[1], name[0], name[1]);
}

int run_view_summary(const char *run_dir, FILE *out, struct err *e)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t size, n = 0;
    int rc = fs_path(path, e, "%s/events.jsonl", run_dir);
    if (rc == 0)
        rc = fs_read(path, (size_t)1 << 31, &text, &size, e);
    if (rc < 0)
        return rc;
    struct round_events *rounds = calloc(ROUNDS_MAX, sizeof *rounds);
    if (!rounds) {
        free(text);
        return err_sys(e, ENOMEM, "summary");
    }
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *event = json_loads(line, 0, NULL);
        if (event)
            sort_event(rounds, &n, event);
        json_decref(event);
    }
    fputs("      AMI with truth     AMI other  AMI with previous   last loss          clips/s               "
          "label\n",
          out);
    print_names(out, rounds, n);
    for (size_t i = 0; i < n; i++) {
        print_round(out, i, &rounds[i]);
        json_decref(rounds[i].extract);
        json_decref(rounds[i].labels);
        json_decref(rounds[i].epoch);
    }
    free(rounds);
    free(text);
    return 0;
}
