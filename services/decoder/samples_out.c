#include "services/decoder/samples_out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"

#define RETRY_MS 5

static struct samples_out_slot *slot_of(struct samples_out *s, const struct worker *w)
{
    return &s->slots[w - s->pool->workers];
}

/* Any thread. */
static void on_part_released(void *arg)
{
    struct samples_out_slot *slot = arg;
    struct samples_out *s = slot->owner;
    if (atomic_fetch_sub(&slot->parts, 1) == 1)
        uv_async_send(&s->released);
}

static void free_sent_slots(struct samples_out *s)
{
    for (unsigned i = 0; i < s->pool->options.workers; i++) {
        struct samples_out_slot *slot = &s->slots[i];
        struct worker *w = &s->pool->workers[i];
        if (w->state != WORKER_SENDING || slot->sent < w->samples || atomic_load(&slot->parts))
            continue;
        slot->sent = 0;
        pool_worker_free(w);
    }
}

static void on_released(uv_async_t *h)
{
    free_sent_slots(h->data);
}

static size_t fill_parts(struct samples_out_slot *slot, const struct lease *l, struct wire_part parts[2])
{
    const struct media_result *r = &l->result;
    size_t n = 0;
    if (r->video_bytes)
        parts[n++] = (struct wire_part){l->worker->child.slot + r->video_offset, r->video_bytes,
                                        on_part_released, slot};
    if (r->audio_bytes)
        parts[n++] = (struct wire_part){l->worker->child.slot + r->audio_offset, r->audio_bytes,
                                        on_part_released, slot};
    return n;
}

/* 0, or what wire_send said. */
static int send_answer(struct samples_out *s, struct lease *l)
{
    Xdc__LeaseKey key;
    Xdc__Sample sample = XDC__SAMPLE__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    struct wire_part parts[2];
    size_t n = 0;
    lease_key_to_message(&l->key, &key);
    sample.key = &key;
    sample.lost = l->lost;
    if (!l->lost) {
        sample.reason = l->result.reason;
        sample.detail = l->result.detail;
        sample.flags = l->result.flags;
    }
    if (l->worker && !l->lost) {
        struct samples_out_slot *slot = slot_of(s, l->worker);
        sample.video_bytes = l->result.video_bytes;
        sample.audio_bytes = l->result.audio_bytes;
        sample.hash = l->result.hash;
        n = fill_parts(slot, l, parts);
        atomic_fetch_add(&slot->parts, (unsigned)n);
    }
    env.body_case = XDC__ENVELOPE__BODY_SAMPLE;
    env.sample = &sample;
    return leases_in_send(s->leases, l->link, &env, parts, n);
}

/* The lease has its answer, or needs none any more. */
static void finish(struct samples_out *s, struct lease *l)
{
    if (l->worker)
        slot_of(s, l->worker)->sent++;
    pool_lease_done(s->pool, l);
}

/* One lease; false when its socket is full. */
static bool try_send(struct samples_out *s, struct lease *l)
{
    if (l->superseded) {
        s->dropped++;
        finish(s, l);
        return true;
    }
    int rc = send_answer(s, l);
    if (rc == -EAGAIN)
        return false;
    if (rc) {
        log_warn("a sample of %s cannot be sent: %s", l->uri, strerror(-rc));
        s->dropped++;
    } else {
        s->sent++;
    }
    finish(s, l);
    return true;
}

static void on_retry(uv_timer_t *t)
{
    samples_out_flush(t->data);
}

void samples_out_flush(struct samples_out *s)
{
    struct lease *next;
    s->waiting = 0;
    for (struct lease *l = s->pool->head; l; l = next) {
        next = l->next;
        if (l->state == LEASE_ANSWERED && !try_send(s, l))
            s->waiting++;
    }
    if (s->waiting && !uv_is_closing((uv_handle_t *)&s->retry))
        uv_timer_start(&s->retry, on_retry, RETRY_MS, 0);
    free_sent_slots(s);
}

void samples_out_answer(void *arg, struct lease *lease)
{
    struct samples_out *s = arg;
    if (s->waiting) { /* in turn: the timer is running */
        s->waiting++;
        return;
    }
    if (!try_send(s, lease)) {
        s->waiting++;
        if (!uv_is_closing((uv_handle_t *)&s->retry))
            uv_timer_start(&s->retry, on_retry, RETRY_MS, 0);
        return;
    }
    uv_async_send(&s->released); /* frees from the loop, not from within the pool's own call */
}

void samples_out_poke(void *arg)
{
    struct samples_out *s = arg;
    uv_async_send(&s->released);
}

int samples_out_init(struct samples_out *s, uv_loop_t *loop, struct pool *pool, struct leases_in *leases,
                     struct err *e)
{
    memset(s, 0, sizeof *s);
    s->pool = pool;
    s->leases = leases;
    s->slots = calloc(pool->options.workers, sizeof *s->slots);
    if (!s->slots)
        return err_sys(e, ENOMEM, "samples");
    for (unsigned i = 0; i < pool->options.workers; i++)
        s->slots[i].owner = s;
    int rc = uv_async_init(loop, &s->released, on_released);
    if (rc) {
        free(s->slots);
        s->slots = NULL;
        return err_set(e, rc, "samples: %s", uv_strerror(rc));
    }
    s->released.data = s;
    uv_timer_init(loop, &s->retry);
    s->retry.data = s;
    return 0;
}

void samples_out_stop(struct samples_out *s)
{
    uv_close((uv_handle_t *)&s->retry, NULL);
    samples_out_flush(s);
    uv_unref((uv_handle_t *)&s->released);
}

static void on_async_closed(uv_handle_t *h)
{
    struct samples_out *s = h->data;
    free(s->slots);
    s->slots = NULL;
}

void samples_out_close(struct samples_out *s)
{
    uv_close((uv_handle_t *)&s->released, on_async_closed);
}
