#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/media/sandbox.h"
#include "services/decoder/decoder.h"

static json_t *failed_json(const struct pool *p)
{
    json_t *o = json_object();
    for (unsigned i = 1; i < MEDIA_REASONS; i++)
        if (p->failed[i])
            json_object_set_new(o, media_code_name(i), json_integer((json_int_t)p->failed[i]));
    return o;
}

static json_t *wire_json(const struct leases_in *in)
{
    struct wire_counters c = leases_in_counters(in);
    return json_pack("{sI sI sI sI sI sI sI}", "received", (json_int_t)c.received, "sent", (json_int_t)c.sent,
                     "bytes_in", (json_int_t)c.bytes_in, "bytes_out", (json_int_t)c.bytes_out, "malformed",
                     (json_int_t)(c.malformed + in->malformed), "oversized", (json_int_t)c.oversized,
                     "unsent", (json_int_t)c.unsent);
}

static json_t *cache_json(const struct decoder *d)
{
    struct clip_cache_counters c = clip_cache_counters(d->cache);
    if (!d->cache)
        return json_null();
    return json_pack("{sI sI sI sI}", "bytes", (json_int_t)c.bytes, "used", (json_int_t)c.used, "parts",
                     (json_int_t)c.parts, "cut", (json_int_t)d->pool.cut);
}

static const char *state_of(const struct decoder *d)
{
    double heard = leases_in_heard_s(&d->leases);
    if (d->stopping)
        return "stopping";
    if (heard < 0 || heard > 5)
        return "waiting for the trainer";
    return d->pool.held ? "decoding" : "idle";
}

static const char *sandbox_of(const struct pool *p, char *buf, size_t size)
{
    char missing[200];
    if (!p->sandbox_known)
        return "unknown";
    if (!sandbox_missing(p->sandbox, missing, sizeof missing)[0])
        return "full";
    snprintf(buf, size, "degraded: %s", missing);
    return buf;
}

static json_t *on_status(void *arg)
{
    const struct decoder *d = arg;
    const struct pool *p = &d->pool;
    double heard = leases_in_heard_s(&d->leases);
    char sandbox[256];
    return json_pack("{ss ss si ss si si si si sI sI sI sI sI ss so so sf so so}", "daemon", "decoder",
                     "name", d->name, "pid", (int)getpid(), "state", state_of(d), "workers",
                     (int)pool_running(p), "slots", (int)p->slots, "held", (int)p->held, "queued",
                     (int)p->queued, "decoded", (json_int_t)p->decoded, "lost", (json_int_t)p->lost,
                     "superseded", (json_int_t)p->superseded, "workers_died", (json_int_t)p->workers_died,
                     "recycled", (json_int_t)p->recycled, "sandbox", sandbox_of(p, sandbox, sizeof sandbox),
                     "failed", failed_json(p), "cache", cache_json(d), "clips_per_s",
                     progress_rate(&d->progress), "trainer_heard_s",
                     heard < 0 ? json_null() : json_real(heard), "wire", wire_json(&d->leases));
}

static const char *on_unhealthy(void *arg)
{
    const struct decoder *d = arg;
    return d->pool.cannot_start ? d->pool.start_error : NULL;
}

int decoder_status_start(struct decoder *d, struct err *e)
{
    char path[PATH_MAX];
    struct status_calls calls = {
        .daemon = "decoder",
        .status = on_status,
        .unhealthy = on_unhealthy,
        .arg = d,
    };
    int rc = daemon_status_path(&d->daemon.conf, d->name, path, sizeof path, e);
    if (rc)
        return rc;
    return status_start(&d->loop, path, &calls, &d->status, e);
}
