/* One epoch of training: batches in, a ledger record a position, one step an encoder and batch. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/log.h"
#include "lib/rng.h"
#include "services/trainer/schedule.h"
#include "services/trainer/slice.h"
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

struct epoch {
    struct train_loop *l;
    struct slice slice;
    struct plan plan;
    struct draw draw[BATCHER_STREAMS_MAX];
    uint32_t
        number[BATCHER_STREAMS_MAX]; /* of each stream, for its draws and the ledger: its encoder, or 0 */
    bool apart;                      /* each encoder has a stream of its own */
    bool weigh;
    uint64_t batches;
    double seconds, waited_s, stepped_s; /* of the training */
    uint64_t clips;
    struct validation held;
    uint32_t *rows;                /* owned; [batch] */
    int64_t *labels[TARGETS_MAX];  /* owned; [batch] */
    float *weights[TARGETS_MAX];   /* owned; [batch] */
    struct ledger_record *records; /* owned; [streams x batch] */
    float *features[NET_ENCODERS]; /* owned; [batch, dim]; NULL where nothing is harvested */
    float head_weights[NET_HEADS_MAX];
    bool computed[NET_ENCODERS]; /* of the batch */
};

static bool stream_trains(const struct epoch *x, uint32_t stream, enum net_encoder enc)
{
    return train_learns(x->l, enc) && (!x->apart || x->number[stream] == (uint32_t)enc);
}

static uint32_t check_clip(void *arg, uint32_t stream, uint64_t clip)
{
    struct epoch *x = arg;
    bool labelled = false;
    if (trainer_held_out(x->l->t, clip))
        return LEDGER_HELD_OUT;
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++)
        if (stream_trains(x, stream, (enum net_encoder)enc))
            labelled |= targets_labelled(&x->l->targets, (enum net_encoder)enc, clip);
    if (!labelled && !quarantine_video_code(&x->l->t->quarantine, clip))
        return LEDGER_UNLABELLED;
    return quarantine_reason(&x->l->t->quarantine, clip) ? LEDGER_QUARANTINED : 0;
}

/* One order for both encoders, or one each when each draws uniformly over the clusters it learns. Encoders
 * that see the same have streams of one order, each with an augmentation of its own. An encoder that has
 * stopped needs nothing. */
static int make_streams(struct epoch *x, struct err *e)
{
    struct train_loop *l = x->l;
    struct clip_set *set = &l->t->set;
    uint64_t seed = (uint64_t)l->t->conf.run.seed, offset = x->slice.offset;
    bool resample = conf_balance(&l->t->conf) == BALANCE_RESAMPLE;
    if (!x->apart) {
        x->plan.streams = 1;
        x->plan.stream[0] = train_stream(l, train_learns(l, NET_VIDEO), train_learns(l, NET_AUDIO), x->draw);
        draw_init_shuffled(&x->draw[0], set, seed, "train", x->slice.order, 0, offset);
        return 0;
    }
    for (uint32_t enc = 0; enc < NET_ENCODERS; enc++) {
        uint32_t s = x->plan.streams;
        if (!train_learns(l, (enum net_encoder)enc))
            continue;
        int rc = 0;
        if (resample)
            rc = draw_init_resampled(&x->draw[s], set, seed, x->slice.order, offset, &l->targets,
                                     (enum net_encoder)enc, e);
        else
            draw_init_shuffled(&x->draw[s], set, seed, "train", x->slice.order, 0, offset);
        if (rc < 0)
            return rc;
        x->plan.stream[s] = train_stream(l, enc == NET_VIDEO, enc == NET_AUDIO, &x->draw[s]);
        if (l->method->pair != NET_PAIR_BOTH)
            x->plan.stream[s].augment = enc * AUGMENT_SECOND;
        x->number[s] = enc;
        x->plan.streams++;
    }
    return 0;
}

static int make_plan(struct epoch *x, struct err *e)
{
    struct train_loop *l = x->l;
    struct trainer *t = l->t;
    const struct conf *c = &t->conf;
    x->slice = slice_of(c, clip_set_size(&t->set), l->state.round, l->state.epoch);
    x->apart = conf_balance(c) == BALANCE_RESAMPLE || l->method->pair != NET_PAIR_BOTH;
    x->weigh = conf_balance(c) == BALANCE_WEIGHT;
    /* selavi's loss is half of each modality's mean over heads (algorithms.md 4.1), others' are sums. */
    for (uint32_t h = 0; h < NET_HEADS_MAX; h++)
        x->head_weights[h] = c->method == METHOD_SELAVI ? 0.5f / (float)c->selavi.heads : 1;
    x->plan = (struct plan){.phase = PHASE_TRAIN,
                            .round = l->state.round,
                            .epoch = l->state.epoch,
                            .positions = x->slice.positions,
                            .batch = (uint32_t)c->train.batch,
                            .rank = t->meet.rank,
                            .world = t->meet.world,
                            .first_batch = l->state.batch,
                            .recipe = t->recipe_train,
                            .check = check_clip,
                            .arg = x};
    x->batches = schedule_batches(x->plan.positions, x->plan.batch);
    return make_streams(x, e);
}

static int epoch_open(struct epoch *x, struct train_loop *l, struct err *e)
{
    *x = (struct epoch){.l = l};
    int rc = make_plan(x, e);
    size_t n = x->plan.batch;
    x->rows = malloc(n * sizeof *x->rows);
    x->records = malloc(BATCHER_STREAMS_MAX * n * sizeof *x->records);
    bool good = x->rows && x->records;
    for (unsigned h = 0; h < TARGETS_MAX; h++) {
        x->labels[h] = malloc(n * sizeof *x->labels[h]);
        x->weights[h] = malloc(n * sizeof *x->weights[h]);
        good = good && x->labels[h] && x->weights[h];
    }
    if (rc == 0)
        rc = train_harvest_begin(l, x->plan.positions, e);
    for (unsigned enc = 0; l->harvest && enc < NET_ENCODERS; enc++) {
        x->features[enc] = malloc(n * net_feature_dim(l->net, (enum net_encoder)enc) * sizeof(float));
        good = good && x->features[enc];
    }
    return rc == 0 && !good ? err_sys(e, ENOMEM, "epoch") : rc;
}

static void epoch_close(struct epoch *x)
{
    for (unsigned s = 0; s < BATCHER_STREAMS_MAX; s++)
        draw_close(&x->draw[s]);
    for (unsigned h = 0; h < TARGETS_MAX; h++) {
        free(x->labels[h]);
        free(x->weights[h]);
    }
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++)
        free(x->features[enc]);
    harvest_close(x->l->harvest);
    x->l->harvest = NULL;
    free(x->rows);
    free(x->records);
}

/* The ledger says what enters the net before it enters; of a batch that is passed over nothing does. */
static int record(struct epoch *x, const struct batch *b, bool passes, struct err *e)
{
    size_t n = 0;
    for (uint32_t s = 0; s < x->plan.streams; s++) {
        for (uint32_t row = 0; row < b->n; row++) {
            const struct batch_slot *slot = &b->stream[s].slots[row];
            bool there = slot->disposition == LEDGER_TRAINED;
            x->records[n++] =
                (struct ledger_record){.step = x->l->state.step,
                                       .position = batcher_position(&x->plan, b->index, row),
                                       .clip = slot->clip,
                                       .labels = x->l->targets.hash,
                                       .sample = there && !passes ? slot->hash : 0,
                                       .stream = x->number[s],
                                       .disposition = there && passes ? LEDGER_UNSTABLE : slot->disposition};
        }
    }
    return ledger_append(x->l->ledger, x->records, n, e);
}

/* One step of one encoder on the compacted rows of its stream. */
static int step_encoder(struct epoch *x, enum net_encoder enc, const struct batch *b, uint32_t stream,
                        uint32_t n, const struct net_sgd *sgd, struct err *e)
{
    struct train_loop *l = x->l;
    uint32_t heads = l->method->heads[enc];
    struct net_step out;
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t i = 0; i < n; i++) {
            uint32_t label = targets_label(&l->targets, enc, h, b->stream[stream].slots[x->rows[i]].clip);
            x->labels[h][i] = label == LABEL_NONE ? -1 : (int64_t)label;
            x->weights[h][i] =
                label == LABEL_NONE || !x->weigh ? 1.0f : targets_weight(&l->targets, enc, h, label);
        }
    }
    struct net_batch in = {n, train_rows(l, enc, &b->stream[stream])};
    double since_s = progress_now_s();
    int rc = net_train_step(l->net, enc, &in, (const int64_t *const *)x->labels,
                            x->weigh ? (const float *const *)x->weights : NULL, sgd, &out, e);
    l->stepped_s += progress_now_s() - since_s;
    if (rc < 0)
        return rc;
    for (uint32_t h = 0; h < heads; h++)
        x->computed[enc] |= out.labelled[h] > 0;
    for (uint32_t h = 0; h < heads; h++) {
        l->state.loss[enc] += out.loss[h] * out.labelled[h];
        l->state.labelled[enc] += out.labelled[h];
        l->state.correct[enc] += out.correct[h];
    }
    return 0;
}

/* The share of the base learning rates at a batch of this epoch. */
static double rate_of(const struct epoch *x, uint64_t batch)
{
    const struct train_loop *l = x->l;
    const struct conf *c = &l->t->conf;
    const struct schedule schedule = {.warmup = c->train.warmup_epochs,
                                      .warmup_start = c->train.warmup_start,
                                      .step = c->train.schedule == SCHEDULE_STEP,
                                      .every = c->train.step_epochs,
                                      .factor = c->train.step_factor,
                                      .last = c->train.lr_final,
                                      .epochs = x->slice.epochs};
    return schedule_rate(&schedule, x->slice.step + batch, x->slice.epoch_steps);
}

static struct net_sgd sgd_of_step(const struct epoch *x)
{
    const struct conf *c = &x->l->t->conf;
    double rate = rate_of(x, x->l->state.batch);
    return (struct net_sgd){.lr = c->train.lr * rate,
                            .head_lr = c->train.head_lr * rate,
                            .momentum = c->train.momentum,
                            .weight_decay = c->train.weight_decay,
                            .norm_decay = c->train.norm_decay,
                            .nesterov = c->train.nesterov != 0,
                            .clip_norm = c->train.clip_norm,
                            .frozen = c->train.update == UPDATE_FC,
                            .micro_batch = (uint32_t)c->train.micro_batch,
                            .recompute = c->train.recompute != 0,
                            .graph = c->train.cuda_graphs != 0,
                            .head_weights = x->head_weights};
}

/* Keeps the features of a batch on which both encoders have made a step. Where one pass over the set ends in
 * it and the next begins, only of the latter: a clip of both might be written by two ranks at once. */
static int harvest_batch(struct epoch *x, const struct batch *b, uint32_t n, struct err *e)
{
    struct train_loop *l = x->l;
    uint64_t clips = clip_set_size(&l->t->set), offset = (uint64_t)l->state.epoch * x->plan.positions;
    uint64_t last_pass = (offset + b->end - 1) / clips;
    size_t video = net_feature_dim(l->net, NET_VIDEO), audio = net_feature_dim(l->net, NET_AUDIO);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        if ((offset + batcher_position(&x->plan, b->index, x->rows[i])) / clips == last_pass)
            rc = harvest_put(l->harvest, b->stream[0].slots[x->rows[i]].clip,
                             x->features[NET_VIDEO] + i * video, x->features[NET_AUDIO] + i * audio, e);
    return rc;
}

static int train_batch(struct epoch *x, struct batch *b, struct err *e)
{
    struct train_loop *l = x->l;
    struct net_sgd sgd = sgd_of_step(x);
    bool passes = train_unstable_passes(l);
    memset(x->computed, 0, sizeof x->computed);
    int rc = train_note_batch(l, &x->plan, b, e);
    if (rc == 0)
        rc = record(x, b, passes, e);
    for (uint32_t s = 0; rc == 0 && !passes && s < x->plan.streams; s++) {
        const struct plan_stream *ps = &x->plan.stream[s];
        uint32_t n = train_compact(l->t, &b->stream[s], b->n, ps->video, ps->audio, x->rows);
        bool any = n > 0 || l->t->meet.world > 1; /* over ranks some other one may have rows */
        for (unsigned enc = 0; rc == 0 && any && enc < NET_ENCODERS; enc++)
            if (stream_trains(x, s, (enum net_encoder)enc)) {
                sgd.seed = rng_key((uint64_t)l->t->conf.run.seed, "step", l->state.step, enc, 0);
                sgd.features = x->features[enc];
                rc = step_encoder(x, (enum net_encoder)enc, b, s, n, &sgd, e);
                if (rc == XDC_EUNSTABLE)
                    rc = train_note_unstable(l, b, s, (enum net_encoder)enc, e);
            }
        if (rc == 0 && l->harvest && x->computed[NET_VIDEO] && x->computed[NET_AUDIO])
            rc = harvest_batch(x, b, n, e);
    }
    l->state.step++;
    l->state.batch++;
    return rc;
}

static int train_batches(struct epoch *x, struct err *e)
{
    struct train_loop *l = x->l;
    struct trainer *t = l->t;
    struct batch *b;
    int rc;
    while ((rc = train_take(l, &b, e)) == 0) {
        rc = train_batch(x, b, e);
        train_show_done(l, b->end);
        batcher_give(&t->batcher, b);
        if (rc == 0 && l->state.batch < x->batches) /* after the last one the epoch's own comes at once */
            rc = train_checkpoint_if_due(l, e);
        if (rc < 0)
            return rc;
    }
    return rc < 0 ? rc : 0;
}

static int stop_with_checkpoint(struct train_loop *l, struct err *e)
{
    int rc = train_checkpoint(l, e);
    if (rc == 0)
        rc = train_checkpoint_wait(l, e);
    return rc < 0 ? rc
                  : err_set(e, XDC_ESTOPPED, "stopped at step %llu with a checkpoint",
                            (unsigned long long)l->state.step);
}

/* {"video": a number, "audio": a number}, null where there is none. */
static json_t *figures(const struct train_loop *l, const double value[NET_ENCODERS],
                       const bool there[NET_ENCODERS])
{
    return json_pack("{s:o, s:o}", train_encoder(l, NET_VIDEO), there[0] ? json_real(value[0]) : json_null(),
                     train_encoder(l, NET_AUDIO), there[1] ? json_real(value[1]) : json_null());
}

/* What an epoch's record says of the encoders. */
struct outcome {
    double loss[NET_ENCODERS], accuracy[NET_ENCODERS];
    bool learnt[NET_ENCODERS]; /* false: no step was made */
};

static int write_epoch(struct epoch *x, const struct outcome *o, double rate, struct err *e)
{
    struct train_loop *l = x->l;
    const struct validation *v = &x->held;
    json_t *fields =
        json_pack("{s:i, s:i, s:o, s:o, s:f, s:f, s:f, s:f, s:f, s:i}", "round", (int)l->state.round, "epoch",
                  (int)l->state.epoch, "loss", figures(l, o->loss, o->learnt), "accuracy",
                  figures(l, o->accuracy, o->learnt), "lr", l->t->conf.train.lr * rate_of(x, x->batches - 1),
                  "seconds", x->seconds, "waited_s", x->waited_s, "steps_s", x->stepped_s, "clips_per_s",
                  rate, "quarantined", (int)quarantine_count(&l->t->quarantine));
    if (v->measured[0] || v->measured[1])
        json_object_set_new(fields, "holdout",
                            json_pack("{s:o, s:o}", "loss", figures(l, v->loss, v->measured), "accuracy",
                                      figures(l, v->accuracy, v->measured)));
    return events_write(&l->events, "epoch", fields, e);
}

/* "video 3.1416 0.250" */
static void describe(char out[64], const char *name, bool there, double loss, double accuracy)
{
    if (there)
        snprintf(out, 64, "%s %.4f %.3f", name, loss, accuracy);
    else
        snprintf(out, 64, "%s none", name);
}

static void log_epoch(const struct epoch *x, const struct outcome *o, double rate)
{
    const struct train_state *s = &x->l->state;
    const struct validation *v = &x->held;
    char text[4][64];
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        const char *name = train_encoder(x->l, (enum net_encoder)i);
        describe(text[i], name, o->learnt[i], o->loss[i], o->accuracy[i]);
        describe(text[2 + i], name, v->measured[i], v->loss[i], v->accuracy[i]);
    }
    bool held = v->measured[0] || v->measured[1];
    log_info("round %u epoch %u: loss and accuracy %s, %s%s%s%s%s; %.1f clips/s", s->round, s->epoch, text[0],
             text[1], held ? "; held out " : "", held ? text[2] : "", held ? ", " : "", held ? text[3] : "",
             rate);
}

/* Logs and records the epoch, and moves the state to the next one's start. */
static int finish(struct epoch *x, struct err *e)
{
    struct train_loop *l = x->l;
    struct train_state *s = &l->state;
    struct outcome o;
    int rc = 0;
    for (int i = 0; i < NET_ENCODERS; i++) {
        o.learnt[i] = s->labelled[i] > 0;
        double n = o.learnt[i] ? (double)s->labelled[i] : 1.0;
        o.loss[i] = s->loss[i] / n;
        o.accuracy[i] = (double)s->correct[i] / n;
        s->loss[i] = 0;
        s->labelled[i] = s->correct[i] = 0;
        if (rc == 0 && o.learnt[i])
            rc = train_warn_loss(l, (enum net_encoder)i, o.loss[i], e);
    }
    double rate = (double)x->clips / (x->seconds * x->plan.streams);
    log_epoch(x, &o, rate);
    if (rc == 0)
        rc = write_epoch(x, &o, rate, e);
    s->epoch++;
    s->batch = 0;
    return rc < 0 ? rc : ledger_next_epoch(l->ledger, e);
}

int train_epoch(struct train_loop *l, struct err *e)
{
    struct epoch *x = malloc(sizeof *x);
    if (!x)
        return err_sys(e, ENOMEM, "epoch");
    int rc = epoch_open(x, l, e);
    if (rc == 0) {
        train_show_phase(l, x->plan.first_batch * x->plan.batch, x->plan.positions);
        batcher_begin(&l->t->batcher, &x->plan);
        rc = train_batches(x, e);
        if (rc == XDC_EUNSTABLE) /* the same plan may begin again */
            batcher_drain(&l->t->batcher);
        batcher_end(&l->t->batcher);
        x->seconds = progress_now_s() - l->phase_start_s;
        x->waited_s = l->waited_s;
        x->stepped_s = l->stepped_s;
        x->clips = l->phase_clips;
    }
    if (rc == 0)
        rc = train_validate(l, &x->held, e);
    if (rc == XDC_ESTOPPED && l->parting)
        rc = stop_with_checkpoint(l, e);
    if (rc == 0 && l->harvest) /* the checkpoint that follows counts on it */
        rc = harvest_sync(l->harvest, e);
    if (rc == 0)
        rc = finish(x, e);
    epoch_close(x);
    free(x);
    return rc;
}
