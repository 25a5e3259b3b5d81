/* What the encoders make of the hold-out, after each epoch, and which of them stop for the round. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lib/log.h"
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

/* A pass over the hold-out. What it finds are sums over clips. */
struct pass {
    struct train_loop *l;
    struct net_score score[NET_ENCODERS];
    uint32_t *rows;               /* owned; [batch] */
    int64_t *labels[TARGETS_MAX]; /* owned; [batch] */
};

bool train_learns(const struct train_loop *l, enum net_encoder enc)
{
    return trainer_wants(l->t, enc) && l->method->heads[enc] > 0 && !l->state.early[enc].stopped;
}

static uint32_t check_clip(void *arg, uint32_t stream, uint64_t clip)
{
    const struct pass *v = arg;
    const struct train_loop *l = v->l;
    bool labelled = false;
    (void)stream;
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++)
        if (train_learns(l, (enum net_encoder)enc))
            labelled |= targets_labelled(&l->targets, (enum net_encoder)enc, clip);
    if (quarantine_reason(&l->t->quarantine, clip))
        return LEDGER_QUARANTINED;
    return labelled ? 0 : LEDGER_UNLABELLED;
}

static int score_batch(struct pass *v, const struct plan *plan, struct batch *b, struct err *e)
{
    struct train_loop *l = v->l;
    struct batch_stream *s = &b->stream[0];
    int rc = train_note_batch(l, plan, b, e);
    uint32_t n = train_compact(l->t, s, b->n, plan->stream[0].video, plan->stream[0].audio, v->rows);
    for (unsigned enc = 0; rc == 0 && n > 0 && enc < NET_ENCODERS; enc++) {
        if (!train_learns(l, (enum net_encoder)enc))
            continue;
        for (uint32_t h = 0; h < l->method->heads[enc]; h++)
            for (uint32_t i = 0; i < n; i++) {
                uint32_t label =
                    targets_label(&l->targets, (enum net_encoder)enc, h, s->slots[v->rows[i]].clip);
                v->labels[h][i] = label == LABEL_NONE ? -1 : (int64_t)label;
            }
        struct net_batch in = {n, train_rows(l, (enum net_encoder)enc, s)};
        rc = net_evaluate(l->net, (enum net_encoder)enc, &in, (const int64_t *const *)v->labels,
                          &v->score[enc], e);
    }
    return rc;
}

/* Over all ranks. */
static int sum_scores(struct pass *v, struct err *e)
{
    double sums[NET_ENCODERS][TARGETS_MAX][3];
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++)
        for (unsigned h = 0; h < TARGETS_MAX; h++) {
            const struct net_score *s = &v->score[enc];
            const double mine[3] = {s->loss[h], (double)s->correct[h], (double)s->labelled[h]};
            memcpy(sums[enc][h], mine, sizeof mine);
        }
    int rc = train_sum(v->l, &sums[0][0][0], sizeof sums / sizeof(double), e);
    for (unsigned enc = 0; rc == 0 && enc < NET_ENCODERS; enc++)
        for (unsigned h = 0; h < TARGETS_MAX; h++) {
            v->score[enc].loss[h] = sums[enc][h][0];
            v->score[enc].correct[h] = (uint64_t)sums[enc][h][1];
            v->score[enc].labelled[h] = (uint64_t)sums[enc][h][2];
        }
    return rc;
}

static void show_validating(struct train_loop *l, uint64_t total)
{
    train_show_phase(l, 0, total);
    pthread_mutex_lock(&l->t->shared.lock);
    l->t->shared.phase = PHASE_VALIDATE;
    pthread_mutex_unlock(&l->t->shared.lock);
}

/* Positions have a phase of their own: a sample that comes late for the epoch is none of these. */
static int score_clips(struct pass *v, struct err *e)
{
    struct train_loop *l = v->l;
    struct trainer *t = l->t;
    struct draw draw;
    struct batch *b;
    draw_init_clip_order(&draw, &t->held, 0);
    struct plan plan = {
        .phase = PHASE_VALIDATE,
        .round = l->state.round,
        .epoch = l->state.epoch,
        .streams = 1,
        .stream = {train_stream(l, train_learns(l, NET_VIDEO), train_learns(l, NET_AUDIO), &draw)},
        .positions = clip_set_size(&t->held),
        .batch = (uint32_t)t->conf.train.batch,
        .rank = t->meet.rank,
        .world = t->meet.world,
        .recipe = t->recipe_eval,
        .check = check_clip,
        .arg = v};
    int rc;
    show_validating(l, plan.positions);
    batcher_begin(&t->batcher, &plan);
    while ((rc = train_take(l, &b, e)) == 0) {
        rc = score_batch(v, &plan, b, e);
        train_show_done(l, b->end);
        batcher_give(&t->batcher, b);
        if (rc < 0)
            break;
    }
    batcher_end(&t->batcher);
    return rc < 0 ? rc : sum_scores(v, e);
}

/* Means over the heads that had labels; not measured without one. */
static void mean_of(const struct pass *v, enum net_encoder enc, struct validation *out)
{
    const struct net_score *s = &v->score[enc];
    uint32_t heads = 0;
    for (uint32_t h = 0; h < v->l->method->heads[enc]; h++) {
        if (s->labelled[h] == 0)
            continue;
        out->loss[enc] += s->loss[h] / (double)s->labelled[h];
        out->accuracy[enc] += (double)s->correct[h] / (double)s->labelled[h];
        heads++;
    }
    out->measured[enc] = heads > 0 && isfinite(out->loss[enc]);
    out->loss[enc] /= heads > 0 ? heads : 1;
    out->accuracy[enc] /= heads > 0 ? heads : 1;
}

static struct early_stop_rule rule_of(const struct conf *c)
{
    double period = c->train.early_stop_epochs ? (double)c->train.early_stop_epochs : c->train.step_epochs;
    return (struct early_stop_rule){.least = c->train.early_stop,
                                    .warmup = (uint32_t)ceil(c->train.warmup_epochs),
                                    .period = (uint32_t)ceil(period)};
}

/* Decides with the epoch's loss; says so when the encoder stops. */
static int decide(struct train_loop *l, enum net_encoder enc, const struct validation *v, struct err *e)
{
    const struct conf *c = &l->t->conf;
    struct early_stop_rule rule = rule_of(c);
    struct early_stop *s = &l->state.early[enc];
    double before = s->before;
    if (!v->measured[enc])
        log_warn("round %u epoch %u: the %s encoder has no finite loss on the hold-out", l->state.round,
                 l->state.epoch, train_encoder(l, enc));
    if (!early_stop_note(s, &rule, l->state.epoch + 1, v->measured[enc] ? v->loss[enc] : NAN))
        return 0;
    log_info("round %u: the %s encoder stops after epoch %u: its best loss on the hold-out fell from %.4f to "
             "%.4f in %u epochs, less than train.early_stop = %g",
             l->state.round, train_encoder(l, enc), l->state.epoch, before, s->best, rule.period,
             c->train.early_stop);
    return events_write(&l->events, "early_stop",
                        json_pack("{s:s, s:i, s:i, s:f, s:f}", "encoder", train_encoder(l, enc), "round",
                                  (int)l->state.round, "epoch", (int)l->state.epoch, "before", before, "best",
                                  s->best),
                        e);
}

static int pass_open(struct pass *v, struct train_loop *l, struct err *e)
{
    size_t n = (size_t)l->t->conf.train.batch;
    *v = (struct pass){.l = l, .rows = malloc(n * sizeof *v->rows)};
    bool good = v->rows;
    for (unsigned h = 0; h < TARGETS_MAX; h++) {
        v->labels[h] = malloc(n * sizeof *v->labels[h]);
        good = good && v->labels[h];
    }
    return good ? 0 : err_sys(e, ENOMEM, "validation");
}

int train_validate(struct train_loop *l, struct validation *out, struct err *e)
{
    struct pass v;
    double clips = l->clips; /* the phase's rate is that of its training */
    *out = (struct validation){0};
    if (clip_set_size(&l->t->held) == 0)
        return 0;
    int rc = pass_open(&v, l, e);
    if (rc == 0)
        rc = score_clips(&v, e);
    l->clips = clips;
    for (unsigned enc = 0; rc == 0 && enc < NET_ENCODERS; enc++)
        if (train_learns(l, (enum net_encoder)enc)) {
            mean_of(&v, (enum net_encoder)enc, out);
            rc = decide(l, (enum net_encoder)enc, out, e);
        }
    train_show_done(l, clip_set_size(&l->t->held));
    for (unsigned h = 0; h < TARGETS_MAX; h++)
        free(v.labels[h]);
    free(v.rows);
    return rc;
}
