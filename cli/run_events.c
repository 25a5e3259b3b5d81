#include "cli/run_events.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "lib/fsutil.h"

#define ROUNDS_MAX 10000
#define BYTES_MAX ((size_t)1 << 31)

static void keep(json_t **slot, json_t *event)
{
    json_decref(*slot);
    *slot = json_incref(event);
}

/* Adds a line of a phase to what it has taken. */
static void add_phase(struct run_round *r, const json_t *event)
{
    const char *name = json_string_value(json_object_get(event, "name"));
    if (!r->phases)
        r->phases = json_object();
    if (!name || !r->phases)
        return;
    const json_t *so_far = json_object_get(r->phases, name);
    json_object_set_new(r->phases, name,
                        json_pack("{s:f, s:f, s:b}", "seconds",
                                  json_number_value(json_object_get(so_far, "seconds")) +
                                      json_number_value(json_object_get(event, "seconds")),
                                  "clips",
                                  json_number_value(json_object_get(so_far, "clips")) +
                                      json_number_value(json_object_get(event, "clips")),
                                  "ended", json_is_true(json_object_get(event, "ended"))));
}

static void sort_event(struct run_events *out, json_t *event)
{
    const char *kind = json_string_value(json_object_get(event, "event"));
    json_int_t round = json_integer_value(json_object_get(event, "round"));
    if (!kind || round < 0 || round >= ROUNDS_MAX)
        return;
    struct run_round *r = &out->round[round];
    if (strcmp(kind, "extract") == 0)
        keep(&r->extract, event);
    else if (strcmp(kind, "labels") == 0)
        keep(&r->labels, event);
    else if (strcmp(kind, "epoch") == 0)
        keep(&r->epoch, event);
    else if (strcmp(kind, "phase") == 0)
        add_phase(r, event);
    else
        return;
    if ((size_t)round + 1 > out->n)
        out->n = (size_t)round + 1;
}

int run_events_read(const char *run_dir, struct run_events *out, struct err *e)
{
    char path[PATH_MAX];
    char *text = NULL, *save = NULL;
    size_t size;
    *out = (struct run_events){0};
    int rc = fs_path(path, e, "%s/events.jsonl", run_dir);
    if (rc == 0)
        rc = fs_read(path, BYTES_MAX, &text, &size, e);
    if (rc < 0)
        return rc;
    out->round = calloc(ROUNDS_MAX, sizeof *out->round);
    if (!out->round)
        rc = err_sys(e, ENOMEM, "events of %d rounds", ROUNDS_MAX);
    for (char *line = strtok_r(text, "\n", &save); rc == 0 && line; line = strtok_r(NULL, "\n", &save)) {
        json_t *event = json_loads(line, 0, NULL);
        const char *kind = json_string_value(json_object_get(event, "event"));
        if (kind && strcmp(kind, "finished") == 0)
            out->finished = true;
        else
            sort_event(out, event);
        json_decref(event);
    }
    free(text);
    return rc;
}

void run_events_close(struct run_events *r)
{
    for (size_t i = 0; i < r->n; i++) {
        json_decref(r->round[i].extract);
        json_decref(r->round[i].labels);
        json_decref(r->round[i].epoch);
        json_decref(r->round[i].phases);
    }
    free(r->round);
    *r = (struct run_events){0};
}
