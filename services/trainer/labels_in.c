#include "services/trainer/labels_in.h"

#include <errno.h>
#include <stdio.h>
#include "lib/daemon.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "lib/progress.h"
#include "services/trainer/trainer.h"

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct labels_in *l = arg;
    (void)from;
    (void)raw;
    (void)n_raw;
    if (env->body_case != XDC__ENVELOPE__BODY_LABEL_NOTICE)
        return;
    const Xdc__LabelNotice *n = env->label_notice;
    pthread_mutex_lock(&l->lock);
    if (l->state == LABELS_WANTED && n->round == l->round && n->features == l->features) {
        l->done = n->done;
        if (n->state == XDC__LABEL_NOTICE__STATE__READY) {
            l->table = n->table;
            l->state = LABELS_READY;
        } else if (n->state == XDC__LABEL_NOTICE__STATE__FAILED) {
            snprintf(l->detail, sizeof l->detail, "%s", n->detail);
            l->code = n->code < 0 ? n->code : XDC_EFORMAT;
            l->state = LABELS_FAILED;
        }
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
}

int labels_in_open(struct labels_in *l, struct trainer *t, struct err *e)
{
    *l = (struct labels_in){.trainer = t};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    char endpoint[CONF_STRING_MAX], id[64];
    snprintf(id, sizeof id, "trainer-%u-%016llx", t->meet.rank, (unsigned long long)t->incarnation);
    struct wire_options o = {.kind = WIRE_DEALER, .id = id, .on_message = on_message, .arg = l};
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
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
}

void labels_in_pump(struct labels_in *l)
{
    double now = progress_now_s();
    pthread_mutex_lock(&l->lock);
    bool wanted = l->state == LABELS_WANTED && now - l->asked_s >= 1.0;
    Xdc__LabelQuery query = XDC__LABEL_QUERY__INIT;
    query.round = l->round;
    query.features = l->features;
    if (wanted)
        l->asked_s = now;
    pthread_mutex_unlock(&l->lock);
    if (!wanted)
        return;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    env.run = l->trainer->run;
    env.body_case = XDC__ENVELOPE__BODY_LABEL_QUERY;
    env.label_query = &query;
    if (wire_send(l->wire, NULL, &env, NULL, 0) < 0)
        log_debug("the clusterer cannot be asked now");
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
    int rc = fs_path(path, e, "%s/labels/round-%04u.xdcl", t->conf.run.dir, round);
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

int labels_in_wait(struct labels_in *l, uint32_t round, uint64_t features, struct label_table **out,
                   struct err *e)
{
    struct trainer *t = l->trainer;
    struct err before = {0};
    /* After a restart the table is often there already. */
    if (labels_in_table(t, round, features, 0, out, &before) == 0)
        return 0;
    if (before.code != -ENOENT)
        log_warn("%s: it is not used, the clusterer is asked", before.msg);
    pthread_mutex_lock(&l->lock);
    l->state = LABELS_WANTED;
    l->round = round;
    l->features = features;
    l->asked_s = 0;
    l->done = 0;
    uv_async_send(&t->wake);
    while (l->state == LABELS_WANTED && !atomic_load(&t->stop))
        pthread_cond_wait(&l->changed, &l->lock);
    enum labels_state state = l->state;
    uint64_t hash = l->table;
    l->state = LABELS_IDLE;
    pthread_mutex_unlock(&l->lock);
    if (state == LABELS_FAILED)
        return err_set(e, l->code, "the clusterer has no labels for round %u: %s", round, l->detail);
    if (state != LABELS_READY)
        return err_set(e, XDC_ESTOPPED, "stopped while waiting for labels");
    int rc = labels_in_table(t, round, features, hash, out, e);
    if (rc < 0)
        return err_wrap(e, "labels of round %u", round);
    return 0;
}
