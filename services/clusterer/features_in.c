#include "services/clusterer/features_in.h"

#include <stdio.h>
#include <unistd.h>
#include "lib/daemon.h"
#include "lib/log.h"
#include "lib/progress.h"
#include "services/clusterer/clusterer.h"

#define TICK_MS 500
#define HELLO_S 2.0

static void name_of(char *out, size_t size)
{
    char host[32] = "";
    gethostname(host, sizeof host - 1);
    snprintf(out, size, "clusterer-%s-%d", host, (int)getpid());
}

static void greet(const struct features_link *k)
{
    char name[64];
    name_of(name, sizeof name);
    Xdc__FeaturesHello hello = XDC__FEATURES_HELLO__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    hello.clusterer = name;
    hello.pulls = k->in->clusterer->pulls;
    env.run = k->in->clusterer->run;
    env.body_case = XDC__ENVELOPE__BODY_FEATURES_HELLO;
    env.features_hello = &hello;
    if (wire_send(k->wire, NULL, &env, NULL, 0) < 0)
        log_debug("rank %u of the trainer cannot be greeted now", k->rank);
}

/* Hello is said again and again: the trainer may have come, or come back, at any moment. */
static void on_tick(uv_timer_t *timer)
{
    struct features_in *f = timer->data;
    double now = progress_now_s();
    if (f->clusterer->pulls)
        features_pull_tick(&f->pull);
    if (f->greeted_s > 0 && now - f->greeted_s < HELLO_S)
        return;
    f->greeted_s = now;
    for (uint32_t i = 0; i < f->n_links; i++)
        greet(&f->links[i]);
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct features_link *k = arg;
    struct clusterer *c = k->in->clusterer;
    (void)from;
    switch (env->body_case) {
    case XDC__ENVELOPE__BODY_DUMP_SEALED:
        if (c->pulls)
            features_pull_sealed(&k->in->pull, k->rank, env->dump_sealed, raw, n_raw);
        else
            clusterer_look(c);
        break;
    case XDC__ENVELOPE__BODY_DUMP_BLOCK:
    case XDC__ENVELOPE__BODY_DUMP_FILE:
    case XDC__ENVELOPE__BODY_DUMP_REFUSED:
        if (c->pulls)
            features_pull_answer(&k->in->pull, k->rank, env, raw, n_raw);
        break;
    case XDC__ENVELOPE__BODY_RUN_FINISHED:
        if (env->run != c->run)
            break;
        log_info("the run is finished");
        clusterer_stop(c);
        break;
    case XDC__ENVELOPE__BODY_REFUSED:
        log_warn("the trainer refuses this clusterer: %s", env->refused->reason);
        break;
    default:
        break;
    }
}

static int link_open(struct features_link *k, struct err *e)
{
    struct clusterer *c = k->in->clusterer;
    char endpoint[CONF_STRING_MAX], name[64];
    name_of(name, sizeof name);
    struct wire_options o = {.kind = WIRE_DEALER,
                             .id = name,
                             .raw_frame_max = c->pulls ? FEATURES_FRAME_MAX : 0,
                             .on_message = on_message,
                             .arg = k};
    int rc = daemon_endpoint(&c->conf, "features", (int)k->rank, endpoint, e);
    if (rc == 0)
        rc = wire_open(c->wires, &c->loop, &o, &k->wire, e);
    return rc == 0 ? wire_connect(k->wire, endpoint, e) : rc;
}

int features_in_open(struct features_in *f, struct clusterer *c, struct err *e)
{
    f->clusterer = c;
    f->n_links = c->pulls ? (uint32_t)c->conf.run.ranks : 1;
    if (c->pulls)
        features_pull_init(&f->pull, c, f->n_links);
    for (uint32_t i = 0; i < f->n_links; i++) {
        f->links[i] = (struct features_link){.in = f, .rank = i};
        int rc = link_open(&f->links[i], e);
        if (rc < 0)
            return rc;
        f->pull.wires[i] = f->links[i].wire;
    }
    uv_timer_init(&c->loop, &f->tick);
    f->tick.data = f;
    f->timer_open = true;
    uv_timer_start(&f->tick, on_tick, 0, TICK_MS);
    return 0;
}

void features_in_close(struct features_in *f)
{
    for (uint32_t i = 0; i < f->n_links; i++) {
        wire_close(f->links[i].wire);
        f->links[i].wire = NULL;
    }
    if (f->timer_open)
        uv_close((uv_handle_t *)&f->tick, NULL);
    f->timer_open = false;
}
