#include "services/decoder/leases_in.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/progress.h"

#define TICK_MS 100
#define HEARTBEAT_S 1.0
#define SILENCE_S 2.0
/* A trainer that is away this long finds out by Hello; heartbeats would only fill the queue. */
#define ABSENCE_S 10.0

/* What a heartbeat is put together in. */
struct leases_in_room {
    struct lease_key keys[POOL_SLOTS_MAX];
    Xdc__LeaseKey messages[POOL_SLOTS_MAX];
    Xdc__LeaseKey *pointers[POOL_SLOTS_MAX];
};

static unsigned slots_of(const struct leases_in *in)
{
    unsigned n = in->options.pool->slots / in->options.links;
    return n ? n : 1;
}

int leases_in_send(struct leases_in *in, unsigned link, Xdc__Envelope *env, const struct wire_part *parts,
                   size_t n)
{
    struct leases_in_link *k = &in->links[link];
    env->run = k->run;
    return wire_send(k->wire, NULL, env, parts, n);
}

static void send_hello(struct leases_in_link *k)
{
    Xdc__Hello hello = XDC__HELLO__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    hello.decoder = (char *)k->owner->options.id;
    hello.slots = slots_of(k->owner);
    hello.golden = k->owner->options.golden;
    env.body_case = XDC__ENVELOPE__BODY_HELLO;
    env.hello = &hello;
    k->hello_s = progress_now_s();
    /* A full queue holds hellos already. */
    if (leases_in_send(k->owner, k->index, &env, NULL, 0))
        log_debug("hello to rank %u: queue full", k->index);
}

static void send_heartbeat(struct leases_in_link *k)
{
    struct leases_in_room *room = k->owner->room;
    Xdc__Heartbeat heartbeat = XDC__HEARTBEAT__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    unsigned n = pool_held(k->owner->options.pool, k->index, room->keys);
    for (unsigned i = 0; i < n; i++) {
        lease_key_to_message(&room->keys[i], &room->messages[i]);
        room->pointers[i] = &room->messages[i];
    }
    heartbeat.decoder = (char *)k->owner->options.id;
    heartbeat.slots = slots_of(k->owner);
    heartbeat.n_held = n;
    heartbeat.held = room->pointers;
    env.body_case = XDC__ENVELOPE__BODY_HEARTBEAT;
    env.heartbeat = &heartbeat;
    k->heartbeat_s = progress_now_s();
    if (leases_in_send(k->owner, k->index, &env, NULL, 0))
        log_debug("heartbeat to rank %u: queue full", k->index);
}

static void on_grant(struct leases_in_link *k, const Xdc__LeaseGrant *grant)
{
    struct leases_in *in = k->owner;
    struct lease *leases[MEDIA_CLIPS_MAX];
    unsigned n = 0;
    struct err e = {0};
    if (lease_from_grant(grant, k->index, ++in->groups, leases, &n, &e)) {
        in->malformed++;
        log_debug("rank %u: %s", k->index, e.msg);
        return;
    }
    in->grants += n;
    const struct lease_key *key = &leases[0]->key;
    if (k->granted && (k->incarnation != key->incarnation || k->phase != key->phase))
        pool_supersede(in->options.pool, k->index, key->incarnation, key->phase);
    k->granted = true;
    k->incarnation = key->incarnation;
    k->phase = key->phase;
    pool_add(in->options.pool, leases, n);
}

static void on_refused(struct leases_in *in, const char *reason)
{
    if (in->refused)
        return;
    in->refused = true;
    in->options.on_refused(in->options.arg, reason && reason[0] ? reason : "no reason given");
}

static void on_finished(struct leases_in_link *k)
{
    struct leases_in *in = k->owner;
    if (k->finished)
        return;
    k->finished = true;
    for (unsigned i = 0; i < in->options.links; i++)
        if (!in->links[i].finished)
            return;
    in->options.on_finished(in->options.arg);
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct leases_in_link *k = arg;
    (void)from;
    (void)raw;
    (void)n_raw;
    k->heard_s = progress_now_s();
    if (env->run)
        k->run = env->run;
    switch (env->body_case) {
    case XDC__ENVELOPE__BODY_LEASE_GRANT:
        on_grant(k, env->lease_grant);
        break;
    case XDC__ENVELOPE__BODY_HEARTBEAT: /* heard, nothing more */
        break;
    case XDC__ENVELOPE__BODY_RUN_FINISHED:
        on_finished(k);
        break;
    case XDC__ENVELOPE__BODY_REFUSED:
        on_refused(k->owner, env->refused->reason);
        break;
    default:
        k->owner->malformed++;
    }
}

static void on_tick(uv_timer_t *t)
{
    struct leases_in *in = t->data;
    double now = progress_now_s();
    for (unsigned i = 0; i < in->options.links; i++) {
        struct leases_in_link *k = &in->links[i];
        if (k->finished || in->refused)
            continue;
        if (now - k->heard_s >= SILENCE_S && now - k->hello_s >= SILENCE_S)
            send_hello(k);
        if (now - k->heard_s < ABSENCE_S && now - k->heartbeat_s >= HEARTBEAT_S)
            send_heartbeat(k);
    }
}

static int link_open(struct leases_in_link *k, const char *endpoint, struct err *e)
{
    const struct leases_in_options *o = &k->owner->options;
    struct wire_options w = {
        .kind = WIRE_DEALER,
        .id = o->id,
        .raw_frame_max = 1, /* the trainer sends none */
        .queue_max = (int)(o->pool->slots + 64),
        .on_message = on_message,
        .arg = k,
    };
    int rc = wire_open(o->context, o->loop, &w, &k->wire, e);
    if (!rc)
        rc = wire_connect(k->wire, endpoint, e);
    if (rc)
        err_wrap(e, "leases from rank %u", k->index);
    return rc;
}

int leases_in_start(struct leases_in *in, const struct leases_in_options *o, struct err *e)
{
    assert(o->links > 0);
    memset(in, 0, sizeof *in);
    in->options = *o;
    in->links = calloc(o->links, sizeof *in->links);
    in->room = calloc(1, sizeof *in->room);
    if (!in->links || !in->room) {
        leases_in_close(in);
        return err_sys(e, ENOMEM, "%u links", o->links);
    }
    uv_timer_init(o->loop, &in->timer);
    in->timer.data = in;
    in->started = true;
    for (unsigned i = 0; i < o->links; i++) {
        in->links[i].owner = in;
        in->links[i].index = i;
        int rc = link_open(&in->links[i], o->endpoints[i], e);
        if (rc) {
            leases_in_stop(in);
            return rc;
        }
    }
    for (unsigned i = 0; i < o->links; i++)
        send_hello(&in->links[i]);
    uv_timer_start(&in->timer, on_tick, TICK_MS, TICK_MS);
    return 0;
}

double leases_in_heard_s(const struct leases_in *in)
{
    double last = 0;
    for (unsigned i = 0; i < in->options.links; i++)
        if (in->links[i].heard_s > last)
            last = in->links[i].heard_s;
    return last > 0 ? progress_now_s() - last : -1;
}

struct wire_counters leases_in_counters(const struct leases_in *in)
{
    struct wire_counters sum = {0};
    for (unsigned i = 0; i < in->options.links; i++) {
        if (!in->links[i].wire)
            continue;
        const struct wire_counters *c = wire_counters(in->links[i].wire);
        sum.received += c->received;
        sum.sent += c->sent;
        sum.bytes_in += c->bytes_in;
        sum.bytes_out += c->bytes_out;
        sum.malformed += c->malformed;
        sum.oversized += c->oversized;
        sum.unsent += c->unsent;
    }
    return sum;
}

void leases_in_stop(struct leases_in *in)
{
    if (!in->started)
        return;
    in->started = false;
    uv_close((uv_handle_t *)&in->timer, NULL);
    for (unsigned i = 0; i < in->options.links; i++) {
        wire_close(in->links[i].wire);
        in->links[i].wire = NULL;
    }
}

void leases_in_close(struct leases_in *in)
{
    free(in->links);
    free(in->room);
    in->links = NULL;
    in->room = NULL;
}
