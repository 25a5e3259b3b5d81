#include "cli/index_probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/worker_pool.h"
#include "lib/progress.h"

#define CPU_LEAST_S 5.0
#define BYTES_PER_CPU_S 50e6 /* files without an index of their own are read whole */
#define CPU_MOST_S 3600.0
#define WALL_LEAST_S 60.0
#define WALL_PER_CPU 4.0

static const struct media_child_limits limits = {.cpu_s = (uint32_t)CPU_LEAST_S,
                                                 .memory_mib = 512,
                                                 .slot_bytes =
                                                     MEDIA_KEYFRAMES_MAX * sizeof(struct media_keyframe)};

struct probing {
    struct index_files *files;
    struct index_partial *partial;
    size_t next;
    uint64_t total, done;
    struct progress progress;
};

static int settle(struct probing *p, struct index_file *f, const struct index_found *found,
                  const struct media_keyframe *keys, struct err *e)
{
    p->done++;
    return index_partial_add(p->partial, f->uri, found, keys, &f->at, e);
}

/* The next file that opens, if there is one. */
static int on_next(void *arg, struct pool_task *t, struct err *e)
{
    struct probing *p = arg;
    for (; p->next < p->files->count; p->next++) {
        struct index_file *f = &p->files->file[p->next];
        struct index_found none = {.reason = MEDIA_OPEN_FAILED,
                                   .probe = {.video_stream = -1, .audio_stream = -1}};
        if (f->at)
            continue;
        if (media_file_open(p->files->root, f->uri, &t->file, NULL) < 0) {
            int rc = settle(p, f, &none, NULL, e);
            if (rc < 0)
                return rc;
            continue;
        }
        double cpu_s = CPU_LEAST_S + (double)t->file.size / BYTES_PER_CPU_S;
        t->id = p->next++;
        t->job = (struct media_job){.kind = MEDIA_JOB_PROBE,
                                    .id = t->id,
                                    .video_stream = -1,
                                    .audio_stream = -1,
                                    .cpu_s = (uint32_t)(cpu_s < CPU_MOST_S ? cpu_s : CPU_MOST_S)};
        t->wall_s = WALL_LEAST_S + WALL_PER_CPU * t->job.cpu_s;
        return 1;
    }
    return 0;
}

static int on_done(void *arg, const struct pool_task *t, const struct media_result *r, const uint8_t *slot,
                   struct err *e)
{
    struct probing *p = arg;
    struct index_file *f = &p->files->file[t->id];
    struct index_found found;
    struct media_file now = t->file;
    int rc = media_file_again(&now, f->uri, e);
    if (rc < 0)
        return rc;
    memset(&found, 0, sizeof found);
    found.size_bytes = now.size;
    found.mtime_ns = now.mtime_ns;
    found.reason = r->reason;
    found.facts = r->facts;
    found.probe.video_stream = found.probe.audio_stream = -1;
    if (r->reason == 0) {
        found.probe = r->probe;
        found.keyframes = r->keyframes;
    }
    return settle(p, f, &found, (const struct media_keyframe *)(const void *)slot, e);
}

static void on_tick(void *arg)
{
    struct probing *p = arg;
    progress_set(&p->progress, p->done);
    progress_print(&p->progress, stderr, false);
}

int index_probe_all(struct index_files *f, struct index_partial *partial, unsigned jobs,
                    const volatile sig_atomic_t *stop, uint64_t *out_probed, struct err *e)
{
    static const struct pool_calls calls = {on_next, on_done, on_tick};
    struct probing p = {.files = f, .partial = partial};
    for (size_t i = 0; i < f->count; i++)
        p.total += f->file[i].at == 0;
    progress_init(&p.progress, "probe", p.total);
    if (jobs > p.total)
        jobs = (unsigned)p.total;
    int rc = p.total ? pool_run(&calls, &p, &limits, jobs, stop, e) : 0;
    progress_set(&p.progress, p.done);
    progress_print(&p.progress, stderr, true);
    if (rc == XDC_ESTOPPED)
        err_set(e, rc, "stopped after %zu of %zu files; the same command goes on from here",
                f->count - (size_t)(p.total - p.done), f->count);
    *out_probed = p.done;
    return rc;
}
