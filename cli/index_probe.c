#include "cli/index_probe.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/media/child.h"
#include "lib/progress.h"

#define WALL_S 60.0 /* a file on a dead mount */
#define ATTEMPTS 2  /* workers that may die on a file */
#define POLL_MS 200

static const struct media_child_limits limits = {.cpu_s = 5, .memory_mib = 512, .slot_bytes = 4096};

struct prober {
    struct media_child child;
    bool busy;
    size_t file;
    unsigned failures;
    double since_s;
};

struct probing {
    struct index_files *files;
    struct prober *probers; /* owned */
    unsigned jobs;
    size_t next, done;
};

static int open_file(struct probing *p, struct index_file *f)
{
    struct err ignored;
    int fd = -1;
    if (media_open_uri(p->files->root, f->uri, &fd, &f->size_bytes, &ignored)) {
        f->reason = MEDIA_OPEN_FAILED;
        p->done++;
        return -1;
    }
    return fd;
}

/* Hands the prober's file to its worker, which is started when it does not run. The file is done when it
 * cannot be opened. */
static int send_file(struct probing *p, struct prober *r, struct err *e)
{
    struct index_file *f = &p->files->file[r->file];
    struct media_job job = {.kind = MEDIA_JOB_PROBE, .id = r->file, .video_stream = -1, .audio_stream = -1};
    int rc = 0, fd = open_file(p, f);
    r->busy = false;
    if (fd < 0)
        return 0;
    for (int attempt = 0; attempt < 2; attempt++) { /* a worker that died while idle is noticed here */
        if (!r->child.pid)
            rc = media_child_start(&r->child, &limits, e);
        if (!rc)
            rc = media_child_send(&r->child, &job, fd, e);
        if (!rc)
            break;
        media_child_stop(&r->child);
    }
    close(fd);
    r->busy = !rc;
    r->since_s = progress_now_s();
    return rc;
}

/* The next file that opens, if there is one. */
static int feed(struct probing *p, struct prober *r, struct err *e)
{
    while (!r->busy && p->next < p->files->count) {
        r->file = p->next++;
        r->failures = 0;
        int rc = send_file(p, r, e);
        if (rc)
            return rc;
    }
    return 0;
}

static void finish(struct probing *p, struct prober *r, const struct media_result *result)
{
    struct index_file *f = &p->files->file[r->file];
    f->reason = result->reason;
    if (!result->reason)
        f->probe = result->probe;
    r->busy = false;
    p->done++;
}

static int collect(struct probing *p, struct prober *r, struct err *e)
{
    struct media_result result = {0};
    struct err ignored;
    int rc = media_child_recv(&r->child, &result, &ignored);
    if (rc == -EAGAIN) {
        if (progress_now_s() - r->since_s < WALL_S)
            return 0;
        media_child_stop(&r->child);
        result.reason = MEDIA_DECODE_TIMEOUT;
    } else if (rc) {
        media_child_stop(&r->child);
        if (++r->failures < ATTEMPTS) {
            rc = send_file(p, r, e);
            return rc ? rc : feed(p, r, e);
        }
        if (!result.reason)
            result.reason = MEDIA_WORKER_DIED;
    }
    finish(p, r, &result);
    return feed(p, r, e);
}

static int wait_some(struct probing *p, struct pollfd *fds, struct err *e)
{
    for (unsigned i = 0; i < p->jobs; i++)
        fds[i] = (struct pollfd){.fd = p->probers[i].busy ? p->probers[i].child.fd : -1, .events = POLLIN};
    if (poll(fds, p->jobs, POLL_MS) < 0 && errno != EINTR)
        return err_sys(e, errno, "wait for media workers");
    return 0;
}

static int probe_loop(struct probing *p, struct pollfd *fds, const volatile sig_atomic_t *stop, struct err *e)
{
    struct progress progress;
    int rc = 0;
    progress_init(&progress, "probe", p->files->count);
    for (unsigned i = 0; i < p->jobs && !rc; i++)
        rc = feed(p, &p->probers[i], e);
    while (!rc && p->done < p->files->count) {
        rc = wait_some(p, fds, e);
        if (!rc && *stop)
            rc = err_set(e, XDC_ESTOPPED, "stopped after %zu of %zu files; nothing was written", p->done,
                         p->files->count);
        for (unsigned i = 0; i < p->jobs && !rc; i++)
            if (p->probers[i].busy)
                rc = collect(p, &p->probers[i], e);
        progress_set(&progress, p->done);
        progress_print(&progress, stderr, false);
    }
    progress_print(&progress, stderr, true);
    return rc;
}

int index_probe_all(struct index_files *f, unsigned jobs, const volatile sig_atomic_t *stop, struct err *e)
{
    if (jobs > f->count)
        jobs = (unsigned)f->count;
    struct probing p = {.files = f, .jobs = jobs};
    struct pollfd *fds = calloc(jobs, sizeof *fds);
    p.probers = calloc(jobs, sizeof *p.probers);
    int rc = fds && p.probers ? probe_loop(&p, fds, stop, e) : err_sys(e, ENOMEM, "%u media workers", jobs);
    for (unsigned i = 0; p.probers && i < jobs; i++)
        media_child_stop(&p.probers[i].child);
    free(p.probers);
    free(fds);
    return rc;
}
