#include "services/clusterer/clusterer.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/daemon.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "lib/manifest.h"
#include "lib/progress.h"
#include "services/clusterer/leftovers.h"

/* A full disk or a passing fault is tried again after this. */
#define RETRY_S 5.0
/* How long a job may take to notice that it is to stop. */
#define STOP_MS 700

double clusterer_done(const struct clusterer *c)
{
    uint64_t total = c->working ? atomic_load(&c->job.row_passes_total) : 0;
    double done = total ? (double)atomic_load(&c->job.row_passes) / (double)total : 0;
    return done < 1 ? done : 1;
}

/* What another look at the same dump could mend: space, memory, files of others. What the dump itself is
 * wrong in waits for another dump. */
static bool worth_retrying(int code)
{
    return code != XDC_EMISMATCH && code != XDC_EFORMAT;
}

static void set_failed(struct clusterer *c, struct round_entry *entry, const struct err *e)
{
    bool known = strncmp(entry->detail, e->msg, sizeof entry->detail - 1) == 0;
    entry->state = ROUND_FAILED;
    entry->code = e->code;
    entry->retry_s = worth_retrying(e->code) ? progress_now_s() + RETRY_S : INFINITY;
    snprintf(entry->detail, sizeof entry->detail, "%.*s", (int)sizeof entry->detail - 1, e->msg);
    if (!known)
        log_error("round %u: %s%s", entry->round, e->msg,
                  worth_retrying(e->code) ? "; it is tried again every few seconds" : "");
    labels_out_publish(&c->labels, entry);
}

static double figure(const json_t *source, const char *key)
{
    const json_t *v = json_object_get(source, key);
    return v ? json_number_value(v) : NAN;
}

/* "-" where there was nothing to compare with. */
static const char *ami_text(const json_t *source, const char *key, char out[16])
{
    double v = figure(source, key);
    if (isnan(v))
        return "-";
    snprintf(out, 16, "%.3f", v);
    return out;
}

/* What is told of the last table, but for arrays that are as long as there are clusters. Takes `quality`. */
static void keep_last(struct clusterer *c, json_t *quality)
{
    json_decref(c->last);
    c->last = quality;
    json_object_del(c->last, "alignment");
}

/* One line for all heads of selavi. */
static void log_heads(const struct clusterer *c, const char *best)
{
    json_t *sources = json_object_get(c->last, "sources"), *s;
    unsigned unfinished = 0;
    char truth[16];
    const char *name;
    json_object_foreach(sources, name, s) unfinished += json_is_false(json_object_get(s, "converged"));
    log_info("round %u: %zu heads, of which %s has the lowest cost, %.6g; %u ran out of iterations; mean AMI "
             "truth %s",
             c->job.round, json_object_size(sources), best, figure(json_object_get(sources, best), "cost"),
             unfinished, ami_text(json_object_get(c->last, "mean"), "ami_truth", truth));
}

static void log_table(const struct clusterer *c)
{
    json_t *best = json_object_get(c->last, "best_head");
    if (best) {
        log_heads(c, json_string_value(best));
        return;
    }
    const char *name;
    json_t *s;
    char previous[16], other[16], truth[16];
    json_object_foreach(json_object_get(c->last, "sources"), name, s)
    {
        if (!json_object_get(s, "objective")) {
            log_info("round %u, %s: %.0f labels as they were given; AMI other modality %s, truth %s",
                     c->job.round, name, figure(s, "n"), ami_text(s, "ami_other", other),
                     ami_text(s, "ami_truth", truth));
            continue;
        }
        log_info("round %u, %s: k %.0f over %.0f clips, objective %.6g after %.0f iterations; AMI previous "
                 "%s, other "
                 "modality %s, truth %s",
                 c->job.round, name, figure(s, "k"), figure(s, "n"), figure(s, "objective"),
                 figure(s, "iterations"), ami_text(s, "ami_previous", previous),
                 ami_text(s, "ami_other", other), ami_text(s, "ami_truth", truth));
    }
}

static void on_work(uv_work_t *work)
{
    struct clusterer *c = work->data;
    cluster_job_run(&c->job);
}

static void say_lost_device(struct clusterer *c)
{
    if (!c->device || nearest_device_on(c->device) || c->device_said)
        return;
    c->device_said = true;
    log_warn("%s failed and is used no more: %s; distances are computed on the CPU until the next start",
             c->device->name, c->device->why.msg);
}

static void on_worked(uv_work_t *work, int status)
{
    struct clusterer *c = work->data;
    struct round_entry *entry = rounds_find(&c->rounds, c->job.round);
    c->working = false;
    say_lost_device(c);
    if (c->stopping || status < 0) {
        uv_stop(&c->loop);
    } else if (entry && c->job.result) {
        set_failed(c, entry, &c->job.err);
    } else if (entry) {
        entry->state = ROUND_READY;
        entry->detail[0] = '\0';
        entry->features = c->job.features;
        entry->table = c->job.table;
        keep_last(c, json_incref(c->job.quality));
        c->tables++;
        log_table(c);
        labels_out_publish(&c->labels, entry);
        features_pull_clean(&c->features.pull, entry->round);
    }
    cluster_job_close(&c->job);
    clusterer_look(c);
}

static void start_job(struct clusterer *c, struct round_entry *entry)
{
    c->job = (struct cluster_job){.conf = &c->conf,
                                  .run = c->run,
                                  .manifest = c->manifest,
                                  .round = entry->round,
                                  .stop = &c->stop,
                                  .device = c->device};
    c->work.data = c;
    c->job_start_s = progress_now_s();
    c->working = uv_queue_work(&c->loop, &c->work, on_work, on_worked) == 0;
    if (c->working && entry->detail[0] == '\0')
        log_info("round %u: clustering", entry->round);
}

static bool table_is_there(const struct clusterer *c, uint32_t round)
{
    char path[PATH_MAX];
    return fs_path(path, NULL, "%s/labels/round-%04u.xdcl", c->conf.run.dir, round) == 0 &&
           access(path, R_OK) == 0;
}

/* Opens a dump that is new, changed, or worth another try: its table is there, or a job begins. */
static void examine(struct clusterer *c, struct round_entry *entry)
{
    struct feature_dump *dump;
    struct err e = {0};
    json_t *quality = NULL;
    entry->features = 0;
    int rc = cluster_dump_open(&c->conf, entry->round, c->run, c->manifest, &dump, &e);
    if (rc == -ENOENT) {
        entry->state = ROUND_WAITING;
        log_debug("round %u: %s", entry->round, e.msg);
        return;
    }
    if (rc) {
        set_failed(c, entry, &e);
        return;
    }
    struct feature_info info = *feature_dump_info(dump);
    feature_dump_close(dump); /* before the job opens it: LMDB allows one open a process */
    entry->features = info.hash;
    if (cluster_table_find(&c->conf, &info, &entry->table, &quality) == 0) {
        entry->state = ROUND_READY;
        keep_last(c, quality);
        labels_out_publish(&c->labels, entry);
        return;
    }
    if (table_is_there(c, entry->round))
        log_warn("labels/round-%04u.xdcl is unsound, or of another run, manifest or dump: it is made again",
                 entry->round);
    start_job(c, entry);
    if (c->working)
        entry->state = ROUND_WORKING;
}

static int compare_rounds(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return (a > b) - (a < b);
}

/* The rounds with a directory, ascending: a table measures itself against the one before. Returns their
 * number. */
static uint32_t list_rounds(const struct clusterer *c, uint32_t **out)
{
    char path[PATH_MAX];
    uint32_t n = 0, room = 0, *list = NULL;
    DIR *dir = fs_path(path, NULL, "%s/features", c->conf.run.dir) == 0 ? opendir(path) : NULL;
    for (struct dirent *d; dir && (d = readdir(dir));) {
        unsigned round;
        char name[32];
        if (sscanf(d->d_name, "round-%u", &round) != 1)
            continue;
        snprintf(name, sizeof name, "round-%04u", round);
        if (strcmp(name, d->d_name) != 0)
            continue;
        if (n == room) {
            room = room ? 2 * room : 16;
            uint32_t *more = realloc(list, room * sizeof *more);
            if (!more)
                break;
            list = more;
        }
        list[n++] = round;
    }
    if (dir)
        closedir(dir);
    if (n)
        qsort(list, n, sizeof *list, compare_rounds);
    *out = list;
    return n;
}

static void scan_round(struct clusterer *c, uint32_t round)
{
    char path[PATH_MAX];
    uint64_t mark;
    if (fs_path(path, NULL, "%s/features/round-%04u", c->conf.run.dir, round) ||
        feature_dump_mark(path, &mark))
        return; /* not sealed yet */
    struct round_entry *entry = rounds_find(&c->rounds, round);
    bool fresh = !entry || entry->mark != mark;
    if (!c->working) /* else it waits for its turn */
        entry = rounds_get(&c->rounds, round);
    if (!entry)
        return;
    entry->seen = true;
    if (c->working)
        return;
    if (!fresh && entry->state == ROUND_READY && table_is_there(c, round))
        return;
    if (!fresh && entry->state == ROUND_WAITING)
        return;
    if (!fresh && entry->state == ROUND_FAILED && progress_now_s() < entry->retry_s)
        return;
    if (fresh)
        entry->detail[0] = '\0';
    entry->mark = mark;
    examine(c, entry);
}

void clusterer_look(struct clusterer *c)
{
    if (!c->active || c->working || c->stopping)
        return;
    uint32_t *list;
    uint32_t n = list_rounds(c, &list);
    for (uint32_t i = 0; i < n; i++)
        scan_round(c, list[i]);
    free(list);
    rounds_drop_unseen(&c->rounds);
}

/* The status socket may still be another's: then it is taken when that one is gone. */
static void serve_status(struct clusterer *c)
{
    struct status_calls calls = {
        .daemon = "clusterer", .status = clusterer_status, .unhealthy = clusterer_unhealthy, .arg = c};
    char path[PATH_MAX];
    struct err e = {0};
    if (c->status)
        return;
    int rc = daemon_status_path(&c->conf, "clusterer", path, sizeof path, &e);
    if (rc == 0)
        rc = status_start(&c->loop, path, &calls, &c->status, &e);
    if (rc)
        log_debug("status: %s", e.msg);
}

/* Takes the lock, or stands by; with it the edges are opened. */
static int activate(struct clusterer *c, struct err *e)
{
    char path[PATH_MAX];
    pid_t owner;
    int rc = fs_path(path, e, "%s/clusterer.lock", c->conf.run.dir);
    if (rc == 0)
        rc = fs_lock(path, &c->lock_fd, &owner, e);
    if (rc == XDC_ELOCKED) {
        if (!c->standby_said)
            log_info("standing by: process %d clusters this run", (int)owner);
        c->standby_said = true;
        return 0;
    }
    if (rc == 0 && fs_path(path, NULL, "%s/labels", c->conf.run.dir) == 0)
        leftovers_remove(path);
    if (rc == 0)
        rc = labels_out_open(&c->labels, c, e);
    if (rc == 0)
        rc = features_in_open(&c->features, c, e);
    c->active = rc == 0;
    if (c->active)
        log_info("run %016" PRIx64 " in %s", c->run, c->conf.run.dir);
    return rc;
}

static void on_tick(uv_timer_t *timer)
{
    struct clusterer *c = timer->data;
    struct err e = {0};
    serve_status(c);
    if (!c->active && activate(c, &e)) {
        c->job.err = e;
        c->job.result = e.code;
        uv_stop(&c->loop);
        return;
    }
    clusterer_look(c);
}

/* From here on the clusterer's own directory is where dumps and tables are. */
static int choose_dir(struct clusterer *c, struct err *e)
{
    c->pulls = c->conf.cluster.dir[0] != '\0';
    if (c->pulls && (!c->conf.endpoints.features[0] || !c->conf.endpoints.labels[0]))
        return err_set(
            e, XDC_ECONF,
            "cluster.dir: a clusterer with a directory of its own is reached by endpoints alone: set "
            "endpoints.features and endpoints.labels");
    if (c->pulls)
        memcpy(c->conf.run.dir, c->conf.cluster.dir, sizeof c->conf.run.dir);
    return 0;
}

static int read_identities(struct clusterer *c, struct err *e)
{
    struct manifest *m;
    int rc = choose_dir(c, e);
    if (rc)
        return rc;
    rc = manifest_open(c->conf.data.manifest, &m, e);
    if (rc)
        return rc;
    c->manifest = manifest_identity(m);
    c->run = conf_identity(&c->conf, c->manifest);
    manifest_close(m);
    return fs_mkdirs(c->conf.run.dir, e);
}

int clusterer_open(struct clusterer *c, const struct conf *conf, struct nearest_device *device, struct err *e)
{
    *c = (struct clusterer){.conf = *conf, .lock_fd = -1, .device = device};
    int rc = read_identities(c, e);
    if (rc == 0)
        rc = wire_context_create(&c->wires, e);
    if (rc)
        return rc;
    rc = uv_loop_init(&c->loop);
    if (rc) {
        wire_context_destroy(c->wires);
        return err_set(e, rc, "open the event loop: %s", uv_strerror(rc));
    }
    uv_timer_init(&c->loop, &c->tick);
    uv_timer_init(&c->loop, &c->deadline);
    c->tick.data = c->deadline.data = c;
    uint64_t interval_ms = (uint64_t)(c->conf.cluster.interval_s * 1000);
    uv_timer_start(&c->tick, on_tick, 0, interval_ms ? interval_ms : 1);
    return 0;
}

static void on_deadline(uv_timer_t *timer)
{
    struct clusterer *c = timer->data;
    c->abandoned = c->working || features_pull_busy(&c->features.pull);
    uv_stop(&c->loop);
}

void clusterer_stop(void *clusterer)
{
    struct clusterer *c = clusterer;
    if (c->stopping)
        return;
    c->stopping = true;
    atomic_store(&c->stop, true);
    if (c->working || features_pull_busy(&c->features.pull))
        uv_timer_start(&c->deadline, on_deadline, STOP_MS, 0);
    else
        uv_stop(&c->loop);
}

int clusterer_run(struct clusterer *c, struct err *e)
{
    uv_run(&c->loop, UV_RUN_DEFAULT);
    if (c->stopping)
        return 0;
    *e = c->job.err;
    return c->job.result;
}

void clusterer_close(struct clusterer *c)
{
    if (c->abandoned)
        return;
    features_in_close(&c->features);
    labels_out_close(&c->labels);
    status_stop(c->status);
    uv_close((uv_handle_t *)&c->tick, NULL);
    uv_close((uv_handle_t *)&c->deadline, NULL);
    uv_run(&c->loop, UV_RUN_DEFAULT);
    features_pull_close(&c->features.pull);
    if (uv_loop_close(&c->loop))
        log_warn("a handle of the event loop was left open");
    wire_context_destroy(c->wires);
    rounds_close(&c->rounds);
    json_decref(c->last);
    if (c->lock_fd >= 0)
        close(c->lock_fd);
}
