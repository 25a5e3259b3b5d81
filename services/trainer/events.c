#include "services/trainer/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "lib/fsutil.h"

/* Which numbers of which event become scalars. A field may lie in objects ("quality.sources"); an object
 * gives a tag for every number in it: "loss" of an epoch gives loss/video and loss/audio. */
static const struct {
    const char *event, *field, *tag;
    const char *suffix; /* the event's string behind the tag, or NULL */
} table[] = {
    {"epoch", "loss", "loss", NULL},
    {"epoch", "accuracy", "accuracy", NULL},
    {"epoch", "holdout.loss", "holdout_loss", NULL},
    {"epoch", "holdout.accuracy", "holdout_accuracy", NULL},
    {"epoch", "lr", "lr", NULL},
    {"epoch", "quarantined", "clips/quarantined", NULL},
    {"epoch", "clips_per_s", "clips_per_s/epoch", NULL},
    {"epoch", "seconds", "seconds/epoch", NULL},
    {"probe", "accuracy", "probe", NULL},
    {"labels", "quality.sources", "quality", NULL},
    {"phase", "clips_per_s", "clips_per_s", "name"},
    {"phase", "seconds", "seconds", "name"},
    {"phase", "flop", "flop", "name"},
    {"checkpoint", "write_s", "seconds/checkpoint", NULL},
    {"checkpoint", "stall_s", "seconds/checkpoint_stall", NULL},
};

int events_open(struct events *ev, const char *run_dir, bool tensorboard, const uint64_t *step, bool resumed,
                struct err *e)
{
    char path[PATH_MAX];
    *ev = (struct events){.fd = -1, .step = step, .first_step = resumed ? *step + 1 : 0};
    int rc = fs_path(path, e, "%s/events.jsonl", run_dir);
    if (rc == 0 && tensorboard)
        rc = fs_path(ev->tensorboard, e, "%s/tensorboard", run_dir);
    if (rc < 0)
        return rc;
    ev->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return ev->fd < 0 ? err_sys(e, errno, "open %s", path) : 0;
}

static int put_scalar(struct events *ev, double time_s, const char *tag, double value, struct err *e)
{
    int rc = 0;
    if (!ev->scalars) {
        rc = fs_mkdirs(ev->tensorboard, e);
        if (rc == 0)
            rc = tfevents_open(ev->tensorboard, ev->first_step, &ev->scalars, e);
    }
    return rc == 0 ? tfevents_scalar(ev->scalars, time_s, *ev->step, tag, (float)value, e) : rc;
}

/* A number under its tag; of an object every number in it; of anything else nothing. */
static int put_value(struct events *ev, double time_s, const char *tag, json_t *value, struct err *e)
{
    char member[TFEVENTS_TAG_MAX];
    const char *key;
    json_t *v;
    if (json_is_number(value))
        return put_scalar(ev, time_s, tag, json_number_value(value), e);
    json_object_foreach(value, key, v)
    {
        int n = snprintf(member, sizeof member, "%s/%s", tag, key);
        if (n >= (int)sizeof member)
            return err_sys(e, ENAMETOOLONG, "tag %s", member);
        int rc = put_value(ev, time_s, member, v, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The member at a path of keys with dots between them, or NULL. */
static json_t *member_at(json_t *object, const char *path)
{
    for (;;) {
        size_t n = strcspn(path, ".");
        object = json_object_getn(object, path, n);
        if (!path[n])
            return object;
        path += n + 1;
    }
}

static int put_scalars(struct events *ev, double time_s, const char *event, json_t *fields, struct err *e)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char tag[TFEVENTS_TAG_MAX];
        if (strcmp(event, table[i].event) != 0)
            continue;
        const char *suffix =
            table[i].suffix ? json_string_value(json_object_get(fields, table[i].suffix)) : NULL;
        snprintf(tag, sizeof tag, "%s%s%s", table[i].tag, suffix ? "/" : "", suffix ? suffix : "");
        int rc = put_value(ev, time_s, tag, member_at(fields, table[i].field), e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int put_line(struct events *ev, double time_s, const char *event, json_t *fields, struct err *e)
{
    json_t *line =
        json_pack("{s:s, s:f, s:I}", "event", event, "time", time_s, "step", (json_int_t)*ev->step);
    char *text = NULL;
    int rc = -ENOMEM;
    if (line && json_object_update(line, fields) == 0 && (text = json_dumps(line, JSON_COMPACT))) {
        size_t n = strlen(text);
        text[n] = '\n'; /* in place of the NUL: one write, one line */
        rc = fs_append(ev->fd, text, n + 1, "events.jsonl", e);
    } else {
        err_sys(e, ENOMEM, "events.jsonl");
    }
    free(text);
    json_decref(line);
    return rc;
}

int events_write(struct events *ev, const char *event, json_t *fields, struct err *e)
{
    if (ev->fd < 0) { /* another rank keeps the record */
        json_decref(fields);
        return 0;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double time_s = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    if (!fields) /* JSON has no NaN: where there is memory, a figure is none */
        return err_sys(e, EDOM, "event %s for events.jsonl", event);
    int rc = put_line(ev, time_s, event, fields, e);
    if (rc == 0 && ev->tensorboard[0])
        rc = put_scalars(ev, time_s, event, fields, e);
    json_decref(fields);
    return rc;
}

void events_close(struct events *ev)
{
    tfevents_close(ev->scalars);
    if (ev->fd >= 0)
        close(ev->fd);
    *ev = (struct events){.fd = -1};
}
