#include "services/trainer/features_out.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/daemon.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "services/trainer/trainer.h"

static void send_sealed(struct features_out *f, const struct wire_peer *to, uint32_t round, uint64_t hash)
{
    Xdc__DumpSealed sealed = XDC__DUMP_SEALED__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    sealed.round = round;
    sealed.rank = f->trainer->meet.rank;
    sealed.manifest = f->trainer->manifest_id;
    sealed.features = hash;
    env.run = f->trainer->run;
    env.body_case = XDC__ENVELOPE__BODY_DUMP_SEALED;
    env.dump_sealed = &sealed;
    if (wire_send(f->wire, to, &env, NULL, 0) < 0)
        log_debug("a dump notice was not sent; the clusterer finds the dump by itself");
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct features_out *f = arg;
    (void)raw;
    (void)n_raw;
    if (env->body_case != XDC__ENVELOPE__BODY_FEATURES_HELLO)
        return;
    uint32_t i = 0;
    while (i < f->n_peers &&
           (f->peers[i].size != from->size || memcmp(f->peers[i].id, from->id, from->size) != 0))
        i++;
    if (i == f->n_peers) {
        if (f->n_peers == FEATURES_PEERS_MAX)
            memmove(f->peers, f->peers + 1, --f->n_peers * sizeof f->peers[0]);
        f->peers[f->n_peers++] = *from;
    }
    pthread_mutex_lock(&f->lock);
    bool sealed = f->sealed;
    uint32_t round = f->round;
    uint64_t hash = f->hash;
    pthread_mutex_unlock(&f->lock);
    if (sealed)
        send_sealed(f, from, round, hash);
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
    return rc;
}

void features_out_close(struct features_out *f)
{
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
}

void features_out_finish(struct features_out *f)
{
    for (uint32_t i = 0; i < f->n_peers; i++) {
        Xdc__RunFinished finished = XDC__RUN_FINISHED__INIT;
        Xdc__Envelope env = XDC__ENVELOPE__INIT;
        env.run = f->trainer->run;
        env.body_case = XDC__ENVELOPE__BODY_RUN_FINISHED;
        env.run_finished = &finished;
        if (wire_send(f->wire, &f->peers[i], &env, NULL, 0) < 0)
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

int features_out_create(struct trainer *t, uint32_t round, uint64_t weights, const uint32_t dims[2],
                        struct feature_store **out, struct err *e)
{
    char dir[PATH_MAX];
    struct features_share share = features_out_share(t);
    struct feature_info info = {
        .manifest = t->manifest_id,
        .run = t->run,
        .weights = weights,
        .first = share.first_row,
        .rows = share.rows,
        .total = t->set.videos * t->set.clips_per_video,
        .round = round,
        .rank = t->meet.rank,
        .ranks = t->meet.world,
        .dtype = dtype_of(&t->conf),
        .encoders = 2,
        .encoder = {{.name = "video", .dim = dims[0]}, {.name = "audio", .dim = dims[1]}}};
    int rc = features_out_dir(t, round, dir, e);
    if (rc == 0)
        rc = check_room(t, dir, &info, e);
    if (rc == 0)
        rc = feature_store_create(dir, &info, out, e);
    if (rc == 0)
        feature_store_reserve(*out, (uint64_t)t->conf.limits.disk_reserve_mib);
    return rc;
}
