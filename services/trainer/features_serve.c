#include "services/trainer/features_serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/feature_record.h"
#include "lib/file_pull.h"
#include "lib/fsutil.h"
#include "lib/label_table.h"
#include "lib/log.h"
#include "lib/progress.h"
#include "services/trainer/trainer.h"

#define KEEP_OPEN_S 30.0

static void close_origin(struct features_serve *s)
{
    feature_store_close(s->origin);
    s->origin = NULL;
}

/* This rank's shard of a round as it is now: one that was made anew is another one. */
static int open_origin(struct features_serve *s, uint32_t round, struct err *e)
{
    char dir[PATH_MAX];
    close_origin(s);
    int rc = features_out_dir(s->trainer, round, dir, e);
    if (rc == 0)
        rc = feature_store_open(dir, &s->origin, e);
    s->used_s = progress_now_s();
    return rc;
}

const void *features_serve_record(struct features_serve *s, uint32_t round, uint64_t *out_shard,
                                  size_t *out_size)
{
    struct err e = {0};
    bool current =
        s->origin && feature_store_info(s->origin)->round == round && feature_store_is_current(s->origin);
    if (!current && open_origin(s, round, &e) < 0) {
        log_warn("the dump of round %u cannot be announced: %s", round, e.msg);
        return NULL;
    }
    *out_shard = feature_store_info(s->origin)->hash;
    *out_size = sizeof(struct feature_record);
    return feature_store_record(s->origin);
}

static int have_shard(struct features_serve *s, uint32_t round, uint64_t shard, struct err *e)
{
    const struct feature_info *info = s->origin ? feature_store_info(s->origin) : NULL;
    if (info && info->round == round && info->hash == shard)
        return 0;
    int rc = open_origin(s, round, e);
    if (rc < 0)
        return rc;
    info = feature_store_info(s->origin);
    if (info->round == round && info->hash == shard && info->run == s->trainer->run)
        return 0;
    return err_set(e, XDC_EMISMATCH, "the shard of round %u here is %016llx, not %016llx", round,
                   (unsigned long long)info->hash, (unsigned long long)shard);
}

static int send_body(struct features_serve *s, const struct features_wanted *w, Xdc__Envelope *env,
                     const struct wire_part *parts, size_t n)
{
    env->run = s->trainer->run;
    return wire_send(s->wire, &w->peer, env, parts, n);
}

static void refuse(struct features_serve *s, struct features_wanted *w, const struct err *why)
{
    Xdc__DumpRefused refused = XDC__DUMP_REFUSED__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    refused.round = w->round;
    refused.shard = w->shard;
    refused.reason = (char *)why->msg;
    env.body_case = XDC__ENVELOPE__BODY_DUMP_REFUSED;
    env.dump_refused = &refused;
    w->left = 0;
    s->refused++;
    log_debug("a clusterer is refused: %s", why->msg);
    if (send_body(s, w, &env, NULL, 0) < 0)
        log_debug("a refusal was not sent");
}

/* 0, or why it was not sent. */
static int send_block(struct features_serve *s, struct features_wanted *w, struct err *e)
{
    struct feature_raw b;
    Xdc__DumpBlock block = XDC__DUMP_BLOCK__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    int rc = feature_raw_read(s->origin, w->encoder, w->next, &b, e);
    if (rc < 0)
        return rc;
    block.round = w->round;
    block.shard = w->shard;
    block.encoder = w->encoder;
    block.block = w->next;
    block.check = feature_raw_check(w->next, &b);
    env.body_case = XDC__ENVELOPE__BODY_DUMP_BLOCK;
    env.dump_block = &block;
    struct wire_part parts[] = {{.data = b.present, .size = FEATURE_BITMAP_BYTES},
                                {.data = b.values, .size = b.size}};
    rc = send_body(s, w, &env, parts, b.values ? 2 : 0);
    if (rc < 0)
        return rc;
    s->blocks++;
    s->bytes += b.size;
    w->next++;
    w->left--;
    if (w->next == feature_block_count(feature_store_info(s->origin)))
        w->left = 0;
    return 0;
}

static int file_path(const struct features_serve *s, const struct features_wanted *w, char out[PATH_MAX],
                     struct err *e)
{
    char dir[PATH_MAX];
    if (w->part == XDC__DUMP_PART__DUMP_TABLE_BEFORE)
        return w->round == 0 ? err_sys(e, EINVAL, "the table before round 0")
                             : label_table_path(s->trainer->conf.run.dir, w->round - 1, out, e);
    int rc = features_out_dir(s->trainer, w->round, dir, e);
    return rc < 0 ? rc : fs_path(out, e, "%s/heads.safetensors", dir);
}

/* A file that is not there is told as one of no size. */
static int send_piece(struct features_serve *s, struct features_wanted *w, struct err *e)
{
    char path[PATH_MAX];
    size_t n = 0;
    Xdc__DumpFile file = XDC__DUMP_FILE__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    int rc = file_path(s, w, path, e);
    if (rc == 0)
        rc = file_piece_read(path, w->next, s->piece, &n, &file.size, e);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    file.round = w->round;
    file.shard = w->shard;
    file.part = w->part;
    file.offset = w->next;
    env.body_case = XDC__ENVELOPE__BODY_DUMP_FILE;
    env.dump_file = &file;
    struct wire_part part = {.data = s->piece, .size = n};
    rc = send_body(s, w, &env, &part, 1);
    if (rc < 0)
        return rc;
    s->bytes += n;
    w->next += n;
    w->left = n == FILE_PIECE_BYTES ? w->left - 1 : 0;
    return 0;
}

/* Serves the next peer that wants something; false: nobody does, or the socket takes no more. */
static bool serve_one(struct features_serve *s)
{
    struct features_wanted *w = NULL;
    struct err e = {0};
    for (uint32_t i = 0; i < FEATURES_SERVE_PEERS && !w; i++) {
        s->at = (s->at + 1) % FEATURES_SERVE_PEERS;
        if (s->wanted[s->at].left)
            w = &s->wanted[s->at];
    }
    if (!w)
        return false;
    s->used_s = progress_now_s();
    int rc = have_shard(s, w->round, w->shard, &e);
    if (rc == 0)
        rc = w->part == XDC__DUMP_PART__DUMP_BLOCKS ? send_block(s, w, &e) : send_piece(s, w, &e);
    if (rc == -EAGAIN)
        return false;
    if (rc == -EHOSTUNREACH)
        w->left = 0; /* who comes back asks again */
    else if (rc < 0)
        refuse(s, w, &e);
    return true;
}

static void on_turn(uv_idle_t *turn)
{
    struct features_serve *s = turn->data;
    if (!serve_one(s))
        uv_idle_stop(turn);
}

static struct features_wanted *place_for(struct features_serve *s, const struct wire_peer *from)
{
    struct features_wanted *free_place = NULL;
    for (uint32_t i = 0; i < FEATURES_SERVE_PEERS; i++) {
        struct features_wanted *w = &s->wanted[i];
        if (w->peer.size == from->size && memcmp(w->peer.id, from->id, from->size) == 0)
            return w;
        if (w->left == 0)
            free_place = w;
    }
    return free_place;
}

/* Pieces and blocks are clamped to a window, whatever was asked for. */
static uint32_t clamp(const struct features_serve *s, const Xdc__DumpRequest *r)
{
    uint64_t most = FILE_WINDOW;
    const struct feature_info *info = feature_store_info(s->origin);
    if (r->part == XDC__DUMP_PART__DUMP_BLOCKS && r->encoder < info->encoders) {
        most = FEATURES_WINDOW_BYTES / (feature_block_bytes(info, r->encoder, 0) + 1);
        most = most > FEATURES_WINDOW_BLOCKS ? FEATURES_WINDOW_BLOCKS : most;
    }
    most = most ? most : 1;
    return r->count < most ? r->count : (uint32_t)most;
}

void features_serve_request(struct features_serve *s, const struct wire_peer *from, const Xdc__DumpRequest *r)
{
    struct features_wanted *w = place_for(s, from);
    struct err e = {0};
    if (!w)
        return; /* more clusterers than places: it asks again */
    *w = (struct features_wanted){.peer = *from,
                                  .round = r->round,
                                  .encoder = r->encoder,
                                  .shard = r->shard,
                                  .next = r->first,
                                  .part = r->part};
    if (r->part > XDC__DUMP_PART__DUMP_TABLE_BEFORE || r->count == 0)
        err_set(&e, -EINVAL, "%u of part %d of a shard cannot be asked for", r->count, (int)r->part);
    else if (have_shard(s, r->round, r->shard, &e) == 0)
        w->left = clamp(s, r);
    if (w->left == 0)
        refuse(s, w, &e);
    else
        uv_idle_start(&s->turn, on_turn);
}

void features_serve_tick(struct features_serve *s)
{
    bool wanted = false;
    for (uint32_t i = 0; i < FEATURES_SERVE_PEERS; i++)
        wanted |= s->wanted[i].left > 0;
    if (wanted)
        uv_idle_start(&s->turn, on_turn);
    else if (s->origin && progress_now_s() - s->used_s > KEEP_OPEN_S)
        close_origin(s);
}

int features_serve_open(struct features_serve *s, struct trainer *t, struct wire *wire, struct err *e)
{
    *s = (struct features_serve){.trainer = t, .wire = wire, .piece = malloc(FILE_PIECE_BYTES)};
    if (!s->piece)
        return err_sys(e, ENOMEM, "serve features");
    uv_idle_init(&t->loop, &s->turn);
    s->turn.data = s;
    s->turn_open = true;
    return 0;
}

void features_serve_close(struct features_serve *s)
{
    if (s->turn_open)
        uv_close((uv_handle_t *)&s->turn, NULL);
    s->turn_open = false;
    close_origin(s);
    free(s->piece);
    s->piece = NULL;
}
