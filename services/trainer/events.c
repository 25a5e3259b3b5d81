#include "services/trainer/events.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "lib/fsutil.h"

int events_open(struct events *ev, const char *run_dir, struct err *e)
{
    char path[PATH_MAX];
    ev->fd = -1;
    int rc = fs_path(path, e, "%s/events.jsonl", run_dir);
    if (rc < 0)
        return rc;
    ev->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return ev->fd < 0 ? err_sys(e, errno, "open %s", path) : 0;
}

int events_write(struct events *ev, const char *event, json_t *fields, struct err *e)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    json_t *line =
        json_pack("{s:s, s:f}", "event", event, "time", (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
    char *text = NULL;
    int rc = -ENOMEM;
    if (line && fields && json_object_update(line, fields) == 0 && (text = json_dumps(line, JSON_COMPACT))) {
        size_t n = strlen(text);
        text[n] = '\n'; /* in place of the NUL: one write, one line */
        rc = fs_write_all(ev->fd, text, n + 1, "events.jsonl", e);
    } else {
        err_sys(e, ENOMEM, "events.jsonl");
    }
    free(text);
    json_decref(line);
    json_decref(fields);
    return rc;
}

void events_close(struct events *ev)
{
    if (ev->fd >= 0)
        close(ev->fd);
    ev->fd = -1;
}
