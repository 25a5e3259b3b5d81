#include "services/decoder/decoder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib/cpus.h"
#include "lib/log.h"
#include "lib/manifest.h"
#include "lib/media/sandbox.h"
#include "services/decoder/golden.h"

#define TICK_MS 1000

static void on_tick(uv_timer_t *t)
{
    struct decoder *d = t->data;
    uint64_t done = d->pool.decoded;
    for (unsigned i = 0; i < MEDIA_REASONS; i++)
        done += d->pool.failed[i];
    progress_set(&d->progress, done);
    pool_tick(&d->pool);
}

static void on_ending(uv_timer_t *t)
{
    decoder_stop(t->data);
}

/* The end comes from a message: not from within its socket's callback. */
static void end_soon(struct decoder *d)
{
    if (!d->stopping)
        uv_timer_start(&d->ending, on_ending, 0, 0);
}

static void on_refused(void *arg, const char *reason)
{
    struct decoder *d = arg;
    log_error("the trainer refuses this decoder: %s", reason);
    d->exit_status = err_exit_status(XDC_EMISMATCH);
    end_soon(d);
}

static void on_finished(void *arg)
{
    struct decoder *d = arg;
    log_info("the run is finished: %llu clips decoded, %llu of them cut from kept ones, %llu workers died",
             (unsigned long long)d->pool.decoded, (unsigned long long)d->pool.cut,
             (unsigned long long)d->pool.workers_died);
    end_soon(d);
}

static void make_names(struct decoder *d)
{
    char host[40] = "";
    uint32_t salt = 0;
    gethostname(host, sizeof host - 1);
    if (getrandom(&salt, sizeof salt, 0) < 0)
        salt = (uint32_t)uv_hrtime();
    snprintf(d->id, sizeof d->id, "decoder-%.32s-%d-%08x", host, (int)getpid(), salt);
    snprintf(d->name, sizeof d->name, "decoder-%d", d->daemon.index);
}

/* The configured media root, or the one that the manifest names. */
static int find_media_root(const struct conf *c, char *out, size_t size, struct err *e)
{
    struct manifest *m = NULL;
    if (c->data.media_root[0]) {
        snprintf(out, size, "%s", c->data.media_root);
        return 0;
    }
    int rc = manifest_open(c->data.manifest, &m, e);
    if (rc)
        return rc;
    snprintf(out, size, "%s", manifest_media_root(m));
    manifest_close(m);
    return 0;
}

static int start_cache(struct decoder *d, struct err *e)
{
    uint64_t bytes = (uint64_t)d->daemon.conf.decoder.cache_mib << 20;
    return bytes ? clip_cache_open(&d->cache, bytes, e) : 0;
}

static int start_pool(struct decoder *d, uint64_t *out_golden, struct err *e)
{
    const struct conf *c = &d->daemon.conf;
    char root[PATH_MAX];
    struct media_recipe usual = {
        .frames = (uint32_t)c->video.frames,
        .crop = (uint32_t)c->video.crop,
        .want_video = true,
        .want_audio = true,
    };
    struct pool_options o = {
        .loop = &d->loop,
        .workers = (unsigned)c->decoder.workers,
        .recycle = (uint64_t)c->decoder.recycle,
        .attempts = (unsigned)c->decoder.attempts,
        .limits = {.cpu_s = (uint32_t)c->decoder.cpu_s,
                   .memory_mib = (uint32_t)c->decoder.memory_mib,
                   .slot_bytes = media_slot_bytes(&usual)},
        .media_root = root,
        .cache = d->cache,
        .on_answer = samples_out_answer,
        .on_sending = samples_out_poke,
        .arg = &d->samples,
    };
    if (!o.workers)
        o.workers = cpus_usable();
    /* Clips of one video come in one job where there are several: as many as its slots then. */
    unsigned clips =
        c->data.clips_per_video < MEDIA_CLIPS_MAX ? (unsigned)c->data.clips_per_video : MEDIA_CLIPS_MAX;
    o.slots = 2 * o.workers * clips;
    o.limits.slot_bytes *= clips;
    int rc = find_media_root(c, root, sizeof root, e);
    if (rc)
        return err_wrap(e, "media root");
    uint32_t sandbox = 0;
    rc = golden_hash(&o.limits, out_golden, &sandbox, e);
    if (rc)
        return rc;
    char missing[200];
    if (c->decoder.require_sandbox && sandbox_missing(sandbox, missing, sizeof missing)[0])
        return err_set(e, XDC_ECONF, "decoder.require_sandbox: %s", missing);
    return pool_init(&d->pool, &o, e);
}

static int start_edges(struct decoder *d, uint64_t golden, struct err *e)
{
    const struct conf *c = &d->daemon.conf;
    char endpoints[DECODER_RANKS_MAX][CONF_STRING_MAX];
    unsigned ranks = (unsigned)c->run.ranks;
    int rc = 0;
    if (ranks > DECODER_RANKS_MAX)
        return err_set(e, XDC_ECONF, "run.ranks: at most %d", DECODER_RANKS_MAX);
    for (unsigned i = 0; i < ranks && !rc; i++)
        rc = daemon_endpoint(c, "clips", (int)i, endpoints[i], e);
    if (!rc)
        rc = wire_context_create(&d->wire_context, e);
    if (!rc)
        rc = samples_out_init(&d->samples, &d->loop, &d->pool, &d->leases, e);
    if (rc)
        return rc;
    struct leases_in_options o = {
        .loop = &d->loop,
        .context = d->wire_context,
        .pool = &d->pool,
        .id = d->id,
        .golden = golden,
        .links = ranks,
        .endpoints = (const char(*)[CONF_STRING_MAX])endpoints,
        .on_refused = on_refused,
        .on_finished = on_finished,
        .arg = d,
    };
    return leases_in_start(&d->leases, &o, e);
}

/* A trainer on this machine goes first: its threads wait for each other, nobody waits for one worker. The
 * workers' niceness counts among processes of one session alone where the kernel schedules by session
 * (sched(7), autogroup): a decoder with a session of its own lowers that too. Of writes within 0.1 s all but
 * one are refused for a while. */
static void give_way(void)
{
    static const char niceness[] = "10";
    int fd = getsid(0) == getpid() ? open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    for (int i = 0; i < 10 && write(fd, niceness, sizeof niceness - 1) < 0 && errno == EAGAIN; i++)
        usleep(110 * 1000);
    close(fd);
}

int decoder_start(struct decoder *d, struct err *e)
{
    give_way();
    uint64_t golden = 0;
    int rc = uv_loop_init(&d->loop);
    if (rc)
        return err_set(e, rc, "event loop: %s", uv_strerror(rc));
    make_names(d);
    progress_init(&d->progress, "decode", 0);
    uv_timer_init(&d->loop, &d->tick);
    uv_timer_init(&d->loop, &d->ending);
    d->tick.data = d->ending.data = d;
    rc = daemon_signals(&d->daemon, &d->loop, decoder_stop, NULL, d, e);
    if (!rc)
        rc = start_cache(d, e);
    if (!rc)
        rc = start_pool(d, &golden, e);
    if (!rc)
        rc = start_edges(d, golden, e);
    if (!rc)
        rc = decoder_status_start(d, e);
    if (rc)
        return rc;
    uv_timer_start(&d->tick, on_tick, TICK_MS, TICK_MS);
    return 0;
}

void decoder_stop(void *arg)
{
    struct decoder *d = arg;
    if (d->stopping)
        return;
    d->stopping = true;
    pool_stop(&d->pool);
    samples_out_stop(&d->samples);
    leases_in_stop(&d->leases);
    status_stop(d->status);
    d->status = NULL;
    daemon_end(&d->daemon);
    uv_close((uv_handle_t *)&d->tick, NULL);
    uv_close((uv_handle_t *)&d->ending, NULL);
}

void decoder_close(struct decoder *d)
{
    /* The slots belong to the network until its context is gone. */
    wire_context_destroy(d->wire_context);
    samples_out_close(&d->samples);
    pool_close(&d->pool);
    clip_cache_close(d->cache);
    leases_in_close(&d->leases);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&d->loop);
    if (rc)
        log_error("event loop: %s", uv_strerror(rc));
}
