/* The two measuring phases before the first extraction. */
#include <math.h>
#include <stdlib.h>
#include "lib/log.h"
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

static uint32_t check_quarantine(void *arg, uint32_t stream, uint64_t clip)
{
    struct trainer *t = arg;
    (void)stream;
    if (trainer_held_out(t, clip))
        return LEDGER_HELD_OUT;
    return quarantine_reason(&t->quarantine, clip) ? LEDGER_QUARANTINED : 0;
}

static struct plan measuring_plan(struct train_loop *l, struct draw *draw, uint64_t positions, bool video)
{
    struct trainer *t = l->t;
    return (struct plan){.phase = video ? PHASE_WARM : PHASE_STATS,
                         .round = l->state.round,
                         .streams = 1,
                         .stream = {video ? train_stream(l, true, true, draw)
                                          : (struct plan_stream){.audio = true, .draw = draw}},
                         .positions = positions,
                         .batch = (uint32_t)t->conf.train.batch,
                         .rank = t->meet.rank,
                         .world = t->meet.world,
                         .recipe = t->recipe_eval,
                         .check = check_quarantine,
                         .arg = t};
}

int train_measure_stats(struct train_loop *l, struct err *e)
{
    struct trainer *t = l->t;
    struct draw draw;
    bool given;
    if (l->method->pair == NET_PAIR_VIDEO || !trainer_wants(t, NET_AUDIO))
        return 0; /* nobody listens */
    if (net_initialised(l->net, NET_AUDIO, &given) && given) {
        log_info("log-mel: mean and deviation are those of %s", t->conf.net.init_audio);
        return 0;
    }
    draw_init_shuffled(&draw, &t->set, (uint64_t)t->conf.run.seed, "stats", 0, 0, 0);
    uint64_t n = clip_set_size(&t->set), wanted = (uint64_t)t->conf.stats.clips;
    struct plan plan = measuring_plan(l, &draw, n < wanted ? n : wanted, false);
    train_show_phase(l, 0, plan.positions);
    batcher_begin(&t->batcher, &plan);
    double sum = 0, squares = 0;
    uint64_t count = 0;
    struct batch *b;
    int rc;
    while ((rc = train_take(l, &b, e)) == 0) {
        for (uint32_t row = 0; row < b->n; row++) {
            const float *x = b->stream[0].audio + (size_t)row * MEDIA_AUDIO_FLOATS;
            for (unsigned i = 0;
                 b->stream[0].slots[row].disposition == LEDGER_TRAINED && i < MEDIA_AUDIO_FLOATS; i++) {
                sum += x[i];
                squares += (double)x[i] * x[i];
                count++;
            }
        }
        rc = train_note_batch(l, &plan, b, e);
        train_show_done(l, b->end);
        batcher_give(&t->batcher, b);
        if (rc < 0)
            break;
    }
    batcher_end(&t->batcher);
    double sums[3] = {sum, squares, (double)count};
    if (rc >= 0)
        rc = train_sum(l, sums, 3, e);
    if (rc < 0)
        return rc;
    if (sums[2] == 0)
        return err_set(e, XDC_EMEDIA, "no clip of the manifest can be decoded with sound");
    double mean = sums[0] / sums[2], deviation = sqrt(fmax(sums[1] / sums[2] - mean * mean, 1e-12));
    if (t->conf.audio.frontend == MEDIA_FRONTEND_VMZ) { /* algorithms.md 1.5: used as it is */
        mean = 0;
        deviation = 1;
    }
    log_info("log-mel of %llu clips: mean %.4f, deviation %.4f",
             (unsigned long long)(sums[2] / MEDIA_AUDIO_FLOATS), mean, deviation);
    rc = net_set_audio_stats(l->net, mean, deviation, e);
    return rc < 0 ? rc
                  : events_write(&l->events, "stats",
                                 json_pack("{s:f, s:f}", "mean", mean, "deviation", deviation), e);
}

/* True when the encoder's statistics came with its weights, or serve nothing. */
static bool warm_already(const struct train_loop *l, enum net_encoder enc)
{
    return !trainer_wants(l->t, enc) || (l->state.round == 0 && net_initialised(l->net, enc, NULL));
}

/* A batch's part in the batch-norm statistics; *index counts the batches that had one. With statistics over
 * all ranks a rank without rows takes part where the others have some. */
static int warm(struct train_loop *l, struct batch_stream *s, uint32_t n, uint32_t *index, struct err *e)
{
    double rows = n;
    int rc = l->t->conf.train.sync_norm ? train_sum(l, &rows, 1, e) : 0;
    if (rc < 0 || rows <= 1)
        return rc;
    for (unsigned enc = 0; rc == 0 && enc < NET_ENCODERS; enc++) {
        struct net_batch in = {.n = n, .data = train_rows(l, (enum net_encoder)enc, s)};
        if (!warm_already(l, (enum net_encoder)enc))
            rc = net_warm_batchnorm(l->net, (enum net_encoder)enc, &in, *index, e);
    }
    ++*index;
    return rc;
}

int train_measure_warm(struct train_loop *l, struct err *e)
{
    struct trainer *t = l->t;
    if (warm_already(l, NET_VIDEO) && warm_already(l, NET_AUDIO))
        return 0;
    struct draw draw;
    draw_init_shuffled(&draw, &t->set, (uint64_t)t->conf.run.seed, "warm", 0, 0, 0);
    struct plan plan =
        measuring_plan(l, &draw, (uint64_t)(t->conf.stats.batches * t->conf.train.batch), true);
    uint32_t *rows = malloc((size_t)t->conf.train.batch * sizeof *rows);
    if (!rows)
        return err_set(e, -ENOMEM, "no memory");
    train_show_phase(l, 0, plan.positions);
    batcher_begin(&t->batcher, &plan);
    uint32_t index = 0;
    struct batch *b;
    int rc;
    while ((rc = train_take(l, &b, e)) == 0) {
        rc = train_note_batch(l, &plan, b, e);
        uint32_t n = train_compact(t, &b->stream[0], b->n, plan.stream[0].video, plan.stream[0].audio, rows);
        if (rc == 0)
            rc = warm(l, &b->stream[0], n, &index, e);
        train_show_done(l, b->end);
        batcher_give(&t->batcher, b);
        if (rc < 0)
            break;
    }
    batcher_end(&t->batcher);
    free(rows);
    return rc < 0 ? rc : net_average_statistics(l->net, e);
}
