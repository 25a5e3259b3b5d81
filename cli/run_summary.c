/* The table at the end of a run. */
#include "cli/run_events.h"
#include "cli/run_view.h"

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

static void print_round(FILE *out, size_t i, const struct run_round *r)
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
static void print_names(FILE *out, const struct run_round *rounds, size_t n)
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
    struct run_events events;
    int rc = run_events_read(run_dir, &events, e);
    if (rc < 0)
        return rc;
    fputs("      AMI with truth     AMI other  AMI with previous   last loss          clips/s               "
          "label\n",
          out);
    print_names(out, events.round, events.n);
    for (size_t i = 0; i < events.n; i++)
        if (events.round[i].extract || events.round[i].labels || events.round[i].epoch)
            print_round(out, i, &events.round[i]);
    run_events_close(&events);
    return 0;
}
