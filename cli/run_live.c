#include "cli/run_live.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "cli/run_view.h"
#include "cli/supervisor.h"
#include "lib/fsutil.h"
#include "lib/status.h"

struct live {
    uv_loop_t loop;
    uv_timer_t poll;
    struct supervisor supervisor;
    struct run_view view;
    char trainer_socket[PATH_MAX];
};

static void on_note(void *arg, const char *text)
{
    struct live *r = arg;
    run_view_note(&r->view, text);
}

static void on_poll(uv_timer_t *timer)
{
    struct live *r = timer->data;
    char *body = NULL;
    int http;
    struct err e;
    if (status_get(r->trainer_socket, "/status", 500, &body, &http, &e) < 0)
        return; /* it starts, or is being restarted */
    json_t *j = json_loads(body, 0, NULL);
    free(body);
    if (j)
        run_view_show(&r->view, j);
    json_decref(j);
}

static void on_stop(void *arg)
{
    struct live *r = arg;
    run_view_note(&r->view, r->supervisor.stopping ? "stopping now"
                                                   : "stopping: the step is finished and a checkpoint "
                                                     "written; once more to stop now");
    supervisor_stop(&r->supervisor);
}

static int supervise(struct live *r, struct daemon *d, char **args, struct err *e)
{
    int rc = uv_loop_init(&r->loop);
    if (rc < 0)
        return err_set(e, rc, "event loop: %s", uv_strerror(rc));
    uv_timer_init(&r->loop, &r->poll);
    r->poll.data = r;
    rc = daemon_signals(d, &r->loop, on_stop, NULL, r, e);
    if (rc == 0)
        rc = supervisor_start(&r->supervisor, &r->loop, &d->conf, args, on_note, r, e);
    if (rc == 0) {
        uv_timer_start(&r->poll, on_poll, 500, 500);
        uv_run(&r->loop, UV_RUN_DEFAULT);
        run_view_end(&r->view);
    } else {
        supervisor_stop(&r->supervisor);
        if (r->supervisor.n)
            uv_run(&r->loop, UV_RUN_DEFAULT);
    }
    uv_close((uv_handle_t *)&r->poll, NULL);
    daemon_end(d);
    supervisor_close(&r->supervisor);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    uv_loop_close(&r->loop);
    return rc;
}

int run_live(struct daemon *d, char **args, struct run_end *out, struct err *e)
{
    struct live *r = calloc(1, sizeof *r);
    if (!r)
        return err_sys(e, ENOMEM, "run");
    run_view_init(&r->view, stderr);
    int rc = daemon_status_path(&d->conf, "trainer-0", r->trainer_socket, sizeof r->trainer_socket, e);
    if (rc == 0)
        rc = supervise(r, d, args, e);
    out->status = r->supervisor.status;
    snprintf(out->reason, sizeof out->reason, "%s", r->supervisor.reason);
    free(r);
    return rc;
}

int run_live_lock(const char *owner, const char *dir, int *out_fd, struct err *e)
{
    char path[PATH_MAX];
    pid_t pid = 0;
    int rc = fs_mkdirs(dir, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/run.lock", dir);
    if (rc == 0)
        rc = fs_lock(path, out_fd, &pid, e);
    if (rc == XDC_ELOCKED)
        rc = err_set(e, XDC_ELOCKED, "a live %s (pid %d) owns %s; xdc status %s shows it", owner, (int)pid,
                     dir, dir);
    return rc;
}

int run_live_remove(const char *dir, struct err *e)
{
    char sockets[PATH_MAX];
    const char *given = getenv("RUNTIME_DIRECTORY"); /* of a service, and of all its runs */
    if (access(dir, F_OK) < 0 && errno == ENOENT)
        return 0;
    int rc = given && *given ? 0 : fs_runtime_dir(dir, sockets, e);
    if (rc == 0 && !(given && *given))
        rc = fs_remove_tree(sockets, e);
    return rc == 0 ? fs_remove_tree(dir, e) : rc;
}
