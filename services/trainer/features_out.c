#include "services/trainer/features_out.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>
#include "lib/daemon.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "services/trainer/trainer.h"

#define HEADS_BYTES_MAX ((size_t)1 << 32)

static void send_sealed(struct features_out *f, const struct features_peer *to, uint32_t round, uint64_t hash)
{
    Xdc__DumpSealed sealed = XDC__DUMP_SEALED__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    struct wire_part record = {0};
    sealed.round = round;
    sealed.rank = f->trainer->meet.rank;
    sealed.manifest = f->trainer->manifest_id;
    sealed.features = hash;
    if (to->pulls) {
        record.data = features_serve_record(&f->serve, round, &sealed.shard, &record.size);
        if (!record.data)
            return; /* it says hello again */
    }
    env.run = f->trainer->run;
    env.body_case = XDC__ENVELOPE__BODY_DUMP_SEALED;
    env.dump_sealed = &sealed;
    if (wire_send(f->wire, &to->id, &env, &record, to->pulls ? 1 : 0) < 0)
        log_debug("a dump notice was not sent; the clusterer finds the dump by itself");
}

/* The peer's place, made if it is new: the first to have come goes. */
static struct features_peer *remember(struct features_out *f, const struct wire_peer *from)
{
    uint32_t i = 0;
    while (i < f->n_peers &&
           (f->peers[i].id.size != from->size || memcmp(f->peers[i].id.id, from->id, from->size) != 0))
        i++;
    if (i == f->n_peers) {
        if (f->n_peers == FEATURES_PEERS_MAX)
            memmove(f->peers, f->peers + 1, --f->n_peers * sizeof f->peers[0]);
        i = f->n_peers++;
        f->peers[i].id = *from;
    }
    return &f->peers[i];
}

static void on_hello(struct features_out *f, const struct wire_peer *from, const Xdc__FeaturesHello *hello)
{
    struct features_peer *peer = remember(f, from);
    peer->pulls = hello->pulls;
    pthread_mutex_lock(&f->lock);
    bool sealed = f->sealed;
    uint32_t round = f->round;
    uint64_t hash = f->hash;
    pthread_mutex_unlock(&f->lock);
    if (sealed)
        send_sealed(f, peer, round, hash);
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct features_out *f = arg;
    (void)raw;
    (void)n_raw;
    if (env->body_case == XDC__ENVELOPE__BODY_FEATURES_HELLO)
        on_hello(f, from, env->features_hello);
    else if (env->body_case == XDC__ENVELOPE__BODY_DUMP_REQUEST && env->run == f->trainer->run)
        features_serve_request(&f->serve, from, env->dump_request);
}

int features_out_open(struct features_out *f, struct trainer *t, struct err *e)
{
    *f = (struct features_out){.trainer = t};
    pthread_mutex_init(&f->lock, NULL);
    char endpoint[CONF_STRING_MAX];
    struct wire_options o = {.kind = WIRE_ROUTER, .raw_frame_max = 0, .on_message = on_message, .arg = f};
    int rc = daemon_endpoint(&t->conf, "features", (int)t->meet.rank, endpoint, e);
    if (rc == 0)
        rc = wire_open(t->wires, &t->loop, &o, &f->wire, e);
    if (rc == 0)
        rc = wire_bind(f->wire, endpoint, e);
    return rc == 0 ? features_serve_open(&f->serve, t, f->wire, e) : rc;
}

void features_out_close(struct features_out *f)
{
    features_serve_close(&f->serve);
    wire_close(f->wire);
    f->wire = NULL;
    pthread_mutex_destroy(&f->lock);
}

void features_out_pump(struct features_out *f)
{
    pthread_mutex_lock(&f->lock);
    bool pending = f->pending;
    uint32_t round = f->round;
    uint64_t hash = f->hash;
    f->pending = false;
    pthread_mutex_unlock(&f->lock);
    for (uint32_t i = 0; pending && i < f->n_peers; i++)
        send_sealed(f, &f->peers[i], round, hash);
    features_serve_tick(&f->serve);
}

void features_out_finish(struct features_out *f)
{
    for (uint32_t i = 0; i < f->n_peers; i++) {
        Xdc__RunFinished finished = XDC__RUN_FINISHED__INIT;
        Xdc__Envelope env = XDC__ENVELOPE__INIT;
        env.run = f->trainer->run;
        env.body_case = XDC__ENVELOPE__BODY_RUN_FINISHED;
        env.run_finished = &finished;
        if (wire_send(f->wire, &f->peers[i].id, &env, NULL, 0) < 0)
            log_debug("the clusterer does not hear that the run is finished");
    }
}

void features_out_sealed(struct features_out *f, uint32_t round, uint64_t hash)
{
    pthread_mutex_lock(&f->lock);
    f->sealed = f->pending = true;
    f->round = round;
    f->hash = hash;
    pthread_mutex_unlock(&f->lock);
    uv_async_send(&f->trainer->wake);
}

int features_out_dir(const struct trainer *t, uint32_t round, char out[PATH_MAX], struct err *e)
{
    return fs_path(out, e, "%s/features/round-%04u/rank-%u", t->conf.run.dir, round, t->meet.rank);
}

struct features_share features_out_share(const struct trainer *t)
{
    uint64_t clips = clip_set_size(&t->set), total = t->set.videos * t->set.clips_per_video;
    uint32_t rank = t->meet.rank, world = t->meet.world;
    struct features_share s = {.first = clips * rank / world};
    uint64_t end = clips * (rank + 1) / world;
    s.n = end - s.first;
    s.first_row = rank == 0 ? 0 : clip_set_at(&t->set, s.first);
    s.rows = (rank + 1 == world ? total : clip_set_at(&t->set, end)) - s.first_row;
    return s;
}

static enum feature_dtype dtype_of(const struct conf *c)
{
    static const enum feature_dtype dtypes[] = {
        [CONF_DTYPE_F32] = FEATURE_F32, [CONF_DTYPE_F16] = FEATURE_F16, [CONF_DTYPE_BF16] = FEATURE_BF16};
    return dtypes[c->features.dtype];
}

/* What an unsealed dump takes up already is not needed once more. */
static int check_room(const struct trainer *t, const char *dir, const struct feature_info *info,
                      struct err *e)
{
    char parent[PATH_MAX], data[PATH_MAX], what[48];
    struct stat st;
    uint64_t row = 0;
    for (uint32_t i = 0; i < info->encoders; i++)
        row += info->encoder[i].dim * feature_value_bytes(info->dtype);
    int rc = fs_path(parent, e, "%s/features/round-%04u", t->conf.run.dir, info->round);
    if (rc == 0)
        rc = fs_path(data, e, "%s.tmp/data.mdb", dir);
    if (rc == 0)
        rc = fs_mkdirs(parent, e);
    if (rc < 0)
        return rc;
    uint64_t need = info->rows * row, there = stat(data, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    snprintf(what, sizeof what, "the dump of round %u", info->round);
    return fs_check_room(parent, what, need > there ? need - there : 0,
                         (uint64_t)t->conf.limits.disk_reserve_mib, e);
}

/* What the dump calls its encoders: one pair, or one of each pass. */
static void name_encoders(const struct trainer *t, const uint32_t dims[NET_ENCODERS],
                          struct feature_info *info)
{
    uint32_t passes = t->method.groups > 0 ? t->method.groups : 1;
    info->encoders = NET_ENCODERS * passes;
    for (uint32_t i = 0; i < info->encoders; i++) {
        enum net_encoder enc = (enum net_encoder)(i % NET_ENCODERS);
        const char *name = net_encoder_name(t->method.pair, enc);
        struct feature_encoder *to = &info->encoder[i];
        if (t->method.groups > 0)
            snprintf(to->name, sizeof to->name, "%s-g%u", name, i / NET_ENCODERS);
        else
            snprintf(to->name, sizeof to->name, "%s", name);
        to->dim = dims[enc];
    }
}

/* Where heads lie until their shard is begun. */
static int heads_path(const struct trainer *t, uint32_t round, char out[PATH_MAX], struct err *e)
{
    return fs_path(out, e, "%s/features/round-%04u/heads.safetensors", t->conf.run.dir, round);
}

int features_out_heads(const struct trainer *t, struct net *net, uint32_t round, uint64_t *out_hash,
                       struct err *e)
{
    char path[PATH_MAX];
    char *bytes = NULL;
    size_t size;
    int rc = fs_path(path, e, "%s/features/round-%04u", t->conf.run.dir, round);
    if (rc == 0)
        rc = fs_mkdirs(path, e);
    if (rc == 0)
        rc = heads_path(t, round, path, e);
    if (rc == 0)
        rc = net_write_heads(net, path, e);
    if (rc == 0)
        rc = fs_read(path, HEADS_BYTES_MAX, &bytes, &size, e);
    if (rc == 0)
        *out_hash = XXH3_64bits(bytes, size);
    free(bytes);
    return rc;
}

static int take_heads(const struct trainer *t, uint32_t round, const char *dir, struct err *e)
{
    char from[PATH_MAX], to[PATH_MAX];
    int rc = heads_path(t, round, from, e);
    if (rc == 0)
        rc = fs_path(to, e, "%s.tmp/heads.safetensors", dir);
    if (rc == 0 && rename(from, to) < 0)
        rc = err_sys(e, errno, "move %s to %s", from, to);
    if (rc == 0)
        rc = fs_path(to, e, "%s.tmp", dir);
    return rc == 0 ? fs_sync_dir(to, e) : rc;
}

int features_out_create(struct trainer *t, uint32_t round, uint64_t weights, uint64_t heads,
                        const uint32_t dims[NET_ENCODERS], struct feature_store **out, struct err *e)
{
    char dir[PATH_MAX];
    struct features_share share = features_out_share(t);
    struct feature_info info = {.manifest = t->manifest_id,
                                .run = t->run,
                                .weights = weights,
                                .heads = heads,
                                .first = share.first_row,
                                .rows = share.rows,
                                .total = t->set.videos * t->set.clips_per_video,
                                .round = round,
                                .rank = t->meet.rank,
                                .ranks = t->meet.world,
                                .dtype = dtype_of(&t->conf)};
    name_encoders(t, dims, &info);
    int rc = features_out_dir(t, round, dir, e);
    if (rc == 0)
        rc = check_room(t, dir, &info, e);
    if (rc == 0)
        rc = feature_store_create(dir, &info, out, e);
    if (rc == 0)
        feature_store_reserve(*out, (uint64_t)t->conf.limits.disk_reserve_mib);
    if (rc == 0 && heads && t->meet.rank == 0)
        rc = take_heads(t, round, dir, e);
    return rc;
}
