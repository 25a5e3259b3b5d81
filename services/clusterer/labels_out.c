#include "services/clusterer/labels_out.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/daemon.h"
#include "lib/file_pull.h"
#include "lib/fsutil.h"
#include "lib/label_table.h"
#include "lib/log.h"
#include "services/clusterer/clusterer.h"

static bool same_peer(const struct wire_peer *a, const struct wire_peer *b)
{
    return a->size == b->size && memcmp(a->id, b->id, a->size) == 0;
}

static void forget(struct labels_out *l, uint32_t i)
{
    l->n_peers--;
    memmove(l->peers + i, l->peers + i + 1, (l->n_peers - i) * sizeof l->peers[0]);
}

/* Puts the peer last, so that the first is the longest silent. */
static void remember(struct labels_out *l, const struct wire_peer *from)
{
    for (uint32_t i = 0; i < l->n_peers; i++)
        if (same_peer(&l->peers[i], from)) {
            forget(l, i);
            break;
        }
    if (l->n_peers == LABELS_PEERS_MAX)
        forget(l, 0);
    l->peers[l->n_peers++] = *from;
}

static int send_notice(struct labels_out *l, const struct wire_peer *to, uint32_t round, uint64_t features,
                       const struct round_entry *entry)
{
    static const Xdc__LabelNotice__State states[] = {
        [ROUND_WAITING] = XDC__LABEL_NOTICE__STATE__UNKNOWN,
        [ROUND_WORKING] = XDC__LABEL_NOTICE__STATE__WORKING,
        [ROUND_READY] = XDC__LABEL_NOTICE__STATE__READY,
        [ROUND_FAILED] = XDC__LABEL_NOTICE__STATE__FAILED,
    };
    Xdc__LabelNotice notice = XDC__LABEL_NOTICE__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    char detail[sizeof entry->detail] = "";
    notice.round = round;
    notice.features = features;
    notice.detail = detail;
    if (entry) {
        notice.state = states[entry->state];
        notice.table = entry->state == ROUND_READY ? entry->table : 0;
        notice.done = entry->state == ROUND_WORKING ? clusterer_done(l->clusterer) : 0;
        if (entry->state == ROUND_FAILED) {
            memcpy(detail, entry->detail, sizeof detail);
            notice.code = entry->code;
        }
    }
    env.run = l->clusterer->run;
    env.body_case = XDC__ENVELOPE__BODY_LABEL_NOTICE;
    env.label_notice = &notice;
    return wire_send(l->wire, to, &env, NULL, 0);
}

static void refuse(struct labels_out *l, const struct wire_peer *to, uint64_t run)
{
    char reason[256];
    Xdc__Refused refused = XDC__REFUSED__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    snprintf(reason, sizeof reason,
             "this clusterer serves run %016" PRIx64 ", not %016" PRIx64 ": give both the same configuration",
             l->clusterer->run, run);
    refused.reason = reason;
    env.run = l->clusterer->run;
    env.body_case = XDC__ENVELOPE__BODY_REFUSED;
    env.refused = &refused;
    if (wire_send(l->wire, to, &env, NULL, 0) < 0)
        log_debug("a refusal was not sent");
}

/* A dump that could not be opened has no hash; what is known of it answers any question about its round,
 * unless nobody has had the time to see whether it is still the same dump. */
static const struct round_entry *entry_for(struct labels_out *l, uint32_t round, uint64_t features)
{
    const struct round_entry *failed = features_pull_failed(&l->clusterer->features.pull, round);
    if (failed)
        return failed;
    const struct round_entry *entry = rounds_find(&l->clusterer->rounds, round);
    if (!entry || entry->features == features)
        return entry;
    return entry->state == ROUND_FAILED && entry->features == 0 && !l->clusterer->working ? entry : NULL;
}

static void answer_query(struct labels_out *l, const struct wire_peer *from, const Xdc__LabelQuery *q)
{
    remember(l, from);
    const struct round_entry *entry = entry_for(l, q->round, q->features);
    if (!entry || entry->features != q->features) { /* somebody knows of a dump that this side has not seen */
        clusterer_look(l->clusterer);
        entry = entry_for(l, q->round, q->features);
    }
    if (send_notice(l, from, q->round, q->features, entry) < 0)
        log_debug("an answer about round %u was not sent; it will be asked again", q->round);
}

/* The table that was asked for, as it lies on disk; of no size where this is not the one. */
static int send_piece(struct labels_out *l, const struct wire_peer *to, const Xdc__TableRequest *r,
                      uint64_t offset, size_t *out_n)
{
    Xdc__TableBlock block = XDC__TABLE_BLOCK__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    const struct round_entry *entry = rounds_find(&l->clusterer->rounds, r->round);
    bool ready =
        entry && entry->state == ROUND_READY && entry->features == r->features && entry->table == r->table;
    char path[PATH_MAX];
    struct err e = {0};
    *out_n = 0;
    if (ready && (label_table_path(l->clusterer->conf.run.dir, r->round, path, &e) < 0 ||
                  file_piece_read(path, offset, l->piece, out_n, &block.size, &e) < 0))
        log_warn("the table of round %u cannot be sent: %s", r->round, e.msg);
    block.round = r->round;
    block.table = r->table;
    block.offset = offset;
    env.run = l->clusterer->run;
    env.body_case = XDC__ENVELOPE__BODY_TABLE_BLOCK;
    env.table_block = &block;
    struct wire_part part = {.data = l->piece, .size = *out_n};
    return wire_send(l->wire, to, &env, &part, 1);
}

/* A window of pieces at most; the trainer asks for the next one when it has them. */
static void answer_request(struct labels_out *l, const struct wire_peer *from, const Xdc__TableRequest *r)
{
    uint64_t offset = r->offset;
    size_t n = FILE_PIECE_BYTES;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < r->count && i < FILE_WINDOW && n == FILE_PIECE_BYTES; i++) {
        rc = send_piece(l, from, r, offset, &n);
        offset += n;
    }
    if (rc < 0)
        log_debug("a table was not sent; it will be asked for again");
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct labels_out *l = arg;
    (void)raw;
    (void)n_raw;
    bool query = env->body_case == XDC__ENVELOPE__BODY_LABEL_QUERY;
    if (!query && env->body_case != XDC__ENVELOPE__BODY_TABLE_REQUEST)
        return;
    if (env->run != l->clusterer->run)
        refuse(l, from, env->run);
    else if (query)
        answer_query(l, from, env->label_query);
    else
        answer_request(l, from, env->table_request);
}

int labels_out_open(struct labels_out *l, struct clusterer *c, struct err *e)
{
    char endpoint[CONF_STRING_MAX];
    struct wire_options o = {.kind = WIRE_ROUTER, .on_message = on_message, .arg = l};
    l->clusterer = c;
    l->piece = malloc(FILE_PIECE_BYTES);
    if (!l->piece)
        return err_sys(e, ENOMEM, "serve label tables");
    int rc = daemon_endpoint(&c->conf, "labels", 0, endpoint, e);
    if (rc == 0)
        rc = wire_open(c->wires, &c->loop, &o, &l->wire, e);
    if (rc == 0)
        rc = wire_bind(l->wire, endpoint, e);
    return rc;
}

void labels_out_close(struct labels_out *l)
{
    wire_close(l->wire);
    l->wire = NULL;
    free(l->piece);
    l->piece = NULL;
}

void labels_out_publish(struct labels_out *l, const struct round_entry *entry)
{
    for (uint32_t i = l->n_peers; i-- > 0;)
        if (send_notice(l, &l->peers[i], entry->round, entry->features, entry) < 0)
            forget(l, i); /* gone; who comes back asks again */
}
