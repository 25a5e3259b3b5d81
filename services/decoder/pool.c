#include "services/decoder/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/media/sandbox.h"
#include "lib/progress.h"
#include "services/decoder/job.h"

#define WALL_S_DEFAULT 60
#define RESTART_PAUSE_S 1.0

static void dispatch(struct pool *p);

static void held_add(struct pool *p, struct lease *l)
{
    l->prev = p->tail;
    l->next = NULL;
    if (p->tail)
        p->tail->next = l;
    else
        p->head = l;
    p->tail = l;
    p->held++;
    p->queued++;
}

void pool_lease_done(struct pool *p, struct lease *l)
{
    if (l->state == LEASE_QUEUED)
        p->queued--;
    if (l->prev)
        l->prev->next = l->next;
    else
        p->head = l->next;
    if (l->next)
        l->next->prev = l->prev;
    else
        p->tail = l->prev;
    p->held--;
    lease_destroy(l);
}

static void set_state(struct pool *p, struct lease *l, enum lease_state state)
{
    if (l->state == LEASE_QUEUED)
        p->queued--;
    if (state == LEASE_QUEUED)
        p->queued++;
    l->state = state;
}

/* Counts and hands over; l->result or l->lost is set. */
static void answer(struct pool *p, struct lease *l)
{
    set_state(p, l, LEASE_ANSWERED);
    if (l->lost) {
        p->lost++;
    } else if (l->result.reason) {
        p->failed[l->result.reason < MEDIA_REASONS ? l->result.reason : MEDIA_DECODE_ERROR]++;
        log_debug("clip %llu of %s: %s: %s", (unsigned long long)l->key.clip, l->uri,
                  media_code_name(l->result.reason), l->result.detail);
    } else {
        p->decoded++;
    }
    p->options.on_answer(p->options.arg, l);
}

static void answer_lost(struct pool *p, struct lease *l)
{
    l->lost = true;
    l->worker = NULL;
    answer(p, l);
}

static void PRINTF_LIKE(4, 5)
    answer_reason(struct pool *p, struct lease *l, enum media_reason reason, const char *fmt, ...)
{
    va_list ap;
    l->worker = NULL;
    memset(&l->result, 0, sizeof l->result);
    l->result.reason = reason;
    va_start(ap, fmt);
    vsnprintf(l->result.detail, sizeof l->result.detail, fmt, ap);
    va_end(ap);
    answer(p, l);
}

static void on_poll_closed(uv_handle_t *h)
{
    free(h);
}

/* The handle goes before the descriptor does, or the loop would watch whatever gets the number next. */
static void unwatch(struct worker *w)
{
    if (!w->poll)
        return;
    uv_poll_stop(w->poll);
    uv_close((uv_handle_t *)w->poll, on_poll_closed);
    w->poll = NULL;
}

static void worker_stop(struct worker *w)
{
    unwatch(w);
    media_child_stop(&w->child);
    w->state = WORKER_DOWN;
}

static int worker_start(struct worker *w, uint64_t slot_bytes, struct err *e)
{
    struct media_child_limits limits = w->pool->options.limits;
    if (slot_bytes > limits.slot_bytes)
        limits.slot_bytes = slot_bytes;
    int rc = media_child_start(&w->child, &limits, e);
    if (rc)
        return rc;
    w->poll = calloc(1, sizeof *w->poll);
    if (!w->poll) {
        media_child_stop(&w->child);
        return err_sys(e, ENOMEM, "watch a media worker");
    }
    rc = uv_poll_init(w->pool->options.loop, w->poll, w->child.fd);
    if (rc) {
        free(w->poll);
        w->poll = NULL;
        media_child_stop(&w->child);
        return err_set(e, rc, "watch a media worker: %s", uv_strerror(rc));
    }
    w->poll->data = w;
    w->state = WORKER_IDLE;
    w->clips = 0;
    return 0;
}

/* A pause for the whole pool: that a worker does not start has one cause, the host. */
static void start_failed(struct pool *p, const struct err *e)
{
    if (!p->cannot_start)
        log_warn("cannot start a media worker: %s; trying again every second", e->msg);
    p->cannot_start = true;
    p->retry_at_s = progress_now_s() + RESTART_PAUSE_S;
    snprintf(p->start_error, sizeof p->start_error, "no media worker can be started: %.200s", e->msg);
}

/* Makes the worker ready for a slot of that size; one that has done enough clips is replaced. */
static int worker_ready(struct worker *w, uint64_t slot_bytes)
{
    struct err e = {0};
    uint64_t recycle = w->pool->options.recycle;
    bool old = w->state == WORKER_IDLE && recycle && w->clips >= recycle;
    w->pool->recycled += old;
    if (old || (w->state == WORKER_IDLE && w->child.slot_bytes < slot_bytes))
        worker_stop(w);
    if (w->state == WORKER_IDLE)
        return 0;
    int rc = worker_start(w, slot_bytes, &e);
    if (rc)
        start_failed(w->pool, &e);
    else
        w->pool->cannot_start = false;
    return rc;
}

/* The lease goes back to the queue, or the reason is its answer. */
static void retry(struct pool *p, struct lease *l, bool culprit, const struct media_result *result)
{
    l->worker = NULL;
    l->group = 0; /* from now on by itself */
    if (l->superseded) {
        p->superseded++;
        pool_lease_done(p, l);
        return;
    }
    if (!culprit || ++l->failures < p->options.attempts) {
        set_state(p, l, LEASE_QUEUED);
        return;
    }
    l->result = *result;
    if (!l->result.reason)
        l->result.reason = MEDIA_WORKER_DIED;
    l->result.video_bytes = l->result.audio_bytes = 0;
    answer(p, l);
}

/* The process has ended; its slot stays for as long as the network reads samples in it. */
static void job_ended(struct worker *w)
{
    w->n = w->answered = 0;
    unwatch(w);
    if (w->samples)
        w->state = WORKER_SENDING;
    else
        worker_stop(w);
}

/* The worker died: its leases that have no answer are tried again, each alone, or the reason is the answer.
 * One that never came up (-ENOEXEC) says nothing of the lease, and one that was ended for taking too long is
 * given back. */
static void worker_died(struct worker *w, int rc, const struct media_result *result, const struct err *e)
{
    struct pool *p = w->pool;
    struct lease *leases[MEDIA_CLIPS_MAX];
    unsigned n = w->n - w->answered;
    memcpy(leases, w->leases + w->answered, n * sizeof *leases);
    bool overdue = w->overdue, cut = w->child.job.kind == MEDIA_JOB_CUT;
    bool alone = w->n == 1 && !cut; /* of several clips any may be the one */
    w->overdue = false;
    p->workers_died++;
    job_ended(w);
    if (rc != -EPIPE)
        start_failed(p, e);
    for (unsigned i = 0; i < n; i++) {
        if (cut)
            clip_cache_drop(p->options.cache, leases[i]);
        if (overdue && !leases[i]->superseded)
            answer_lost(p, leases[i]);
        else
            retry(p, leases[i], alone && rc == -EPIPE, result);
    }
}

static void note_sandbox(struct worker *w)
{
    struct pool *p = w->pool;
    char missing[200];
    if (p->sandbox_known && p->sandbox == w->child.sandbox)
        return;
    p->sandbox = w->child.sandbox;
    p->sandbox_known = true;
    if (sandbox_missing(p->sandbox, missing, sizeof missing)[0])
        log_warn("the sandbox of the media workers is degraded: %s", missing);
}

/* One clip of the job has its answer. */
static void take_result(struct worker *w, const struct media_result *result)
{
    struct pool *p = w->pool;
    struct lease *l = w->leases[w->answered++];
    bool last = w->answered == w->n, bytes = result->video_bytes || result->audio_bytes;
    bool sample = !l->superseded && !result->reason && bytes, cut = w->child.job.kind == MEDIA_JOB_CUT;
    w->samples += sample;
    note_sandbox(w);
    if (!result->reason)
        clip_cache_put(p->options.cache, l, &w->child.job, result, w->child.slot);
    else if (cut)
        clip_cache_drop(p->options.cache, l);
    if (last) {
        w->n = w->answered = 0;
        w->state = w->samples ? WORKER_SENDING : WORKER_IDLE;
    } else {
        w->since_s = progress_now_s();
    }
    if (l->superseded) {
        p->superseded++;
        pool_lease_done(p, l);
        return;
    }
    if (cut && result->reason) {
        retry(p, l, false, result);
        return;
    }
    p->cut += cut;
    l->worker = sample ? w : NULL;
    l->result = *result;
    if (!sample)
        l->result.video_bytes = l->result.audio_bytes = 0;
    answer(p, l);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct worker *w = poll->data;
    struct pool *p = w->pool;
    (void)status;
    (void)events;
    uv_poll_stop(poll);
    while (w->state == WORKER_BUSY) {
        struct media_result result = {0};
        struct err e = {0};
        int rc = media_child_recv(&w->child, &result, &e);
        if (rc == -EAGAIN) {
            uv_poll_start(poll, UV_READABLE, on_readable);
            return;
        }
        if (rc)
            worker_died(w, rc, &result, &e);
        else
            take_result(w, &result);
    }
    if (w->state == WORKER_SENDING && p->options.on_sending)
        p->options.on_sending(p->options.arg);
    dispatch(p);
}

/* Opens the lease's file; false when the lease is answered. */
static bool lease_open(struct pool *p, struct lease *l, struct media_file *out)
{
    struct err e = {0};
    int rc = media_file_open(p->media_root, l->uri, out, &e);
    if (rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM) {
        answer_lost(p, l); /* the host's fault, not the file's */
        return false;
    }
    if (rc) {
        answer_reason(p, l, rc == XDC_EMISMATCH ? MEDIA_CHANGED_SINCE_INDEX : MEDIA_OPEN_FAILED, "%.190s",
                      e.msg);
        return false;
    }
    if (out->size != l->size_bytes) {
        close(out->fd);
        answer_reason(p, l, MEDIA_CHANGED_SINCE_INDEX, "%llu bytes, the manifest says %llu",
                      (unsigned long long)out->size, (unsigned long long)l->size_bytes);
        return false;
    }
    return true;
}

/* Sends the job, to a fresh worker where this one died while idle. */
static int send_job(struct worker *w, const struct job *job, int file, struct err *e)
{
    int rc = media_child_send(&w->child, &job->media, file, e);
    if (!rc)
        return 0;
    worker_stop(w);
    rc = worker_ready(w, job->bytes);
    return rc ? rc : media_child_send(&w->child, &job->media, file, e);
}

static void begin_job(struct worker *w, const struct job *job)
{
    for (unsigned i = 0; i < job->n; i++) {
        set_state(w->pool, job->leases[i], LEASE_RUNNING);
        job->leases[i]->worker = w;
        w->leases[i] = job->leases[i];
    }
    w->n = job->n;
    w->answered = w->samples = 0;
    w->clips += job->n;
    w->state = WORKER_BUSY;
    w->since_s = progress_now_s();
    uv_poll_start(w->poll, UV_READABLE, on_readable);
}

/* Gives the lease, and its group, to the worker. 0 when the lease has left the queue, else no worker could be
 * had. */
static int hand_over(struct worker *w, struct lease *l)
{
    struct pool *p = w->pool;
    struct job job;
    struct media_file file = {.fd = -1};
    struct err e = {0};
    uint64_t part = media_slot_bytes(&l->recipe);
    if (part > JOB_SLOT_MAX) {
        answer_reason(p, l, MEDIA_BAD_DIMENSIONS, "a sample of %llu bytes is larger than any slot",
                      (unsigned long long)part);
        return 0;
    }
    job_make(p->options.cache, l, &job);
    int rc = worker_ready(w, job.bytes);
    if (rc)
        return rc;
    if (job.fd < 0 && !lease_open(p, l, &file))
        return 0;
    job.media.window = file.window;
    rc = send_job(w, &job, job.fd < 0 ? file.fd : job.fd, &e);
    if (file.fd >= 0)
        close(file.fd);
    if (rc) {
        worker_stop(w);
        start_failed(p, &e);
        return rc;
    }
    begin_job(w, &job);
    return 0;
}

static struct worker *free_worker(struct pool *p)
{
    struct worker *down = NULL;
    for (unsigned i = 0; i < p->options.workers; i++) {
        if (p->workers[i].state == WORKER_IDLE)
            return &p->workers[i];
        if (p->workers[i].state == WORKER_DOWN && !down)
            down = &p->workers[i];
    }
    return down;
}

static struct lease *first_queued(struct pool *p)
{
    for (struct lease *l = p->head; l; l = l->next)
        if (l->state == LEASE_QUEUED)
            return l;
    return NULL;
}

/* Leases to workers until one of them runs out. An answer may come back in here by pool_worker_free: not
 * entered twice. */
static void dispatch(struct pool *p)
{
    if (p->dispatching || p->stopping)
        return;
    p->dispatching = true;
    while (p->queued) {
        struct worker *w = free_worker(p);
        if (!w || (w->state == WORKER_DOWN && p->cannot_start && progress_now_s() < p->retry_at_s))
            break;
        if (hand_over(w, first_queued(p)))
            break;
    }
    p->dispatching = false;
}

int pool_init(struct pool *p, const struct pool_options *o, struct err *e)
{
    memset(p, 0, sizeof *p);
    p->options = *o;
    if (!p->options.wall_s)
        p->options.wall_s = WALL_S_DEFAULT;
    p->slots = o->slots ? o->slots : o->workers * 2;
    p->slots = p->slots < POOL_SLOTS_MAX ? p->slots : POOL_SLOTS_MAX;
    p->media_root = strdup(o->media_root ? o->media_root : "");
    p->workers = calloc(o->workers, sizeof *p->workers);
    if (!p->media_root || !p->workers) {
        free(p->media_root);
        free(p->workers);
        return err_sys(e, ENOMEM, "pool of %u workers", o->workers);
    }
    p->options.media_root = p->media_root;
    for (unsigned i = 0; i < o->workers; i++) {
        p->workers[i].pool = p;
        if (!p->cannot_start)
            (void)worker_ready(&p->workers[i], 0);
    }
    return 0;
}

static struct lease *find(const struct pool *p, const struct lease *like)
{
    for (struct lease *l = p->head; l; l = l->next)
        if (l->link == like->link && !l->superseded && lease_key_equal(&l->key, &like->key))
            return l;
    return NULL;
}

static unsigned live(const struct pool *p)
{
    unsigned n = 0;
    for (const struct lease *l = p->head; l; l = l->next)
        n += !l->superseded;
    return n;
}

void pool_add(struct pool *p, struct lease *const *leases, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (find(p, leases[i])) {
            lease_destroy(leases[i]);
            continue;
        }
        /* What a superseded lease still occupies is no fault of the trainer that grants now. */
        bool full = live(p) >= p->slots;
        held_add(p, leases[i]);
        if (full || p->stopping)
            answer_lost(p, leases[i]);
    }
    dispatch(p);
}

void pool_supersede(struct pool *p, unsigned link, uint64_t incarnation, uint32_t phase)
{
    struct lease *next;
    for (struct lease *l = p->head; l; l = next) {
        next = l->next;
        if (l->link != link || (l->key.incarnation == incarnation && l->key.phase == phase))
            continue;
        l->superseded = true;
        if (l->state == LEASE_QUEUED) {
            p->superseded++;
            pool_lease_done(p, l);
        }
    }
}

void pool_worker_free(struct worker *w)
{
    struct pool *p = w->pool;
    if (w->state != WORKER_SENDING)
        return;
    w->samples = 0;
    w->state = WORKER_IDLE;
    if (w->child.pid <= 0)
        worker_stop(w);
    dispatch(p);
}

void pool_tick(struct pool *p)
{
    double now = progress_now_s();
    for (unsigned i = 0; i < p->options.workers; i++) {
        struct worker *w = &p->workers[i];
        if (w->state != WORKER_BUSY || w->overdue || now - w->since_s < p->options.wall_s)
            continue;
        struct lease *l = w->leases[w->answered];
        log_warn("clip %llu of %s: no answer within %u s: given back", (unsigned long long)l->key.clip,
                 l->uri, p->options.wall_s);
        w->overdue = true;
        kill(w->child.pid, SIGKILL); /* its end is read from its socket */
    }
    if (p->cannot_start && !p->stopping && now >= p->retry_at_s) {
        struct worker *w = free_worker(p);
        if (w && !worker_ready(w, 0))
            log_info("media workers can be started again");
    }
    dispatch(p);
}

unsigned pool_held(const struct pool *p, unsigned link, struct lease_key out[POOL_SLOTS_MAX])
{
    unsigned n = 0;
    for (const struct lease *l = p->head; l && n < POOL_SLOTS_MAX; l = l->next)
        if (l->link == link && !l->superseded)
            out[n++] = l->key;
    return n;
}

unsigned pool_running(const struct pool *p)
{
    unsigned n = 0;
    for (unsigned i = 0; i < p->options.workers; i++)
        n += p->workers[i].state != WORKER_DOWN;
    return n;
}

static struct lease *first_unanswered(struct pool *p)
{
    for (struct lease *l = p->head; l; l = l->next)
        if (l->state != LEASE_ANSWERED)
            return l;
    return NULL;
}

void pool_stop(struct pool *p)
{
    p->stopping = true;
    for (unsigned i = 0; i < p->options.workers; i++) {
        struct worker *w = &p->workers[i];
        if (w->state == WORKER_BUSY && w->samples) {
            kill(w->child.pid, SIGKILL);
            job_ended(w);
        } else if (w->state != WORKER_SENDING) {
            worker_stop(w);
        }
        w->n = w->answered = 0;
    }
    /* An answer may free any answered lease, so the list is read anew each time. */
    for (struct lease *l; (l = first_unanswered(p));) {
        if (l->superseded)
            pool_lease_done(p, l);
        else
            answer_lost(p, l);
    }
}

void pool_close(struct pool *p)
{
    for (unsigned i = 0; p->workers && i < p->options.workers; i++)
        worker_stop(&p->workers[i]);
    while (p->head)
        pool_lease_done(p, p->head);
    free(p->workers);
    free(p->media_root);
    p->workers = NULL;
    p->media_root = NULL;
}
