#include "services/trainer/dump_writer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "lib/progress.h"

enum { NOTE = UINT32_MAX, BURST = 64 };
#define LOOK_S 0.1 /* how often a wait looks whether it is to stop */

/* In the queue: a row of an encoder with its values behind it, or a note. */
struct item {
    uint64_t row;
    uint32_t encoder, reason; /* encoder: or NOTE */
};

struct dump_writer {
    struct feature_store *store; /* owned; the writer's thread */
    struct dump_writer_options o;
    size_t stride, slots; /* bytes of an item; items of the ring */
    char *ring;           /* owned; items [head, tail) are the writer's, the others the caller's */
    double waited_s;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock: */
    uint64_t head, tail;
    bool closing, seal, paused, ended;
    uint64_t hash;
    int result;
    struct err err;
};

static struct item *item_at(const struct dump_writer *w, uint64_t i)
{
    return (struct item *)(void *)(w->ring + i % w->slots * w->stride);
}

/* Under the lock: until something has changed, or for so long. */
static void wait_s(struct dump_writer *w, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    double nsec = (double)until.tv_nsec + seconds * 1e9;
    until.tv_sec += (time_t)(nsec / 1e9);
    until.tv_nsec = (long)(nsec - (double)(time_t)(nsec / 1e9) * 1e9);
    pthread_cond_timedwait(&w->changed, &w->lock, &until);
}

static void set_paused(struct dump_writer *w, const char *why)
{
    pthread_mutex_lock(&w->lock);
    bool news = w->paused != (why != NULL);
    w->paused = why != NULL;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (news)
        w->o.on_pause(w->o.arg, why);
}

/* After a call that found no room: false when it is not to be made again. */
static bool wait_for_room(struct dump_writer *w, const struct err *why)
{
    set_paused(w, why->msg);
    double until_s = progress_now_s() + w->o.retry_s;
    pthread_mutex_lock(&w->lock);
    while (!w->closing && !atomic_load(w->o.stop) && progress_now_s() < until_s)
        wait_s(w, LOOK_S);
    bool again = !w->closing && !atomic_load(w->o.stop);
    pthread_mutex_unlock(&w->lock);
    return again;
}

static int write_item(struct dump_writer *w, const struct item *item, struct err *e)
{
    int rc;
    do {
        if (item->encoder == NOTE)
            rc = feature_store_note(w->store, item->row, item->reason, e);
        else
            rc = feature_store_put(w->store, item->encoder, item->row,
                                   (const float *)(const void *)(item + 1), e);
    } while (rc == -ENOSPC && wait_for_room(w, e));
    if (w->paused && rc != -ENOSPC)
        set_paused(w, NULL);
    return rc;
}

static int write_items(struct dump_writer *w, uint64_t from, uint64_t to, struct err *e)
{
    int rc = 0;
    for (uint64_t i = from; rc == 0 && i < to; i++)
        rc = write_item(w, item_at(w, i), e);
    return rc;
}

static int seal(struct dump_writer *w, uint64_t *out_hash, struct err *e)
{
    int rc;
    do
        rc = feature_store_seal(w->store, out_hash, e);
    while (rc == -ENOSPC && wait_for_room(w, e));
    if (w->paused && rc != -ENOSPC)
        set_paused(w, NULL);
    return rc;
}

/* Until it is closed, or sealed: takes a burst of items at a time. */
static int work(struct dump_writer *w, uint64_t *out_hash, struct err *e)
{
    for (;;) {
        pthread_mutex_lock(&w->lock);
        while (w->head == w->tail && !w->closing && !w->seal)
            pthread_cond_wait(&w->changed, &w->lock);
        uint64_t from = w->head, to = w->tail - from > BURST ? from + BURST : w->tail;
        bool last = from == to, sealing = w->seal;
        pthread_mutex_unlock(&w->lock);
        if (last)
            return sealing ? seal(w, out_hash, e) : 0;
        int rc = write_items(w, from, to, e);
        if (rc < 0)
            return rc;
        pthread_mutex_lock(&w->lock);
        w->head = to;
        pthread_cond_broadcast(&w->changed);
        pthread_mutex_unlock(&w->lock);
    }
}

static void *thread_main(void *arg)
{
    struct dump_writer *w = arg;
    struct err err = {0};
    uint64_t hash = 0;
    int rc = work(w, &hash, &err);
    pthread_mutex_lock(&w->lock);
    w->result = rc;
    w->err = err;
    w->hash = hash;
    w->ended = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void destroy(struct dump_writer *w)
{
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    feature_store_close(w->store);
    free(w->ring);
    free(w);
}

int dump_writer_start(struct feature_store *store, const struct dump_writer_options *o,
                      struct dump_writer **out, struct err *e)
{
    const struct feature_info *info = feature_store_info(store);
    struct dump_writer *w = calloc(1, sizeof *w);
    if (!w) {
        feature_store_close(store);
        return err_sys(e, ENOMEM, "writer of the dump");
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    w->store = store;
    w->o = *o;
    for (uint32_t i = 0; i < info->encoders; i++) {
        size_t bytes = sizeof(struct item) + (info->encoder[i].dim + 1) / 2 * 2 * sizeof(float);
        w->stride = bytes > w->stride ? bytes : w->stride;
    }
    w->slots = o->queue_bytes / w->stride > 0 ? o->queue_bytes / w->stride : 1;
    w->ring = malloc(w->slots * w->stride);
    int rc = w->ring ? -pthread_create(&w->thread, NULL, thread_main, w) : -ENOMEM;
    if (rc < 0) {
        destroy(w);
        return err_sys(e, -rc, "writer of the dump");
    }
    *out = w;
    return 0;
}

/* Under the lock: the sentence of a thread that has ended. */
static int ended(const struct dump_writer *w, struct err *e)
{
    if (w->result == -ENOSPC && atomic_load(w->o.stop))
        return err_set(e, XDC_ESTOPPED, "stopped");
    if (w->result < 0)
        *e = w->err;
    return w->result;
}

/* A free item; writing it is the caller's alone until `tail` is raised. */
static int take_slot(struct dump_writer *w, struct item **out, struct err *e)
{
    int rc = 0;
    double since_s = 0;
    pthread_mutex_lock(&w->lock);
    while (!w->ended && w->tail - w->head == w->slots && rc == 0) {
        since_s = since_s > 0 ? since_s : progress_now_s();
        wait_s(w, LOOK_S);
        if (atomic_load(w->o.stop))
            rc = err_set(e, XDC_ESTOPPED, "stopped");
    }
    if (since_s > 0 && !w->paused)
        w->waited_s += progress_now_s() - since_s;
    if (w->ended)
        rc = ended(w, e);
    *out = item_at(w, w->tail);
    pthread_mutex_unlock(&w->lock);
    return rc;
}

static void give_slot(struct dump_writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->tail++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

int dump_writer_put(struct dump_writer *w, uint32_t encoder, uint64_t row, const float *values, struct err *e)
{
    struct item *item;
    int rc = take_slot(w, &item, e);
    if (rc < 0)
        return rc;
    *item = (struct item){.row = row, .encoder = encoder};
    memcpy(item + 1, values, feature_store_info(w->store)->encoder[encoder].dim * sizeof *values);
    give_slot(w);
    return 0;
}

int dump_writer_note(struct dump_writer *w, uint64_t row, uint32_t reason, struct err *e)
{
    struct item *item;
    int rc = take_slot(w, &item, e);
    if (rc < 0)
        return rc;
    *item = (struct item){.row = row, .encoder = NOTE, .reason = reason};
    give_slot(w);
    return 0;
}

int dump_writer_seal(struct dump_writer *w, uint64_t *out_hash, struct err *e)
{
    int rc = 0;
    pthread_mutex_lock(&w->lock);
    w->seal = true;
    pthread_cond_broadcast(&w->changed);
    while (!w->ended && rc == 0) {
        wait_s(w, LOOK_S);
        if (!w->ended && w->paused && atomic_load(w->o.stop))
            rc = err_set(e, XDC_ESTOPPED, "stopped");
    }
    if (rc == 0)
        rc = ended(w, e);
    *out_hash = w->hash;
    pthread_mutex_unlock(&w->lock);
    return rc;
}

double dump_writer_waited_s(struct dump_writer *w)
{
    return w->waited_s;
}

void dump_writer_close(struct dump_writer *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    if (w->paused)
        w->o.on_pause(w->o.arg, NULL);
    destroy(w);
}
