#include "services/trainer/batcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/ledger.h"

int batcher_init(struct batcher *b, uint32_t batch_max, size_t video_bytes, void (*wake)(void *), void *arg,
                 struct err *e)
{
    *b = (struct batcher){.batch_max = batch_max, .video_bytes = video_bytes, .wake = wake, .wake_arg = arg};
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    for (unsigned i = 0; i < BATCHER_DEPTH; i++) {
        for (unsigned s = 0; s < BATCHER_STREAMS_MAX; s++) {
            struct batch_stream *st = &b->ring[i].stream[s];
            st->slots = calloc(batch_max, sizeof *st->slots);
            if (!st->slots) {
                batcher_close(b);
                return err_sys(e, ENOMEM, "batches");
            }
        }
    }
    return 0;
}

void batcher_close(struct batcher *b)
{
    for (unsigned i = 0; i < BATCHER_DEPTH; i++) {
        for (unsigned s = 0; s < BATCHER_STREAMS_MAX; s++) {
            free(b->ring[i].stream[s].slots);
            free(b->ring[i].stream[s].video);
            free(b->ring[i].stream[s].audio);
        }
    }
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->changed);
}

uint64_t batcher_position(const struct plan *p, uint64_t batch, uint32_t row)
{
    return batch * p->batch + (uint64_t)row * p->world + p->rank;
}

void batcher_begin(struct batcher *b, const struct plan *p)
{
    pthread_mutex_lock(&b->lock);
    b->plan = *p;
    if (p->world == 0)
        b->plan.world = 1;
    b->active = true;
    b->batches = (p->positions + p->batch - 1) / p->batch;
    b->head = b->tail = p->first_batch;
    for (unsigned i = 0; i < BATCHER_DEPTH; i++)
        b->ring[i].taken = false;
    pthread_mutex_unlock(&b->lock);
    b->wake(b->wake_arg);
}

int batcher_take(struct batcher *b, struct batch **out)
{
    int rc;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        struct batch *batch = &b->ring[b->head % BATCHER_DEPTH];
        if (b->stopped) {
            rc = XDC_ESTOPPED;
            break;
        }
        if (b->head >= b->batches) {
            b->active = false;
            rc = 1;
            break;
        }
        if (b->head < b->tail && batch->pending == 0) {
            batch->taken = true;
            b->head++;
            *out = batch;
            rc = 0;
            break;
        }
        pthread_cond_wait(&b->changed, &b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}

void batcher_give(struct batcher *b, struct batch *batch)
{
    pthread_mutex_lock(&b->lock);
    batch->taken = false;
    pthread_mutex_unlock(&b->lock);
    b->wake(b->wake_arg);
}

void batcher_drain(struct batcher *b)
{
    struct batch *batch;
    pthread_mutex_lock(&b->lock);
    b->batches = b->tail;
    pthread_mutex_unlock(&b->lock);
    while (batcher_take(b, &batch) == 0)
        batcher_give(b, batch);
}

void batcher_end(struct batcher *b)
{
    pthread_mutex_lock(&b->lock);
    b->active = false;
    pthread_mutex_unlock(&b->lock);
}

void batcher_stop(struct batcher *b)
{
    pthread_mutex_lock(&b->lock);
    b->stopped = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

static void complete(struct batcher *b, struct batch *batch, struct batch_slot *slot)
{
    slot->state = SLOT_DONE;
    batch->pending--;
    b->filled++;
    if (batch->pending == 0)
        pthread_cond_broadcast(&b->changed);
}

/* Draws the clips of batch `tail` and makes its known holes. Under the lock; buffers are allocated on first
 * use. */
static bool open_batch(struct batcher *b)
{
    struct batch *batch = &b->ring[b->tail % BATCHER_DEPTH];
    if (!b->active || b->tail >= b->batches || b->tail >= b->head + BATCHER_DEPTH || batch->taken)
        return false;
    const struct plan *p = &b->plan;
    batch->index = b->tail;
    batch->first = b->tail * p->batch;
    batch->end = p->positions - batch->first < p->batch ? p->positions : batch->first + p->batch;
    batch->n = (uint32_t)((batch->end - batch->first + p->world - 1 - p->rank) / p->world);
    batch->pending = p->streams * batch->n;
    for (uint32_t s = 0; s < p->streams; s++) {
        struct batch_stream *st = &batch->stream[s];
        if (p->stream[s].video && !st->video)
            st->video = malloc(b->batch_max * b->video_bytes);
        if (p->stream[s].audio && !st->audio)
            st->audio = malloc(b->batch_max * sizeof(float) * MEDIA_AUDIO_FLOATS);
        if ((p->stream[s].video && !st->video) || (p->stream[s].audio && !st->audio))
            return false; /* no memory: tried again at the next wake */
    }
    b->tail++;
    for (uint32_t s = 0; s < p->streams; s++) {
        for (uint32_t row = 0; row < batch->n; row++) {
            struct batch_slot *slot = &batch->stream[s].slots[row];
            *slot = (struct batch_slot){
                .clip = draw_at(p->stream[s].draw, batcher_position(p, batch->index, row))};
            slot->disposition = p->check ? p->check(p->arg, s, slot->clip) : 0;
            if (slot->disposition)
                complete(b, batch, slot);
        }
    }
    return true;
}

bool batcher_next(struct batcher *b, struct slot_ref *out, struct batch_slot **out_slot)
{
    bool found = false;
    pthread_mutex_lock(&b->lock);
    do {
        for (uint64_t i = b->head; i < b->tail && !found; i++) {
            struct batch *batch = &b->ring[i % BATCHER_DEPTH];
            for (uint32_t k = 0; batch->pending && k < b->plan.streams * batch->n; k++) {
                uint32_t s = k % b->plan.streams, row = k / b->plan.streams;
                if (batch->stream[s].slots[row].state != SLOT_OPEN)
                    continue;
                *out = (struct slot_ref){i, s, row};
                *out_slot = &batch->stream[s].slots[row];
                found = true;
                break;
            }
        }
    } while (!found && open_batch(b));
    pthread_mutex_unlock(&b->lock);
    return found;
}

struct batch_slot *batcher_slot(struct batcher *b, struct slot_ref ref)
{
    return &b->ring[ref.batch % BATCHER_DEPTH].stream[ref.stream].slots[ref.row];
}

struct batch_slot *batcher_find(struct batcher *b, const struct plan_key *key, uint64_t position,
                                struct slot_ref *out)
{
    struct batch_slot *slot = NULL;
    pthread_mutex_lock(&b->lock);
    const struct plan *p = &b->plan;
    if (b->active && key->phase == (uint32_t)p->phase && key->round == p->round && key->epoch == p->epoch &&
        key->stream < p->streams && position < p->positions && position % p->world == p->rank) {
        uint64_t i = position / p->batch;
        if (i >= b->head && i < b->tail) {
            *out = (struct slot_ref){i, key->stream, (uint32_t)(position % p->batch / p->world)};
            slot = batcher_slot(b, *out);
        }
    }
    pthread_mutex_unlock(&b->lock);
    return slot;
}

uint64_t batcher_head(struct batcher *b)
{
    pthread_mutex_lock(&b->lock);
    uint64_t head = b->head;
    pthread_mutex_unlock(&b->lock);
    return head;
}

bool batcher_after(struct batcher *b, struct slot_ref ref, struct slot_ref *out, struct batch_slot **out_slot)
{
    pthread_mutex_lock(&b->lock);
    *out = ref;
    if (++out->row >= b->ring[ref.batch % BATCHER_DEPTH].n) {
        out->batch++;
        out->row = 0;
    }
    bool there = out->batch < b->tail && out->row < b->ring[out->batch % BATCHER_DEPTH].n;
    pthread_mutex_unlock(&b->lock);
    *out_slot = there ? batcher_slot(b, *out) : NULL;
    return there;
}

struct slot_lease *batcher_lease(struct batch_slot *slot, uint32_t decoder, double now_s)
{
    struct slot_lease *lease = &slot->leases[slot->n_leases++];
    *lease = (struct slot_lease){.attempt = ++slot->attempts, .decoder = decoder, .granted_s = now_s};
    slot->state = SLOT_LEASED;
    return lease;
}

struct slot_lease *batcher_live(struct batch_slot *slot, uint32_t attempt)
{
    for (uint32_t i = 0; slot->state == SLOT_LEASED && i < slot->n_leases; i++)
        if (slot->leases[i].attempt == attempt)
            return &slot->leases[i];
    return NULL;
}

void batcher_unlease(struct batch_slot *slot, struct slot_lease *lease)
{
    *lease = slot->leases[--slot->n_leases];
    if (slot->n_leases == 0)
        slot->state = SLOT_OPEN;
}

void batcher_fill(struct batcher *b, struct slot_ref ref, const void *video, const void *audio, uint64_t hash)
{
    struct batch *batch = &b->ring[ref.batch % BATCHER_DEPTH];
    struct batch_stream *st = &batch->stream[ref.stream];
    /* The row is nobody else's until the batch is complete. */
    if (video)
        memcpy(st->video + ref.row * b->video_bytes, video, b->video_bytes);
    if (audio)
        memcpy(st->audio + (size_t)ref.row * MEDIA_AUDIO_FLOATS, audio, sizeof(float) * MEDIA_AUDIO_FLOATS);
    pthread_mutex_lock(&b->lock);
    st->slots[ref.row].hash = hash;
    st->slots[ref.row].disposition = LEDGER_TRAINED;
    complete(b, batch, &st->slots[ref.row]);
    pthread_mutex_unlock(&b->lock);
}

void batcher_hole(struct batcher *b, struct slot_ref ref, uint32_t disposition, uint32_t reason)
{
    pthread_mutex_lock(&b->lock);
    struct batch_slot *slot = batcher_slot(b, ref);
    slot->disposition = disposition;
    slot->reason = reason;
    complete(b, &b->ring[ref.batch % BATCHER_DEPTH], slot);
    pthread_mutex_unlock(&b->lock);
}

void batcher_each_leased(struct batcher *b,
                         void (*f)(void *arg, struct slot_ref ref, struct batch_slot *slot), void *arg)
{
    pthread_mutex_lock(&b->lock);
    uint64_t head = b->head, tail = b->active ? b->tail : b->head;
    uint32_t streams = b->plan.streams;
    pthread_mutex_unlock(&b->lock);
    /* Batches that the training thread takes meanwhile are complete and have no leased slot. */
    for (uint64_t i = head; i < tail; i++) {
        struct batch *batch = &b->ring[i % BATCHER_DEPTH];
        for (uint32_t s = 0; s < streams; s++)
            for (uint32_t row = 0; row < batch->n; row++)
                if (batch->stream[s].slots[row].state == SLOT_LEASED)
                    f(arg, (struct slot_ref){i, s, row}, &batch->stream[s].slots[row]);
    }
}

void batcher_progress(struct batcher *b, uint64_t *out_ready, uint64_t *out_open, uint64_t *out_filled)
{
    pthread_mutex_lock(&b->lock);
    *out_ready = 0;
    for (uint64_t i = b->head; i < b->tail && b->ring[i % BATCHER_DEPTH].pending == 0; i++)
        ++*out_ready;
    *out_open = b->tail - b->head;
    *out_filled = b->filled;
    pthread_mutex_unlock(&b->lock);
}
