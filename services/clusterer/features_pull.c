#include "services/clusterer/features_pull.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/log.h"
#include "lib/progress.h"
#include "services/clusterer/clusterer.h"

#define WINDOW_BYTES ((uint64_t)8 << 20)
#define WINDOW_BLOCKS 64
/* Asked again when nothing came for so long. */
#define SILENCE_S 3.0
#define RETRY_S 5.0
/* Frames refused in a row before the shard counts as wrong. */
#define WRONG_MAX 8
#define FILE_MAX ((uint64_t)16 << 30)

static void go_on(struct features_pull *p);

/* A warning that says something new. */
static void say(struct features_pull *p, const char *what, const char *then)
{
    if (strncmp(p->said, what, sizeof p->said - 1) == 0)
        return;
    snprintf(p->said, sizeof p->said, "%.*s", (int)sizeof p->said - 1, what);
    log_warn("%s%s", what, then);
}

static void refuse_frame(struct features_pull *p, const char *why)
{
    p->refused++;
    p->wrong_in_row++;
    say(p, why, "; it is refused");
}

static void put_down(struct features_pull *p)
{
    file_pull_close(&p->file);
    replica_close(&p->replica);
    p->state = PULL_IDLE;
}

/* What was pulled is not what was sealed: once more from nothing, or the round has failed. */
static void count_bad(struct features_pull *p, const char *why)
{
    struct pull_notice *n = &p->notice[p->rank];
    put_down(p);
    n->bad++;
    log_error("round %u, rank %u: %s%s", n->info.round, p->rank, why,
              n->bad < FEATURES_PULL_TRIES ? "; it is pulled again" : "; the replica is given up");
    if (n->bad < FEATURES_PULL_TRIES)
        return;
    p->failed = (struct round_entry){.round = n->info.round, .state = ROUND_FAILED, .code = XDC_EFORMAT};
    snprintf(p->failed.detail, sizeof p->failed.detail, "the shard of rank %u was pulled %u times: %.*s",
             p->rank, n->bad, 400, why);
}

static void pause_for(struct features_pull *p, const char *why)
{
    put_down(p);
    p->state = PULL_PAUSED;
    p->retry_s = progress_now_s() + RETRY_S;
    say(p, why, "; it is tried again every few seconds");
}

/* asking */

static int ask(struct features_pull *p, Xdc__DumpPart part, uint32_t encoder, uint64_t first, uint32_t count)
{
    Xdc__DumpRequest r = XDC__DUMP_REQUEST__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    r.round = p->replica.info.round;
    r.shard = p->replica.info.hash;
    r.part = part;
    r.encoder = encoder;
    r.first = first;
    r.count = count;
    env.run = p->clusterer->run;
    env.body_case = XDC__ENVELOPE__BODY_DUMP_REQUEST;
    env.dump_request = &r;
    p->heard_s = progress_now_s();
    return wire_send(p->wires[p->rank], NULL, &env, NULL, 0);
}

static uint32_t window_of(const struct feature_info *info, uint32_t encoder)
{
    uint64_t n = WINDOW_BYTES / (feature_block_bytes(info, encoder, 0) + 1);
    return n == 0 ? 1 : n > WINDOW_BLOCKS ? WINDOW_BLOCKS : (uint32_t)n;
}

/* Asks for what is due in this state. An unsent request is made again by the tick. */
static void request(struct features_pull *p)
{
    uint32_t encoder;
    uint64_t block;
    int rc = 0;
    if (p->state == PULL_BLOCKS && feature_replica_next(p->replica.copy, &encoder, &block)) {
        uint64_t count = window_of(&p->replica.info, encoder);
        uint64_t left = feature_block_count(&p->replica.info) - block;
        count = count < left ? count : left;
        p->window_end = block + count;
        rc = ask(p, XDC__DUMP_PART__DUMP_BLOCKS, encoder, block, (uint32_t)count);
    } else if (p->state == PULL_HEADS || p->state == PULL_TABLE) {
        p->file_end = p->file.at + FILE_WINDOW * FILE_PIECE_BYTES;
        rc = ask(p, p->state == PULL_HEADS ? XDC__DUMP_PART__DUMP_HEADS : XDC__DUMP_PART__DUMP_TABLE_BEFORE,
                 0, p->file.at, FILE_WINDOW);
    }
    if (rc < 0)
        log_debug("rank %u cannot be asked now", p->rank);
}

/* the worker */

static void on_open(uv_work_t *work)
{
    struct features_pull *p = work->data;
    replica_begin(&p->replica);
}

static void on_seal(uv_work_t *work)
{
    struct features_pull *p = work->data;
    replica_finish(&p->replica);
}

static void finished(struct features_pull *p)
{
    struct pull_notice *n = &p->notice[p->rank];
    n->done = true;
    put_down(p);
    p->said[0] = '\0';
    clusterer_look(p->clusterer);
}

static void open_file(struct features_pull *p, enum pull_state state)
{
    char path[PATH_MAX], labels[PATH_MAX];
    struct err e = {0};
    int rc = state == PULL_HEADS ? replica_heads_part(&p->replica, path, &e)
                                 : replica_table_part(&p->replica, path, &e);
    if (rc == 0)
        rc = fs_path(labels, &e, "%s/labels", p->clusterer->conf.run.dir);
    if (rc == 0)
        rc = fs_mkdirs(labels, &e);
    if (rc == 0)
        rc = file_pull_open(&p->file, path, &e);
    if (rc < 0) {
        pause_for(p, e.msg);
        return;
    }
    p->state = state;
    request(p);
}

static void say_where(const struct features_pull *p)
{
    uint64_t found = feature_replica_found(p->replica.copy);
    if (found)
        log_info("round %u: the replica of rank %u goes on behind %" PRIu64 " blocks", p->replica.info.round,
                 p->rank, found);
}

static void on_worked(uv_work_t *work, int status)
{
    struct features_pull *p = work->data;
    bool sealing = p->state == PULL_SEALING;
    int rc = status < 0 ? status : p->replica.result;
    p->state = PULL_IDLE;
    if (p->clusterer->stopping) {
        uv_stop(&p->clusterer->loop);
    } else if (p->abandoned) {
        put_down(p);
    } else if (rc == XDC_EFORMAT && sealing) {
        count_bad(p, p->replica.err.msg);
    } else if (rc < 0) {
        pause_for(p, status < 0 ? uv_strerror(status) : p->replica.err.msg);
    } else if (sealing || p->replica.already) {
        p->replicas += sealing;
        if (sealing)
            log_info("round %u: the shard of rank %u is here", p->replica.info.round, p->rank);
        finished(p);
    } else if (p->replica.wants_table) {
        say_where(p);
        open_file(p, PULL_TABLE);
    } else {
        say_where(p);
        p->state = PULL_BLOCKS;
    }
    p->abandoned = false;
    if (!p->clusterer->stopping)
        go_on(p);
}

static void queue(struct features_pull *p, enum pull_state state, uv_work_cb work)
{
    p->work.data = p;
    p->state = state;
    if (uv_queue_work(&p->clusterer->loop, &p->work, work, on_worked) < 0)
        pause_for(p, "no worker thread for a replica");
}

/* A shard that is due: the first rank's that is announced and not here. */
static bool choose(struct features_pull *p)
{
    for (uint32_t i = 0; i < p->ranks; i++) {
        struct pull_notice *n = &p->notice[i];
        if (!n->known || n->done || n->bad >= FEATURES_PULL_TRIES)
            continue;
        p->rank = i;
        p->wrong_in_row = 0;
        p->replica = (struct replica){.conf = &p->clusterer->conf,
                                      .run = p->clusterer->run,
                                      .manifest = p->clusterer->manifest,
                                      .record = n->record,
                                      .info = n->info};
        return true;
    }
    return false;
}

/* Whatever comes next: another shard, another window, the heads, the seal. */
static void go_on(struct features_pull *p)
{
    uint32_t encoder;
    uint64_t block;
    if (p->state == PULL_IDLE && choose(p)) {
        queue(p, PULL_OPENING, on_open);
    } else if (p->state == PULL_BLOCKS) {
        if (feature_replica_next(p->replica.copy, &encoder, &block))
            request(p);
        else if (p->rank == 0 && p->replica.info.heads)
            open_file(p, PULL_HEADS);
        else
            queue(p, PULL_SEALING, on_seal);
    }
}

/* notices */

/* The notice's record, held against run, manifest and sender; 0, or why it is not used. */
static int parse_notice(const struct features_pull *p, uint32_t rank, const Xdc__DumpSealed *m,
                        const struct wire_frame *raw, size_t n_raw, struct pull_notice *out, struct err *e)
{
    const struct feature_info *i = &out->info;
    if (n_raw != 1 || raw[0].size != sizeof out->record)
        return err_set(e, XDC_EFORMAT, "a notice of rank %u without the shard's record", rank);
    memcpy(&out->record, raw[0].data, sizeof out->record);
    int rc = feature_record_parse("a notice", &out->record, sizeof out->record, &out->info, e);
    if (rc < 0)
        return rc;
    if (i->hash != m->shard || i->round != m->round || i->rank != rank || m->rank != rank)
        return err_set(e, XDC_EFORMAT, "a notice of rank %u for round %u does not fit its record", rank,
                       m->round);
    if (i->run != p->clusterer->run || i->manifest != p->clusterer->manifest)
        return err_set(e, XDC_EMISMATCH,
                       "rank %u has sealed features of run %016" PRIx64 " and manifest %016" PRIx64
                       ", this clusterer serves %016" PRIx64 " and %016" PRIx64,
                       rank, i->run, i->manifest, p->clusterer->run, p->clusterer->manifest);
    if (i->ranks != p->ranks)
        return err_set(e, XDC_EMISMATCH, "rank %u has sealed one of %u shards, run.ranks is %u here", rank,
                       i->ranks, p->ranks);
    return 0;
}

/* Sealed shards of the round by other weights belong to a dump that is no more. */
static void drop_strangers(struct features_pull *p, const struct feature_info *fresh)
{
    char dir[PATH_MAX];
    struct err e = {0};
    for (uint32_t i = 0; i < p->ranks; i++) {
        const struct pull_notice *n = &p->notice[i];
        if (i == fresh->rank ||
            (n->known && n->info.round == fresh->round && n->info.weights == fresh->weights))
            continue;
        struct feature_store *s;
        if (fs_path(dir, &e, "%s/features/round-%04u/rank-%u", p->clusterer->conf.run.dir, fresh->round, i) <
                0 ||
            feature_store_open(dir, &s, NULL) < 0)
            continue;
        bool stranger = feature_store_info(s)->weights != fresh->weights;
        feature_store_close(s);
        if (stranger && fs_remove_tree(dir, &e) < 0)
            log_warn("%s", e.msg);
    }
}

void features_pull_sealed(struct features_pull *p, uint32_t rank, const Xdc__DumpSealed *m,
                          const struct wire_frame *raw, size_t n_raw)
{
    struct pull_notice fresh = {.known = true}, *n = &p->notice[rank];
    struct err e = {0};
    if (parse_notice(p, rank, m, raw, n_raw, &fresh, &e) < 0) {
        refuse_frame(p, e.msg);
        return;
    }
    if (n->info.hash == fresh.info.hash) {
        n->known = true;
        if (p->state == PULL_IDLE)
            go_on(p);
        return;
    }
    *n = fresh;
    if (p->failed.round == fresh.info.round)
        p->failed.detail[0] = '\0';
    drop_strangers(p, &fresh.info);
    log_info("round %u: rank %u has sealed %" PRIu64 " rows", fresh.info.round, rank, fresh.info.rows);
    if (p->rank == rank && features_pull_busy(p))
        p->abandoned = true;
    else if (p->rank == rank)
        put_down(p);
    if (p->state == PULL_IDLE)
        go_on(p);
}

/* answers */

static bool is_due(const struct features_pull *p, uint32_t rank, uint32_t round, uint64_t shard)
{
    return rank == p->rank && round == p->replica.info.round && shard == p->replica.info.hash;
}

/* A block of a window that was asked for twice, or behind one that was refused: no fault. */
static bool is_out_of_turn(const struct features_pull *p, const Xdc__DumpBlock *b)
{
    uint32_t encoder;
    uint64_t next;
    if (!feature_replica_next(p->replica.copy, &encoder, &next))
        return true;
    return b->encoder < encoder || (b->encoder == encoder && b->block < next) ||
           (p->wrong_in_row && (b->encoder != encoder || b->block != next));
}

static void take_block(struct features_pull *p, const Xdc__DumpBlock *m, const struct wire_frame *raw,
                       size_t n_raw)
{
    struct feature_raw b = {0};
    struct err e = {0};
    if (n_raw == 2 && raw[0].size == FEATURE_BITMAP_BYTES && raw[1].size > 0)
        b = (struct feature_raw){.present = raw[0].data, .values = raw[1].data, .size = raw[1].size};
    else if (n_raw != 0) {
        refuse_frame(p, "a block of features came with a bitmap or values of no size");
        return;
    }
    if (feature_raw_check(m->block, &b) != m->check) {
        refuse_frame(p, "a block of features is not the one that was sent");
        return;
    }
    int rc = feature_replica_put(p->replica.copy, m->encoder, m->block, &b, &e);
    if (rc == XDC_EFORMAT) {
        refuse_frame(p, e.msg);
    } else if (rc < 0) {
        pause_for(p, e.msg);
    } else {
        p->heard_s = progress_now_s();
        p->wrong_in_row = 0;
        p->blocks++;
        p->bytes += b.size;
        if (m->block + 1 >= p->window_end || m->block + 1 == feature_block_count(&p->replica.info))
            go_on(p);
    }
}

/* A file is whole: the heads are the last that comes, the table the first. */
static void file_done(struct features_pull *p)
{
    bool table = p->state == PULL_TABLE;
    file_pull_close(&p->file);
    if (table) {
        p->state = PULL_BLOCKS;
        go_on(p);
    } else {
        queue(p, PULL_SEALING, on_seal);
    }
}

static void take_piece(struct features_pull *p, const Xdc__DumpFile *m, const struct wire_frame *raw,
                       size_t n_raw)
{
    struct err e = {0};
    Xdc__DumpPart due =
        p->state == PULL_HEADS ? XDC__DUMP_PART__DUMP_HEADS : XDC__DUMP_PART__DUMP_TABLE_BEFORE;
    if (m->part != due || m->offset < p->file.at)
        return; /* late */
    if (m->size == 0 && p->state == PULL_TABLE) {
        log_warn("round %u: the trainer has no table of the round before; labels get numbers of their own",
                 p->replica.info.round);
        file_pull_discard(&p->file);
        p->state = PULL_BLOCKS;
        go_on(p);
        return;
    }
    if (m->size == 0) {
        count_bad(p, "the heads that its record names are not there");
        go_on(p);
        return;
    }
    int rc = n_raw == 1 ? file_pull_put(&p->file, m->offset, m->size, FILE_MAX, raw[0].data, raw[0].size, &e)
                        : err_set(&e, XDC_EFORMAT, "a piece of a file came without its bytes");
    if (rc == XDC_EFORMAT) {
        refuse_frame(p, e.msg);
        if (m->size < p->file.at || (p->file.size && m->size != p->file.size)) {
            file_pull_discard(&p->file); /* what is there is of another file */
            pause_for(p, e.msg);
        }
    } else if (rc < 0) {
        pause_for(p, e.msg);
    } else {
        p->heard_s = progress_now_s();
        p->wrong_in_row = 0;
        p->bytes += raw[0].size;
        if (file_pull_done(&p->file))
            file_done(p);
        else if (p->file.at >= p->file_end)
            request(p);
    }
}

/* The rank has another shard by now, or none: its next notice says which. */
static void take_refusal(struct features_pull *p, const char *reason)
{
    char what[256];
    snprintf(what, sizeof what, "rank %u: %.200s", p->rank, reason);
    say(p, what, "; its next notice is waited for");
    put_down(p);
    p->notice[p->rank].known = false;
    go_on(p);
}

void features_pull_answer(struct features_pull *p, uint32_t rank, const Xdc__Envelope *env,
                          const struct wire_frame *raw, size_t n_raw)
{
    bool files = p->state == PULL_HEADS || p->state == PULL_TABLE;
    bool block = env->body_case == XDC__ENVELOPE__BODY_DUMP_BLOCK;
    if (env->body_case == XDC__ENVELOPE__BODY_DUMP_REFUSED) {
        if ((files || p->state == PULL_BLOCKS) &&
            is_due(p, rank, env->dump_refused->round, env->dump_refused->shard))
            take_refusal(p, env->dump_refused->reason);
        return;
    }
    if (env->run != p->clusterer->run ||
        !is_due(p, rank, block ? env->dump_block->round : env->dump_file->round,
                block ? env->dump_block->shard : env->dump_file->shard))
        p->refused++; /* of another run, or of a shard that is no more */
    else if (block && p->state == PULL_BLOCKS && !is_out_of_turn(p, env->dump_block))
        take_block(p, env->dump_block, raw, n_raw);
    else if (!block && files)
        take_piece(p, env->dump_file, raw, n_raw);
    if (p->wrong_in_row > WRONG_MAX && (files || p->state == PULL_BLOCKS)) {
        count_bad(p, p->said);
        p->wrong_in_row = 0;
    }
}

void features_pull_tick(struct features_pull *p)
{
    double now = progress_now_s();
    bool asking = p->state == PULL_BLOCKS || p->state == PULL_HEADS || p->state == PULL_TABLE;
    if (p->state == PULL_PAUSED && now >= p->retry_s)
        p->state = PULL_IDLE;
    if (p->state == PULL_IDLE)
        go_on(p);
    else if (asking && (p->wrong_in_row || now - p->heard_s > SILENCE_S))
        request(p);
}

/* the rest */

void features_pull_init(struct features_pull *p, struct clusterer *c, uint32_t ranks)
{
    *p = (struct features_pull){.clusterer = c, .ranks = ranks, .file = {.fd = -1}};
}

void features_pull_close(struct features_pull *p)
{
    if (p->clusterer)
        put_down(p);
}

bool features_pull_busy(const struct features_pull *p)
{
    return p->state == PULL_OPENING || p->state == PULL_SEALING;
}

const struct round_entry *features_pull_failed(const struct features_pull *p, uint32_t round)
{
    return p->failed.detail[0] && p->failed.round == round ? &p->failed : NULL;
}

void features_pull_clean(struct features_pull *p, uint32_t round)
{
    char path[PATH_MAX];
    struct err e = {0};
    for (uint32_t r = round < 2 ? 0 : round - 1; p->clusterer && r-- > 0;) {
        if (fs_path(path, &e, "%s/features/round-%04u", p->clusterer->conf.run.dir, r) < 0 ||
            access(path, F_OK) < 0)
            break;
        if (fs_remove_tree(path, &e) < 0)
            log_warn("an old replica stays: %s", e.msg);
    }
}

json_t *features_pull_status(const struct features_pull *p)
{
    static const char *const names[] = {"idle", "opening", "table", "blocks", "heads", "sealing", "paused"};
    const struct feature_info *info = &p->replica.info;
    const struct feature_replica *copy = features_pull_busy(p) ? NULL : p->replica.copy;
    if (!p->clusterer)
        return json_null();
    return json_pack("{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "state", names[p->state],
                     "round", (int)info->round, "rank", (int)p->rank, "done",
                     (json_int_t)(copy ? feature_replica_done(copy) : 0), "found",
                     (json_int_t)(copy ? feature_replica_found(copy) : 0), "total",
                     (json_int_t)(feature_block_count(info) * info->encoders), "blocks",
                     (json_int_t)p->blocks, "bytes", (json_int_t)p->bytes, "refused", (json_int_t)p->refused,
                     "replicas", (json_int_t)p->replicas, "said", p->said);
}
