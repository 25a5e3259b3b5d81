#include "services/clusterer/features_in.h"

#include <stdio.h>
#include <unistd.h>
#include "lib/daemon.h"
#include "lib/log.h"
#include "services/clusterer/clusterer.h"

#define HELLO_MS 2000

static void name_of(char *out, size_t size)
{
    snprintf(out, size, "clusterer-%d", (int)getpid());
}

/* Said again and again: the trainer may have come, or come back, at any moment. */
static void on_hello(uv_timer_t *timer)
{
    struct features_in *f = timer->data;
    char name[64];
    name_of(name, sizeof name);
    Xdc__FeaturesHello hello = XDC__FEATURES_HELLO__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    hello.clusterer = name;
    env.run = f->clusterer->run;
    env.body_case = XDC__ENVELOPE__BODY_FEATURES_HELLO;
    env.features_hello = &hello;
    if (wire_send(f->wire, NULL, &env, NULL, 0) < 0)
        log_debug("the trainer cannot be greeted now");
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct features_in *f = arg;
    struct clusterer *c = f->clusterer;
    (void)from;
    (void)raw;
    (void)n_raw;
    switch (env->body_case) {
    case XDC__ENVELOPE__BODY_DUMP_SEALED:
        clusterer_look(c);
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

int features_in_open(struct features_in *f, struct clusterer *c, struct err *e)
{
    char endpoint[CONF_STRING_MAX], name[64];
    name_of(name, sizeof name);
    struct wire_options o = {.kind = WIRE_DEALER, .id = name, .on_message = on_message, .arg = f};
    f->clusterer = c;
    int rc = daemon_endpoint(&c->conf, "features", 0, endpoint, e);
    if (rc == 0)
        rc = wire_open(c->wires, &c->loop, &o, &f->wire, e);
    if (rc == 0)
        rc = wire_connect(f->wire, endpoint, e);
    if (rc)
        return rc;
    uv_timer_init(&c->loop, &f->hello);
    f->hello.data = f;
    f->timer_open = true;
    uv_timer_start(&f->hello, on_hello, 0, HELLO_MS);
    return 0;
}

void features_in_close(struct features_in *f)
{
    wire_close(f->wire);
    f->wire = NULL;
    if (f->timer_open)
        uv_close((uv_handle_t *)&f->hello, NULL);
    f->timer_open = false;
}
