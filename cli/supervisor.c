#include "cli/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/cpus.h"
#include "lib/fsutil.h"
#include "lib/progress.h"

#define SPINS "10000"  /* about 0.2 ms */
#define GRACE_MS 10000 /* from the first SIGTERM to SIGKILL */
#define RESTART_MS 200
#define QUIET_END_MS \
    3000 /* a decoder that ended with 0 has heard of the end of the run: the trainer ends soon too */
#define FAREWELL_MS 1500 /* decoders and clusterer hear from the trainer that the run is finished */

static void note(struct supervisor *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void note(struct supervisor *s, const char *fmt, ...)
{
    char text[1400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->on_note(s->arg, text);
}

static void signal_all(struct supervisor *s, int sig, bool trainers)
{
    for (int i = 0; i < s->n; i++)
        if (s->children[i].running && (trainers || s->children[i].kind != CHILD_TRAINER))
            uv_process_kill(&s->children[i].process, sig);
}

static bool any_running(const struct supervisor *s, bool trainers_only)
{
    for (int i = 0; i < s->n; i++)
        if (s->children[i].running && (!trainers_only || s->children[i].kind == CHILD_TRAINER))
            return true;
    return false;
}

static void on_deadline(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;
    if (s->finished) { /* who has not gone by itself is asked to */
        s->finished = false;
        signal_all(s, SIGTERM, true);
        uv_timer_start(&s->deadline, on_deadline, GRACE_MS, 0);
        return;
    }
    signal_all(s, SIGKILL, true);
}

/* The last line of a child's log: what it said when it gave up. */
static void last_line(const char *path, char *out, size_t size)
{
    char *text = NULL;
    size_t n = 0;
    struct err e;
    out[0] = '\0';
    if (fs_read(path, (size_t)1 << 30, &text, &n, &e) < 0)
        return;
    while (n && text[n - 1] == '\n')
        text[--n] = '\0';
    const char *line = n ? memrchr(text, '\n', n) : NULL;
    snprintf(out, size, "%s", line ? line + 1 : text);
    free(text);
}

static void say_why(struct supervisor *s, const struct child *c)
{
    char line[1024];
    last_line(c->log, line, sizeof line);
    snprintf(s->reason, sizeof s->reason, "%s ended with status %d: %s", c->name, c->status, line);
    s->status = c->status > 128 ? 70 : c->status;
}

/* Ends the run because of a child that cannot go on. */
static void give_up(struct supervisor *s, struct child *c)
{
    say_why(s, c);
    s->stopping = true;
    signal_all(s, SIGTERM, true);
    uv_timer_start(&s->deadline, on_deadline, GRACE_MS, 0);
}

static int spawn(struct child *c);

static void on_again(uv_timer_t *timer)
{
    struct child *c = timer->data;
    if (!c->s->stopping && spawn(c) < 0)
        give_up(c->s, c);
}

static void restart(struct child *c)
{
    double now = progress_now_s();
    if (now - c->window_start_s > SUPERVISOR_WINDOW_S) {
        c->window_start_s = now;
        c->restarts = 0;
    }
    if (++c->restarts > SUPERVISOR_RESTARTS) {
        give_up(c->s, c);
        return;
    }
    if (c->status == 0) {
        uv_timer_start(&c->again, on_again, QUIET_END_MS, 0);
        return;
    }
    if (c->status > 128)
        note(c->s, "%s was ended by signal %d (%s): starting it again", c->name, c->status - 128,
             strsignal(c->status - 128));
    else
        note(c->s, "%s ended with status %d: starting it again", c->name, c->status);
    uv_timer_start(&c->again, on_again, RESTART_MS, 0);
}

/* Statuses that another start would only repeat: usage, data, input, I/O (a full disk), permission,
 * configuration. */
static bool is_final(int status)
{
    return status == 64 || status == 65 || status == 66 || status == 73 || status == 74 || status == 77 ||
           status == 78 || status == 127;
}

static void on_process_closed(uv_handle_t *h)
{
    struct child *c = h->data;
    struct supervisor *s = c->s;
    c->running = false;
    if (s->stopping) {
        if (s->asked && c->kind == CHILD_TRAINER && c->status != 0 && c->status != 75)
            say_why(s, c); /* it could not write the checkpoint, say on a full disk */
        if (!any_running(s, true) && !s->finished)
            signal_all(s, SIGTERM, true);
        if (!any_running(s, false))
            uv_stop(s->loop);
        return;
    }
    if (c->kind == CHILD_TRAINER && c->status == 0) {
        s->stopping = s->finished = true;
        uv_timer_start(&s->deadline, on_deadline, FAREWELL_MS, 0);
    } else if (is_final(c->status)) {
        give_up(s, c);
    } else {
        restart(c);
    }
    if (s->stopping && !any_running(s, false))
        uv_stop(s->loop);
}

static void on_process_exit(uv_process_t *p, int64_t status, int sig)
{
    struct child *c = p->data;
    c->status = sig ? 128 + sig : (int)status;
    uv_close((uv_handle_t *)p, on_process_closed);
}

static char **child_argv(struct child *c, char program[PATH_MAX], char index[16])
{
    static const char *const programs[] = {"xdc-clusterer", "xdc-trainer", "xdc-decoder"};
    struct supervisor *s = c->s;
    int n = 0;
    while (s->args[n])
        n++;
    char **argv = calloc((size_t)n + 4, sizeof *argv);
    if (!argv || fs_path(program, NULL, "%s/%s", s->bin_dir, programs[c->kind]) < 0) {
        free(argv);
        return NULL;
    }
    argv[0] = program;
    memcpy(argv + 1, s->args, (size_t)n * sizeof *argv);
    snprintf(index, 16, "%d", c->index);
    if (c->kind != CHILD_CLUSTERER) {
        argv[n + 1] = (char *)(c->kind == CHILD_TRAINER ? "--rank" : "--index");
        argv[n + 2] = index;
    }
    return argv;
}

static int spawn(struct child *c)
{
    char program[PATH_MAX], index[16];
    char **argv = child_argv(c, program, index);
    int log = open(c->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    int rc = argv && log >= 0 ? 0 : -errno;
    if (rc == 0) {
        uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE},
                                         {.flags = UV_INHERIT_FD, .data.fd = log},
                                         {.flags = UV_INHERIT_FD, .data.fd = log}};
        uv_process_options_t o = {.exit_cb = on_process_exit,
                                  .file = program,
                                  .args = argv,
                                  .flags = UV_PROCESS_DETACHED, /* Ctrl-C is the supervisor's to pass on */
                                  .stdio_count = 3,
                                  .stdio = stdio};
        c->process.data = c;
        rc = uv_spawn(c->s->loop, &c->process, &o);
        c->running = rc == 0;
        c->status = rc == 0 ? 0 : 127;
        if (rc < 0)
            uv_close((uv_handle_t *)&c->process, NULL);
    }
    if (log >= 0)
        close(log);
    free(argv);
    return rc;
}

static int add(struct supervisor *s, enum child_kind kind, int index, struct err *e)
{
    struct child *c = &s->children[s->n];
    *c = (struct child){.s = s, .kind = kind, .index = index, .window_start_s = progress_now_s()};
    if (kind == CHILD_CLUSTERER)
        snprintf(c->name, sizeof c->name, "clusterer");
    else
        snprintf(c->name, sizeof c->name, "%s-%d", kind == CHILD_TRAINER ? "trainer" : "decoder", index);
    int rc = fs_path(c->log, e, "%s/logs/%s.log", s->run_dir, c->name);
    if (rc < 0)
        return rc;
    uv_timer_init(s->loop, &c->again);
    c->again.data = c;
    s->n++;
    rc = spawn(c);
    return rc < 0 ? err_set(e, rc, "start %s/xdc-...: %s", s->bin_dir, uv_strerror(rc)) : 0;
}

static int find_bin_dir(char out[PATH_MAX], struct err *e)
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n < 0)
        return err_sys(e, errno, "/proc/self/exe");
    out[n] = '\0';
    *strrchr(out, '/') = '\0';
    return 0;
}

int supervisor_start(struct supervisor *s, uv_loop_t *loop, const struct conf *c, char **args,
                     void (*on_note)(void *arg, const char *text), void *arg, struct err *e)
{
    *s = (struct supervisor){
        .loop = loop, .run_dir = c->run.dir, .args = args, .on_note = on_note, .arg = arg};
    char pid[16], threads[16], dir[PATH_MAX];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("XDC_SUPERVISOR_PID", pid, 1);
    /* libgomp reads it when the trainer is loaded: how long a thread spins at a barrier before it sleeps. */
    if (!getenv("OMP_WAIT_POLICY"))
        setenv("GOMP_SPINCOUNT", SPINS, 0);
    if (c->run.ranks > 1) { /* they share the cores, as under torchrun */
        unsigned cores = cpus_cores() / (unsigned)c->run.ranks;
        snprintf(threads, sizeof threads, "%u", cores ? cores : 1);
        setenv("OMP_NUM_THREADS", threads, 0);
    }
    uv_timer_init(loop, &s->deadline);
    s->deadline.data = s;
    s->children = calloc((size_t)(1 + c->run.ranks + c->run.decoders), sizeof *s->children);
    int rc = s->children ? find_bin_dir(s->bin_dir, e) : err_sys(e, ENOMEM, "children");
    if (rc == 0)
        rc = fs_path(dir, e, "%s/logs", c->run.dir);
    if (rc == 0)
        rc = fs_mkdirs(dir, e);
    if (rc == 0 && c->run.clusterer && c->train.rounds > 0)
        rc = add(s, CHILD_CLUSTERER, 0, e);
    for (int i = 0; rc == 0 && i < c->run.ranks; i++)
        rc = add(s, CHILD_TRAINER, i, e);
    for (int i = 0; rc == 0 && i < c->run.decoders; i++)
        rc = add(s, CHILD_DECODER, i, e);
    return rc;
}

void supervisor_stop(struct supervisor *s)
{
    if (s->finished) { /* nothing is left to do but to go */
        on_deadline(&s->deadline);
        return;
    }
    if (s->stopping) {
        if (s->asked) /* else the reason is that of give_up */
            snprintf(s->reason, sizeof s->reason,
                     "stopped at once; the same command goes on from the last checkpoint");
        s->asked = false;
        signal_all(s, SIGKILL, true);
        return;
    }
    s->stopping = s->asked = true;
    s->status = 75;
    snprintf(s->reason, sizeof s->reason, "stopped; the same command goes on");
    if (any_running(s, true)) { /* the decoders live until the trainer has drained */
        for (int i = 0; i < s->n; i++)
            if (s->children[i].running && s->children[i].kind == CHILD_TRAINER)
                uv_process_kill(&s->children[i].process, SIGTERM);
    } else {
        signal_all(s, SIGTERM, true);
    }
    uv_timer_start(&s->deadline, on_deadline, 3 * GRACE_MS, 0);
    if (!any_running(s, false))
        uv_stop(s->loop);
}

void supervisor_close(struct supervisor *s)
{
    if (!s->loop)
        return;
    uv_close((uv_handle_t *)&s->deadline, NULL);
    for (int i = 0; i < s->n; i++)
        uv_close((uv_handle_t *)&s->children[i].again, NULL);
    uv_run(s->loop, UV_RUN_NOWAIT);
    free(s->children);
    s->children = NULL;
}
