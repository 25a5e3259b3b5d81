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

/* A source's figure, "joint" standing for both under cdc. */
static const json_t *figure(const json_t *labels, const char *source, const char *key)
{
    const json_t *sources = json_object_get(json_object_get(labels, "quality"), "sources");
    const json_t *s = json_object_get(sources, source);
    if (!s)
        s = json_object_get(sources, "joint");
    return json_object_get(s, key);
}

static void print_round(FILE *out, size_t i, const struct round_events *r)
{
    const json_t *loss = json_object_get(r->epoch, "loss");
    fprintf(out, "%5zu ", i);
    print_number(out, figure(r->labels, "video", "ami_truth"), 9, 3);
    print_number(out, figure(r->labels, "audio", "ami_truth"), 9, 3);
    print_number(out, figure(r->labels, "video", "ami_other"), 9, 3);
    print_number(out, figure(r->labels, "video", "ami_previous"), 9, 3);
    print_number(out, figure(r->labels, "audio", "ami_previous"), 9, 3);
    print_number(out, json_object_get(loss, "video"), 9, 3);
    print_number(out, json_object_get(loss, "audio"), 9, 3);
    print_number(out, json_object_get(r->extract, "clips_per_s"), 11, 1);
    print_number(out, json_object_get(r->epoch, "clips_per_s"), 11, 1);
    print_number(out, json_object_get(r->labels, "seconds"), 10, 2);
    fputc('\n', out);
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
          "label\n"
          "round    video    audio   modality    video    audio    video    audio    extract      train   "
          "seconds\n",
          out);
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
