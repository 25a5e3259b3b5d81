/* xdc run: a whole run on this machine, supervised. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/run_view.h"
#include "cli/supervisor.h"
#include "lib/daemon.h"
#include "lib/fsutil.h"
#include "lib/manifest.h"
#include "lib/run_json.h"
#include "lib/status.h"

static const char help[] =
    "examples:\n"
    "  xdc run -c xdc.yaml                                      train; the same command goes on where a run "
    "stopped\n"
    "  xdc run -c xdc.yaml --set train.rounds=8                 the same with one value changed\n"
    "  xdc run -c xdc.yaml -n                                   check the configuration and exit\n\n"
    "Starts run.decoders decoders, the trainer and a clusterer as child processes, starts again what dies, "
    "shows a line per\n"
    "phase and ends with a table. Ctrl-C finishes the step, writes a checkpoint and exits 75; a second one "
    "stops now.\n"
    "The daemons' logs are in <run.dir>/logs; `xdc status RUN` asks them. xdc run --help-config lists every "
    "key.\n";

struct run {
    struct daemon d;
    uv_loop_t loop;
    uv_timer_t poll;
    struct supervisor supervisor;
    struct run_view view;
    char trainer_socket[PATH_MAX];
};

static void on_note(void *arg, const char *text)
{
    struct run *r = arg;
    run_view_note(&r->view, text);
}

static void on_poll(uv_timer_t *timer)
{
    struct run *r = timer->data;
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
    struct run *r = arg;
    run_view_note(&r->view, r->supervisor.stopping ? "stopping now"
                                                   : "stopping: the step is finished and a checkpoint "
                                                     "written; once more to stop now");
    supervisor_stop(&r->supervisor);
}

static json_t *read_finished(const char *dir)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t size;
    struct err e;
    if (fs_path(path, &e, "%s/finished.json", dir) < 0 || fs_read(path, 1 << 20, &text, &size, &e) < 0)
        return NULL;
    json_t *j = json_loads(text, 0, NULL);
    free(text);
    return j;
}

/* True when this very run has been trained for all its rounds. Another configuration is the trainer's to
 * refuse. */
static bool is_finished(const struct conf *c, uint64_t run)
{
    json_t *finished = read_finished(c->run.dir), *record;
    struct err unsaid;
    char hex[17];
    bool begun = run_json_read(c->run.dir, &record, &unsaid) == 0;
    snprintf(hex, sizeof hex, "%016" PRIx64, run);
    const char *id = json_string_value(json_object_get(record, "run"));
    bool done = begun && id && strcmp(id, hex) == 0 &&
                json_integer_value(json_object_get(finished, "rounds")) >= c->train.rounds;
    json_decref(finished);
    json_decref(record);
    return done;
}

/* -c and --set of our own command line, for the children. */
static char **child_args(int argc, char **argv)
{
    char **args = calloc((size_t)argc + 1, sizeof *args);
    for (int i = 1; args && i < argc; i++)
        args[i - 1] = argv[i];
    return args;
}

static int supervise(struct run *r, char **args, struct err *e)
{
    int rc = uv_loop_init(&r->loop);
    if (rc < 0)
        return err_set(e, rc, "event loop: %s", uv_strerror(rc));
    uv_timer_init(&r->loop, &r->poll);
    r->poll.data = r;
    rc = daemon_signals(&r->d, &r->loop, on_stop, NULL, r, e);
    if (rc == 0)
        rc = supervisor_start(&r->supervisor, &r->loop, &r->d.conf, args, on_note, r, e);
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
    daemon_end(&r->d);
    supervisor_close(&r->supervisor);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    uv_loop_close(&r->loop);
    return rc;
}

static int conclude(struct run *r)
{
    struct err e;
    const struct conf *c = &r->d.conf;
    const char *dir = c->run.dir;
    enum net_pair pair = conf_pair(c);
    if (r->supervisor.reason[0]) {
        fprintf(stderr, "xdc run: %s\n", r->supervisor.reason);
        return r->supervisor.status;
    }
    if (run_view_summary(dir, stdout, &e) < 0)
        return cli_fail("run", &e);
    printf("encoders: %s/export/%s.safetensors %s/export/%s.safetensors\n", dir,
           net_encoder_name(pair, NET_VIDEO), dir, net_encoder_name(pair, NET_AUDIO));
    return 0;
}

static int run_locked(struct run *r, int argc, char **argv)
{
    struct err e = {0};
    struct manifest *m = NULL;
    if (manifest_open(r->d.conf.data.manifest, &m, &e) < 0)
        return cli_fail("run", &e);
    uint64_t run = conf_identity(&r->d.conf, manifest_identity(m));
    manifest_close(m);
    if (is_finished(&r->d.conf, run)) {
        printf("the run in %s is finished; more rounds: --set train.rounds=N\n", r->d.conf.run.dir);
        return conclude(r);
    }
    char **args = child_args(argc, argv);
    int rc =
        args ? daemon_status_path(&r->d.conf, "trainer-0", r->trainer_socket, sizeof r->trainer_socket, &e)
             : err_sys(&e, ENOMEM, "arguments");
    if (rc == 0)
        rc = supervise(r, args, &e);
    free(args);
    return rc < 0 ? cli_fail("run", &e) : conclude(r);
}

int cli_run(int argc, char **argv)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r)
        return 70;
    int status = daemon_begin(&r->d, "xdc run", help, argc, argv);
    if (status >= 0) {
        free(r);
        return status;
    }
    run_view_init(&r->view, stderr);
    char path[PATH_MAX];
    struct err e = {0};
    int lock = -1;
    pid_t owner = 0;
    int rc = fs_mkdirs(r->d.conf.run.dir, &e);
    if (rc == 0)
        rc = fs_path(path, &e, "%s/run.lock", r->d.conf.run.dir);
    if (rc == 0)
        rc = fs_lock(path, &lock, &owner, &e);
    if (rc == XDC_ELOCKED)
        rc = err_set(&e, XDC_ELOCKED, "a live xdc run (pid %d) owns %s; xdc status %s shows it", (int)owner,
                     r->d.conf.run.dir, r->d.conf.run.dir);
    status = rc < 0 ? cli_fail("run", &e) : run_locked(r, argc, argv);
    if (lock >= 0)
        close(lock);
    free(r);
    return status;
}
