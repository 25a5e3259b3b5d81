/* PHASE_EXTRACT: the features of every clip of the set, in clip order, into the round's dump, a shard from
 * each rank. With train.harvest the last epoch has left those of most clips: the others alone are computed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/feature_dump.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "services/trainer/train_dump.h"
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

struct extract {
    struct train_loop *l;
    struct train_dump dump;
    uint32_t dims[NET_ENCODERS];
    uint32_t *rows;           /* owned; [batch] */
    float *out[NET_ENCODERS]; /* owned; [batch, dim] */
    struct features_share share;
    struct harvest *harvest;     /* owned; NULL: every clip is computed */
    uint64_t *missing;           /* owned; the share's clips without a row in it, in clip order */
    uint64_t n_missing, skipped; /* skipped: of them, those before `place` */
    uint64_t place;              /* of the share: what was harvested before it is in the dump */
    uint64_t resumed, twice;     /* clips computed by an earlier process; of them, those computed again */
    uint32_t group;              /* the pass that is made */
    struct health_range range[NET_ENCODERS];
};

static uint32_t check_quarantine(void *arg, uint32_t stream, uint64_t clip)
{
    struct trainer *t = arg;
    (void)stream;
    if (!leases_out_has_clip(&t->leases, clip))
        return LEDGER_UNLABELLED; /* any hole: the extraction keeps no ledger */
    return quarantine_reason(&t->quarantine, clip) ? LEDGER_QUARANTINED : 0;
}

/* The quarantine as it is when a dump is sealed lies beside it: a resume that reuses the dump knows what it
 * knew. */
static int quarantine_path(const struct train_loop *l, char path[PATH_MAX], struct err *e)
{
    return fs_path(path, e, "%s/features/round-%04u/quarantine-%u.json", l->t->conf.run.dir, l->state.round,
                   l->t->meet.rank);
}

static int save_quarantine(struct train_loop *l, struct err *e)
{
    char path[PATH_MAX];
    json_t *j = quarantine_to_json(&l->t->quarantine);
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    int rc = text ? quarantine_path(l, path, e) : err_sys(e, ENOMEM, "quarantine");
    if (rc == 0)
        rc = fs_write_atomic(path, text, strlen(text), e);
    free(text);
    return rc;
}

static int load_quarantine(struct train_loop *l, struct err *e)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t size;
    int rc = quarantine_path(l, path, e);
    if (rc == 0)
        rc = fs_read(path, (size_t)1 << 30, &text, &size, e);
    if (rc < 0)
        return rc;
    json_t *j = json_loads(text, 0, NULL);
    free(text);
    rc = quarantine_from_json(&l->t->quarantine, j, e);
    json_decref(j);
    return rc;
}

/* 1 when this rank's shard was sealed before an interruption by these very weights; one by others, or of
 * other ranks, moves out of the way. */
static int reuse(struct train_loop *l, const char *dir, uint64_t weights, uint64_t heads, uint64_t *out_hash,
                 struct err *e)
{
    struct features_share share = features_out_share(l->t);
    struct feature_store *s = NULL;
    int rc = feature_store_open(dir, &s, e);
    if (rc == -ENOENT)
        return 0;
    if (rc == 0) {
        const struct feature_info *i = feature_store_info(s);
        bool same = i->weights == weights && i->heads == heads && i->run == l->t->run &&
                    i->manifest == l->t->manifest_id && i->ranks == l->t->meet.world &&
                    i->first == share.first_row && i->rows == share.rows;
        if (same)
            *out_hash = i->hash;
        feature_store_close(s);
        if (same && load_quarantine(l, e) == 0)
            return 1;
    }
    log_warn("%s is not of these weights: it is extracted anew", dir);
    return fs_remove_tree(dir, e);
}

static int put_row(struct extract *x, uint64_t clip, const float *video, const float *audio, struct err *e)
{
    const float *const row[NET_ENCODERS] = {video, audio};
    int rc = 0;
    if (clip < x->dump.from) {
        x->twice++;
        return 0;
    }
    for (unsigned enc = 0; rc == 0 && enc < NET_ENCODERS; enc++) {
        if (!trainer_wants(x->l->t, (enum net_encoder)enc))
            continue;
        health_range_add(&x->range[enc], row[enc], 1);
        rc = train_dump_put(&x->dump, NET_ENCODERS * x->group + enc, clip, row[enc], e);
    }
    return rc;
}

/* A row of the harvest; reading may take long, so that it can be stopped. 1, 0 without one. */
static int harvested(const struct extract *x, uint64_t clip, const float **out, struct err *e)
{
    if (atomic_load(&x->l->t->stop))
        return err_set(e, XDC_ESTOPPED, "stopped");
    return harvest_get(x->harvest, clip, out, e);
}

/* Finds what the harvest lacks of this rank's share. */
static int list_missing(struct extract *x, struct err *e)
{
    struct train_loop *l = x->l;
    int rc = train_harvest_read(l, &x->harvest, e);
    if (rc < 0 || !x->harvest)
        return rc;
    x->missing = malloc((x->share.n ? x->share.n : 1) * sizeof *x->missing);
    if (!x->missing)
        return err_sys(e, ENOMEM, "clips to extract");
    for (uint64_t i = 0; i < x->share.n; i++) {
        const float *row;
        uint64_t clip = clip_set_at(&l->t->set, x->share.first + i);
        rc = quarantine_reason(&l->t->quarantine, clip) ? 0 : harvested(x, clip, &row, e);
        if (rc < 0)
            return rc;
        if (rc == 0)
            x->missing[x->n_missing++] = clip;
    }
    log_info("round %u: features of %llu of %llu clips are harvested", l->state.round,
             (unsigned long long)(x->share.n - x->n_missing), (unsigned long long)x->share.n);
    return 0;
}

/* Puts what was harvested of clips before this one. */
static int put_harvested(struct extract *x, uint64_t before, struct err *e)
{
    size_t audio = x->dims[NET_VIDEO]; /* its place in a row */
    for (; x->harvest && x->place < x->share.n; x->place++) {
        const float *row;
        uint64_t clip = clip_set_at(&x->l->t->set, x->share.first + x->place);
        if (clip >= before)
            break;
        if (x->skipped < x->n_missing && x->missing[x->skipped] == clip) {
            x->skipped++;
            continue;
        }
        int rc = harvested(x, clip, &row, e);
        if (rc == 0)
            rc = err_set(e, XDC_EFORMAT, "the harvested row of clip %llu has changed",
                         (unsigned long long)clip);
        if (rc > 0)
            rc = put_row(x, clip, row, row + audio, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Of a batch's n rows, moved to the front, and what was harvested of clips before them. */
static int put_batch(struct extract *x, const struct batch *b, uint32_t n, struct err *e)
{
    int rc = 0;
    for (unsigned enc = 0; rc == 0 && n > 0 && enc < NET_ENCODERS; enc++) {
        if (!trainer_wants(x->l->t, (enum net_encoder)enc))
            continue;
        struct net_batch in = {.n = n, .data = train_rows(x->l, (enum net_encoder)enc, &b->stream[0])};
        rc = net_features(x->l->net, (enum net_encoder)enc, &in, x->out[enc], e);
    }
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        uint64_t clip = b->stream[0].slots[x->rows[i]].clip;
        rc = put_harvested(x, clip, e);
        if (rc == 0)
            rc = put_row(x, clip, x->out[NET_VIDEO] + (size_t)i * x->dims[NET_VIDEO],
                         x->out[NET_AUDIO] + (size_t)i * x->dims[NET_AUDIO], e);
    }
    return rc;
}

static int extract_batches(struct extract *x, const struct plan *plan, struct err *e)
{
    struct train_loop *l = x->l;
    struct trainer *t = l->t;
    struct batch *b;
    int rc;
    uint64_t seen = x->share.n * (x->group + 1) - plan->positions + plan->first_batch * plan->batch;
    while ((rc = batcher_take(&t->batcher, &b)) == 0) {
        rc = train_note_batch(l, plan, b, e);
        if (rc == 0)
            rc = train_dump_note(&x->dump, &b->stream[0], b->n, e);
        uint32_t n =
            train_compact(t, &b->stream[0], b->n, plan->stream[0].video, plan->stream[0].audio, x->rows);
        if (rc == 0)
            rc = put_batch(x, b, n, e);
        train_show_done(l, seen += b->n);
        batcher_give(&t->batcher, b);
        if (rc < 0)
            return rc;
    }
    return rc < 0 ? err_set(e, rc, "stopped") : put_harvested(x, UINT64_MAX, e);
}

/* The first batch that has a clip which is not in the dump: what comes before it is not decoded again, and
 * the batches stay the same. */
static uint64_t first_batch(struct extract *x, uint32_t batch)
{
    uint64_t before = 0, end = x->share.n;
    while (before < end) {
        uint64_t mid = before + (end - before) / 2;
        if (clip_set_at(&x->l->t->set, x->share.first + mid) < x->dump.from)
            before = mid + 1;
        else
            end = mid;
    }
    x->resumed += x->dump.kept;
    if (!x->harvest)
        return before / batch;
    x->place = before;
    while (x->skipped < x->n_missing && x->missing[x->skipped] < x->dump.from)
        x->skipped++;
    x->resumed -= x->dump.kept ? x->place - x->skipped : 0;
    return x->skipped / batch;
}

/* One pass over the share: of the evaluation crop, or of its group's own augmentation. */
static int extract_pass(struct extract *x, struct err *e)
{
    struct train_loop *l = x->l;
    struct trainer *t = l->t;
    struct draw draw;
    bool augmented = l->method->groups > 0;
    if (x->harvest)
        draw_init_listed(&draw, x->missing);
    else
        draw_init_clip_order(&draw, &t->set, x->share.first);
    struct plan plan = {.phase = PHASE_EXTRACT,
                        .round = l->state.round,
                        .epoch = x->group,
                        .streams = 1,
                        .stream = {train_stream(l, true, true, &draw)},
                        .positions = x->harvest ? x->n_missing : x->share.n,
                        .batch = (uint32_t)t->conf.train.batch / t->meet.world,
                        .recipe = augmented ? t->recipe_train : t->recipe_eval,
                        .check = check_quarantine,
                        .arg = t};
    plan.stream[0].augment = AUGMENT_EXTRACT;
    train_dump_enter(&x->dump, x->group);
    plan.first_batch = first_batch(x, plan.batch);
    batcher_begin(&t->batcher, &plan);
    int rc = extract_batches(x, &plan, e);
    batcher_end(&t->batcher);
    return rc;
}

static int extract_shard(struct extract *x, uint64_t weights, uint64_t heads, struct err *e)
{
    struct train_loop *l = x->l;
    uint32_t passes = l->method->groups > 0 ? l->method->groups : 1;
    x->share = features_out_share(l->t);
    int rc = list_missing(x, e);
    if (rc == 0)
        rc = train_dump_begin(&x->dump, l, weights, heads, x->dims, e);
    if (rc < 0)
        return rc;
    train_show_phase(l, x->harvest ? x->share.n - x->n_missing : 0, x->share.n * passes);
    for (; rc == 0 && x->group < passes; x->group++)
        rc = extract_pass(x, e);
    return rc == 0 ? save_quarantine(l, e) : rc;
}

/* *out is the hash of the heads with which labels are made of the features, 0 where they are not: rank 0
 * writes them. */
static int write_heads(struct train_loop *l, uint64_t *out, struct err *e)
{
    uint64_t hashes[CONF_RANKS_MAX] = {0};
    *out = 0;
    if (l->method->groups == 0)
        return 0;
    int rc = l->t->meet.rank == 0 ? features_out_heads(l->t, l->net, l->state.round, out, e) : 0;
    if (rc == 0)
        rc = net_gather(l->net, out, sizeof *out, hashes, e);
    *out = hashes[0];
    return rc;
}

/* Seals this rank's shard, where there is one to seal, when a resume would find the weights that made it.
 * With all shards sealed the dump is there, and what was harvested for it has served. */
static int seal(struct extract *x, uint64_t hash, struct err *e)
{
    struct train_loop *l = x->l;
    uint64_t hashes[CONF_RANKS_MAX];
    int rc = train_checkpoint_wait(l, e);
    if (rc == 0)
        rc = train_barrier(l, e);
    if (rc == 0 && x->dump.writer)
        rc = train_dump_seal(&x->dump, &hash, e);
    for (unsigned i = 0; rc == 0 && x->dump.writer && i < NET_ENCODERS; i++) {
        if (!trainer_wants(l->t, (enum net_encoder)i))
            continue;
        rc = train_dump_add_kept(&x->dump, (enum net_encoder)i, &x->range[i], e);
        if (rc == 0)
            rc = train_warn_features(l, (enum net_encoder)i, &x->range[i], e);
    }
    if (rc == 0)
        rc = net_gather(l->net, &hash, sizeof hash, hashes, e);
    if (rc == 0)
        l->state.features = feature_dump_hash(hashes, l->t->meet.world);
    if (rc == 0 && l->t->meet.rank == 0)
        rc = harvest_remove(l->t->conf.run.dir, e);
    return rc;
}

static int open_extract(struct extract *x, struct err *e)
{
    size_t batch = (size_t)x->l->t->conf.train.batch;
    x->rows = malloc(batch * sizeof *x->rows);
    bool good = x->rows;
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        x->dims[i] = net_feature_dim(x->l->net, (enum net_encoder)i);
        x->out[i] = malloc(batch * x->dims[i] * sizeof *x->out[i]);
        good = good && x->out[i];
    }
    int rc = good ? 0 : err_sys(e, ENOMEM, "features");
    for (unsigned i = 0; rc == 0 && i < NET_ENCODERS; i++)
        rc = health_range_init(&x->range[i], x->dims[i], e);
    return rc;
}

static void close_extract(struct extract *x)
{
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        health_range_close(&x->range[i]);
        free(x->out[i]);
    }
    train_dump_close(&x->dump);
    harvest_close(x->harvest);
    free(x->missing);
    free(x->rows);
}

/* This rank's part; whether it was there already or not, all ranks seal together. */
static int extract(struct extract *x, struct err *e)
{
    struct train_loop *l = x->l;
    char dir[PATH_MAX];
    uint64_t weights, heads, hash = 0;
    int rc = features_out_dir(l->t, l->state.round, dir, e);
    if (rc == 0)
        rc = net_hash(l->net, &weights, e);
    if (rc == 0)
        rc = write_heads(l, &heads, e);
    if (rc == 0)
        rc = reuse(l, dir, weights, heads, &hash, e);
    if (rc == 0)
        rc = extract_shard(x, weights, heads, e);
    return rc < 0 ? rc : seal(x, hash, e);
}

int train_extract(struct train_loop *l, struct err *e)
{
    struct extract x = {.l = l};
    int rc = 0;
    if (l->t->conf.train.recalibrate && l->state.round > 0)
        rc = train_measure_warm(l, e);
    if (rc == 0)
        rc = open_extract(&x, e);
    if (rc == 0)
        rc = extract(&x, e);
    bool extracted = x.dump.writer != NULL;
    json_int_t kept = x.harvest ? (json_int_t)(x.share.n - x.n_missing) : 0;
    close_extract(&x);
    if (rc == 0)
        rc = train_merge_quarantine(l, e);
    double seconds = progress_now_s() - l->phase_start_s;
    if (rc == 0 && extracted)
        rc = events_write(&l->events, "extract",
                          json_pack("{s:i, s:I, s:I, s:I, s:f, s:f}", "round", (int)l->state.round, "clips",
                                    (json_int_t)(x.resumed + l->phase_clips - x.twice), "resumed",
                                    (json_int_t)x.resumed, "harvested", kept, "seconds", seconds,
                                    "clips_per_s", (double)l->phase_clips / seconds),
                          e);
    if (rc < 0)
        return err_wrap(e, "extract features of round %u", l->state.round);
    features_out_sealed(&l->t->features, l->state.round, l->state.features);
    return 0;
}
