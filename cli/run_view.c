#include "cli/run_view.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/progress.h"

#define QUIET_S 10.0 /* between lines where nothing can be rewritten */

void run_view_init(struct run_view *v, FILE *out)
{
    *v = (struct run_view){.out = out, .terminal = isatty(fileno(out)) == 1};
}

static const char *text(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static double number(const json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

/* "1:02:03" or "2:03". */
static void format_time(double s, char out[24])
{
    long t = s < 0 ? 0 : s > 3e8 ? 300000000 : (long)(s + 0.5);
    if (s < 0)
        snprintf(out, 24, "?");
    else if (t >= 3600)
        snprintf(out, 24, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(out, 24, "%ld:%02ld", t / 60, t % 60);
}

/* How good the labels in force are: AMI of each source with truth, or with the round before where truth is
 * unknown. */
static int format_labels(const json_t *quality, char *out, size_t size)
{
    const char *name;
    json_t *source;
    int n = 0;
    json_object_foreach(json_object_get(quality, "sources"), name, source)
    {
        const json_t *truth = json_object_get(source, "ami_truth"),
                     *previous = json_object_get(source, "ami_previous");
        if (truth || previous)
            n += snprintf(out + n, size - (size_t)n, "  %s AMI%s %.2f", name, truth ? "" : " with previous",
                          json_number_value(truth ? truth : previous));
        if (n >= (int)size)
            return (int)size - 1;
    }
    return n;
}

const json_t *run_view_member(const json_t *object, unsigned i)
{
    void *at = json_object_iter((json_t *)object);
    while (at && i-- > 0)
        at = json_object_iter_next((json_t *)object, at);
    return json_object_iter_value(at);
}

/* Of the encoders that the run is of. */
static int format_loss(const json_t *loss, char *out, size_t size)
{
    int n = snprintf(out, size, "  loss");
    for (unsigned i = 0; i < 2; i++) {
        const json_t *one = run_view_member(loss, i);
        if (json_is_number(one))
            n += snprintf(out + n, size - (size_t)n, " %.3f", json_number_value(one));
    }
    return n;
}

static void format_line(const json_t *t, char *out, size_t size)
{
    char left[24];
    const char *phase = text(t, "phase");
    format_time(number(t, "left_s"), left);
    int n = snprintf(out, size, "%-8s round %.0f/%.0f", phase, number(t, "round"), number(t, "rounds"));
    if (strcmp(phase, "train") == 0)
        n += snprintf(out + n, size - (size_t)n, " epoch %.0f/%.0f", number(t, "epoch") + 1,
                      number(t, "epochs"));
    if (number(t, "total") > 0)
        n += snprintf(out + n, size - (size_t)n, "  %.0f/%.0f clips  %.1f/s  left %s", number(t, "done"),
                      number(t, "total"), number(t, "clips_per_s"), left);
    if (strcmp(phase, "train") == 0)
        n += format_loss(json_object_get(t, "loss"), out + n, size - (size_t)n);
    if (strcmp(phase, "train") == 0)
        n += format_labels(json_object_get(t, "quality"), out + n, size - (size_t)n);
    if (number(t, "quarantined") > 0)
        snprintf(out + n, size - (size_t)n, "  %.0f quarantined", number(t, "quarantined"));
}

static void put_line(struct run_view *v)
{
    if (v->terminal)
        fprintf(v->out, "\r\033[K%s", v->line);
    else
        fprintf(v->out, "%s\n", v->line);
    fflush(v->out);
    v->printed_s = progress_now_s();
}

void run_view_end(struct run_view *v)
{
    if (v->key[0] == '\0')
        return;
    if (v->terminal)
        fputc('\n', v->out);
    else
        put_line(v);
    fflush(v->out);
    v->key[0] = '\0';
}

void run_view_show(struct run_view *v, const json_t *t)
{
    char key[64];
    snprintf(key, sizeof key, "%.20s/%.0f/%.0f", text(t, "phase"), number(t, "round"), number(t, "epoch"));
    if (strcmp(key, v->key) != 0) {
        run_view_end(v);
        snprintf(v->key, sizeof v->key, "%s", key);
        v->printed_s = progress_now_s();
    }
    format_line(t, v->line, sizeof v->line);
    if (v->terminal || progress_now_s() - v->printed_s >= QUIET_S)
        put_line(v);
}

void run_view_note(struct run_view *v, const char *note)
{
    if (v->terminal && v->key[0])
        fputs("\r\033[K", v->out);
    fprintf(v->out, "%s\n", note);
    fflush(v->out);
}
