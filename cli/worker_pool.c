#include "cli/worker_pool.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/progress.h"

#define ATTEMPTS 2 /* workers that may die on a file */
#define POLL_MS 200

struct pool_worker {
    struct media_child child;
    struct pool_task task;
    bool busy;
    unsigned deaths;
    double since_s;
};

struct pool {
    const struct pool_calls *calls;
    void *arg;
    const struct media_child_limits *limits;
    struct pool_worker *workers; /* owned */
    unsigned jobs, busy;
    bool drained; /* there is no next task */
};

static int send_task(struct pool *p, struct pool_worker *w, struct err *e)
{
    int rc = -EPIPE;
    for (int i = 0; i < 2 && rc == -EPIPE; i++) { /* a worker that died while idle is noticed here */
        rc = w->child.pid > 0 ? 0 : media_child_start(&w->child, p->limits, e);
        if (rc == 0)
            rc = media_child_send(&w->child, &w->task.job, w->task.file.fd, e);
    }
    w->since_s = progress_now_s();
    return rc;
}

static int feed(struct pool *p, struct pool_worker *w, struct err *e)
{
    w->task = (struct pool_task){.file.fd = -1};
    int rc = p->drained ? 0 : p->calls->next(p->arg, &w->task, e);
    p->drained |= rc == 0;
    if (rc <= 0)
        return rc;
    w->task.job.window = w->task.file.window;
    w->busy = true;
    w->deaths = 0;
    p->busy++;
    return send_task(p, w, e);
}

static int finish(struct pool *p, struct pool_worker *w, const struct media_result *r, struct err *e)
{
    int rc = p->calls->done(p->arg, &w->task, r, w->child.slot, e);
    close(w->task.file.fd);
    w->busy = false;
    p->busy--;
    return rc < 0 ? rc : feed(p, w, e);
}

static int collect(struct pool *p, struct pool_worker *w, struct err *e)
{
    struct media_result r = {0};
    int rc = media_child_recv(&w->child, &r, e);
    if (rc == 0)
        return finish(p, w, &r, e);
    if (rc == -EAGAIN) {
        if (progress_now_s() - w->since_s < w->task.wall_s)
            return 0;
        media_child_stop(&w->child);
        r.reason = MEDIA_DECODE_TIMEOUT;
        snprintf(r.detail, sizeof r.detail, "no answer in %.0f s", w->task.wall_s);
    } else if (rc != -EPIPE) {
        return rc;
    } else if (++w->deaths < ATTEMPTS && r.reason != MEDIA_DECODE_TIMEOUT) {
        return send_task(p, w, e);
    }
    r.probe.video_stream = r.probe.audio_stream = -1;
    return finish(p, w, &r, e);
}

static int wait_some(struct pool *p, struct pollfd *fds, struct err *e)
{
    for (unsigned i = 0; i < p->jobs; i++)
        fds[i] = (struct pollfd){.fd = p->workers[i].busy ? p->workers[i].child.fd : -1, .events = POLLIN};
    if (poll(fds, p->jobs, POLL_MS) < 0 && errno != EINTR)
        return err_sys(e, errno, "wait for media workers");
    return 0;
}

static int work(struct pool *p, struct pollfd *fds, const volatile sig_atomic_t *stop, struct err *e)
{
    int rc = 0;
    for (unsigned i = 0; i < p->jobs && rc == 0; i++)
        rc = feed(p, &p->workers[i], e);
    while (rc == 0 && p->busy > 0) {
        rc = wait_some(p, fds, e);
        if (rc == 0 && *stop)
            rc = err_set(e, XDC_ESTOPPED, "stopped");
        for (unsigned i = 0; i < p->jobs && rc == 0; i++)
            if (p->workers[i].busy)
                rc = collect(p, &p->workers[i], e);
        p->calls->tick(p->arg);
    }
    return rc;
}

int pool_run(const struct pool_calls *calls, void *arg, const struct media_child_limits *limits,
             unsigned jobs, const volatile sig_atomic_t *stop, struct err *e)
{
    struct pool p = {.calls = calls, .arg = arg, .limits = limits, .jobs = jobs};
    struct pollfd *fds = calloc(jobs, sizeof *fds);
    p.workers = calloc(jobs, sizeof *p.workers);
    int rc = fds && p.workers ? work(&p, fds, stop, e) : err_sys(e, ENOMEM, "%u media workers", jobs);
    for (unsigned i = 0; p.workers && i < jobs; i++) {
        media_child_stop(&p.workers[i].child);
        if (p.workers[i].busy)
            close(p.workers[i].task.file.fd);
    }
    free(p.workers);
    free(fds);
    return rc;
}
