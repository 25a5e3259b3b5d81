#include "services/trainer/labels_in.h"

#include <errno.h>
#include <stdio.h>
#include "lib/daemon.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "lib/progress.h"
#include "services/trainer/trainer.h"

/* Without a piece for so many seconds the table is asked for again. */
#define SILENCE_S 3.0
#define AGAIN_S 0.5 /* after a piece that was refused */
#define TABLE_MAX ((uint64_t)1 << 40)

static void send_body(struct labels_in *l, Xdc__Envelope *env)
{
    env->run = l->trainer->run;
    if (wire_send(l->wire, NULL, env, NULL, 0) < 0)
        log_debug("the clusterer cannot be asked now");
}

/* Under the lock. */
static void request_pieces(struct labels_in *l)
{
    Xdc__TableRequest r = XDC__TABLE_REQUEST__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    r.round = l->round;
    r.features = l->features;
    r.table = l->table;
    r.offset = l->pull.at;
    r.count = FILE_WINDOW;
    l->pull_end = l->pull.at + FILE_WINDOW * FILE_PIECE_BYTES;
    l->asked_s = progress_now_s();
    env.body_case = XDC__ENVELOPE__BODY_TABLE_REQUEST;
    env.table_request = &r;
    send_body(l, &env);
}

/* Under the lock. */
static void fail(struct labels_in *l, int code, const char *detail)
{
    snprintf(l->detail, sizeof l->detail, "%.*s", (int)sizeof l->detail - 1, detail);
    l->code = code < 0 ? code : XDC_EFORMAT;
    l->state = LABELS_FAILED;
}

/* Under the lock. */
static void take_notice(struct labels_in *l, const Xdc__LabelNotice *n)
{
    if (l->state != LABELS_WANTED || n->round != l->round || n->features != l->features)
        return;
    l->done = n->done;
    if (n->state == XDC__LABEL_NOTICE__STATE__READY) {
        l->table = n->table;
        l->state = LABELS_READY;
    } else if (n->state == XDC__LABEL_NOTICE__STATE__FAILED) {
        fail(l, n->code, n->detail);
    }
    pthread_cond_broadcast(&l->changed);
}

/* Under the lock. A piece that is not the next one is late, or of another file. */
static void take_piece(struct labels_in *l, const Xdc__TableBlock *b, const struct wire_frame *raw,
                       size_t n_raw)
{
    struct err e = {0};
    if (l->state != LABELS_PULLING || b->round != l->round || b->table != l->table || b->offset < l->pull.at)
        return;
    if (b->size == 0) { /* a clusterer that was started anew has yet to look */
        l->state = LABELS_WANTED;
        pthread_cond_broadcast(&l->changed);
        return;
    }
    int rc = n_raw == 1 ? file_pull_put(&l->pull, b->offset, b->size, TABLE_MAX, raw[0].data, raw[0].size, &e)
                        : XDC_EFORMAT;
    if (rc == XDC_EFORMAT) {
        l->refused++;
        l->asked_s = progress_now_s() - SILENCE_S + AGAIN_S;
        /* What is there is of another file: the check finds it, and it is pulled anew. */
        if (b->size < l->pull.at || (l->pull.size && b->size != l->pull.size)) {
            l->state = LABELS_PULLED;
            pthread_cond_broadcast(&l->changed);
        }
        return;
    }
    l->asked_s = progress_now_s();
    if (rc < 0)
        fail(l, rc, e.msg);
    else if (file_pull_done(&l->pull))
        l->state = LABELS_PULLED;
    else if (l->pull.at >= l->pull_end)
        request_pieces(l);
    if (l->state != LABELS_PULLING)
        pthread_cond_broadcast(&l->changed);
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct labels_in *l = arg;
    (void)from;
    pthread_mutex_lock(&l->lock);
    if (env->body_case == XDC__ENVELOPE__BODY_LABEL_NOTICE)
        take_notice(l, env->label_notice);
    else if (env->body_case == XDC__ENVELOPE__BODY_TABLE_BLOCK)
        take_piece(l, env->table_block, raw, n_raw);
    pthread_mutex_unlock(&l->lock);
}

int labels_in_open(struct labels_in *l, struct trainer *t, struct err *e)
{
    *l = (struct labels_in){.trainer = t, .pull = {.fd = -1}};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    char endpoint[CONF_STRING_MAX], id[64];
    snprintf(id, sizeof id, "trainer-%u-%016llx", t->meet.rank, (unsigned long long)t->incarnation);
    struct wire_options o = {
        .kind = WIRE_DEALER, .id = id, .raw_frame_max = FILE_PIECE_BYTES, .on_message = on_message, .arg = l};
    int rc = daemon_endpoint(&t->conf, "labels", 0, endpoint, e);
    if (rc == 0)
        rc = wire_open(t->wires, &t->loop, &o, &l->wire, e);
    if (rc == 0)
        rc = wire_connect(l->wire, endpoint, e);
    return rc;
}

void labels_in_close(struct labels_in *l)
{
    wire_close(l->wire);
    l->wire = NULL;
    file_pull_close(&l->pull);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
}

/* Under the lock. */
static void ask_for_table(struct labels_in *l)
{
    Xdc__LabelQuery query = XDC__LABEL_QUERY__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    query.round = l->round;
    query.features = l->features;
    env.body_case = XDC__ENVELOPE__BODY_LABEL_QUERY;
    env.label_query = &query;
    l->asked_s = progress_now_s();
    send_body(l, &env);
}

void labels_in_pump(struct labels_in *l)
{
    double now = progress_now_s();
    pthread_mutex_lock(&l->lock);
    if (l->state == LABELS_WANTED && now - l->asked_s >= 1.0)
        ask_for_table(l);
    else if (l->state == LABELS_PULLING && (l->asked_s == 0 || now - l->asked_s >= SILENCE_S))
        request_pieces(l);
    pthread_mutex_unlock(&l->lock);
}

void labels_in_stop(struct labels_in *l)
{
    pthread_mutex_lock(&l->lock);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

/* What differs between a table and what is wanted, as "manifest: <there>, expected <wanted>"; empty: nothing.
 */
static void difference(const struct trainer *t, const struct label_info *i, const struct label_info *want,
                       char out[160])
{
    const struct {
        const char *what;
        unsigned long long there, wanted;
        bool decimal;
    } fields[] = {
        {"manifest", i->manifest, want->manifest, false},
        {"run", i->run, want->run, false},
        {"round", i->round, want->round, true},
        {"feature dump", i->features, want->features, false},
        {"number of clips", i->clips, want->clips, true},
        {"hash than the clusterer's table", i->hash, want->hash ? want->hash : i->hash, false},
    };
    out[0] = '\0';
    for (size_t f = 0; f < sizeof fields / sizeof fields[0] && !out[0]; f++)
        if (fields[f].there != fields[f].wanted)
            snprintf(out, 160,
                     fields[f].decimal ? "%s: %llu, expected %llu" : "%s: %016llx, expected %016llx",
                     fields[f].what, fields[f].there, fields[f].wanted);
    for (uint32_t s = 0; s < i->sources && !out[0]; s++)
        if (i->source[s].k != (uint64_t)t->conf.cluster.k)
            snprintf(out, 160, "k: source %s has %u classes, cluster.k is %lld", i->source[s].name,
                     i->source[s].k, (long long)t->conf.cluster.k);
}

int labels_in_table(const struct trainer *t, uint32_t round, uint64_t features, uint64_t hash,
                    struct label_table **out, struct err *e)
{
    char path[PATH_MAX], differs[160];
    const struct label_info want = {.manifest = t->manifest_id,
                                    .run = t->run,
                                    .round = round,
                                    .features = features,
                                    .clips = t->set.videos * t->set.clips_per_video,
                                    .hash = hash};
    int rc = label_table_path(t->conf.run.dir, round, path, e);
    if (rc == 0)
        rc = label_table_open(path, out, e);
    if (rc < 0)
        return rc;
    difference(t, label_table_info(*out), &want, differs);
    if (!differs[0])
        return 0;
    label_table_close(*out);
    *out = NULL;
    return err_set(e, XDC_EMISMATCH, "%s is of another %s", path, differs);
}

/* Training thread, with the lock: waits while the state is `state`; XDC_ESTOPPED, or the clusterer's failure.
 */
static int wait_while(struct labels_in *l, enum labels_state state, struct err *e)
{
    while (l->state == state && !atomic_load(&l->trainer->stop) && !atomic_load(&l->trainer->lost))
        pthread_cond_wait(&l->changed, &l->lock);
    if (l->state == LABELS_FAILED)
        return err_set(e, l->code, "the clusterer has no labels for round %u: %s", l->round, l->detail);
    return l->state == state ? err_set(e, XDC_ESTOPPED, "stopped while waiting for labels") : 0;
}

/* The file under its temporary name, from the pieces; 1: the clusterer has to be asked anew. With the lock.
 */
static int pull_pieces(struct labels_in *l, struct err *e)
{
    char path[PATH_MAX], dir[PATH_MAX];
    int rc = fs_path(dir, e, "%s/labels", l->trainer->conf.run.dir);
    if (rc == 0)
        rc = fs_mkdirs(dir, e);
    if (rc == 0) /* of this table and rank alone: what is there may be gone on with */
        rc = fs_path(path, e, "%s/round-%04u.%016llx.rank-%u.part", dir, l->round,
                     (unsigned long long)l->table, l->trainer->meet.rank);
    if (rc == 0)
        rc = file_pull_open(&l->pull, path, e);
    if (rc < 0)
        return rc;
    l->state = LABELS_PULLING;
    l->asked_s = 0;
    uv_async_send(&l->trainer->wake);
    rc = wait_while(l, LABELS_PULLING, e);
    if (rc < 0 || l->state != LABELS_PULLED)
        file_pull_close(&l->pull);
    return rc < 0 ? rc : l->state != LABELS_PULLED;
}

/* Gives the pulled file its name when it is the table that was announced; XDC_EFORMAT: it is not, and is
 * gone. The loop has done with the pull. */
static int publish_pulled(struct labels_in *l, struct err *e)
{
    char path[PATH_MAX];
    struct label_table *t;
    int rc = label_table_open(l->pull.path, &t, e);
    bool same = rc == 0 && label_table_info(t)->hash == l->table;
    if (rc == 0)
        label_table_close(t);
    if (!same) {
        file_pull_discard(&l->pull);
        return rc < 0 && rc != XDC_EFORMAT ? rc
                                           : err_set(e, XDC_EFORMAT,
                                                     "the table of round %u that came is not "
                                                     "the one that was announced",
                                                     l->round);
    }
    rc = label_table_path(l->trainer->conf.run.dir, l->round, path, e);
    return rc < 0 ? rc : file_pull_publish(&l->pull, path, e);
}

/* With the lock, which is let go while the file is checked. */
static int pull_table(struct labels_in *l, struct err *e)
{
    int rc = XDC_EFORMAT;
    for (int i = 0; rc == XDC_EFORMAT && i < LABELS_PULL_TRIES; i++) {
        rc = pull_pieces(l, e);
        if (rc != 0)
            break;
        pthread_mutex_unlock(&l->lock);
        rc = publish_pulled(l, e);
        if (rc < 0)
            log_warn("%s", e->msg);
        else
            log_info("round %u: the label table came over the edge", l->round);
        pthread_mutex_lock(&l->lock);
    }
    return rc;
}

/* With the lock: asks until there is a table, and pulls it where it is not in the run's directory. */
static int await_table(struct labels_in *l, struct label_table **out, struct err *e)
{
    struct trainer *t = l->trainer;
    int rc = 1;
    while (rc == 1) {
        l->state = LABELS_WANTED;
        l->asked_s = 0;
        l->done = 0;
        uv_async_send(&t->wake);
        rc = wait_while(l, LABELS_WANTED, e);
        if (rc == 0 && labels_in_table(t, l->round, l->features, l->table, out, NULL) == 0)
            return 0;
        if (rc == 0)
            rc = pull_table(l, e);
    }
    if (rc == 0)
        rc = labels_in_table(t, l->round, l->features, l->table, out, e);
    if (rc < 0 && rc != XDC_ESTOPPED && l->state != LABELS_FAILED)
        err_wrap(e, "labels of round %u", l->round);
    return rc;
}

int labels_in_wait(struct labels_in *l, uint32_t round, uint64_t features, struct label_table **out,
                   struct err *e)
{
    struct err before = {0};
    /* After a restart the table is often there already. */
    if (labels_in_table(l->trainer, round, features, 0, out, &before) == 0)
        return 0;
    if (before.code != -ENOENT)
        log_warn("%s: it is not used, the clusterer is asked", before.msg);
    pthread_mutex_lock(&l->lock);
    l->round = round;
    l->features = features;
    int rc = await_table(l, out, e);
    l->state = LABELS_IDLE;
    pthread_mutex_unlock(&l->lock);
    return rc;
}
