/* Several ranks: what the training threads of a run do together. Alone every part of it is nothing or a copy.
 * Calls are collective where train_loop.h says so. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/log.h"
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

#define NAMED_WITHIN_S 6.0 /* a rank that has gone is known within */

static bool on_waiting(void *arg, const char *who)
{
    struct trainer *t = arg;
    if (*who)
        log_info("rank %u of %u: waiting for %s", t->meet.rank, t->meet.world, who);
    return !atomic_load(&t->stop);
}

static void on_lost(void *arg, uint32_t rank)
{
    struct trainer *t = arg;
    if (!atomic_load(&t->stop))
        log_error("rank %u of %u is lost: not heard, or started again", rank, t->meet.world);
    trainer_rank_lost(t);
}

int train_meet(struct train_loop *l, struct err *e)
{
    struct trainer *t = l->t;
    const struct net_ranks ranks = {.rank = t->meet.rank,
                                    .world = t->meet.world,
                                    .address = t->meet.address,
                                    .port = t->meet.port,
                                    .timeout_s = t->conf.run.rank_timeout_s,
                                    .sync_norm = t->conf.train.sync_norm != 0,
                                    .on_waiting = on_waiting,
                                    .on_lost = on_lost,
                                    .arg = t};
    if (t->meet.world == 1)
        return 0;
    int rc = net_join(l->net, &ranks, e);
    if (rc == 0)
        log_info("rank %u of %u: all ranks have met at %s:%u", t->meet.rank, t->meet.world, t->meet.address,
                 t->meet.port);
    return rc;
}

int train_agree_on_state(struct train_loop *l, struct err *e)
{
    uint64_t weights = 0;
    int rc = net_hash(l->net, &weights, e);
    if (rc == 0)
        rc = train_agree(l, "step", l->state.step, e);
    return rc == 0 ? train_agree(l, "hash of the weights", weights, e) : rc;
}

int train_agree(struct train_loop *l, const char *what, uint64_t value, struct err *e)
{
    uint64_t all[CONF_RANKS_MAX];
    int rc = net_gather(l->net, &value, sizeof value, all, e);
    for (uint32_t r = 1; rc == 0 && r < l->t->meet.world; r++)
        if (all[r] != all[0])
            rc = err_set(e, XDC_EMISMATCH, "rank %u has another %s than rank 0: %016llx, not %016llx", r,
                         what, (unsigned long long)all[r], (unsigned long long)all[0]);
    return rc;
}

int train_barrier(struct train_loop *l, struct err *e)
{
    return train_agree(l, "place", 0, e);
}

int train_sum(struct train_loop *l, double *values, size_t n, struct err *e)
{
    uint32_t world = l->t->meet.world;
    double *all = malloc(world * n * sizeof *all);
    int rc = all ? net_gather(l->net, values, n * sizeof *values, all, e) : err_sys(e, ENOMEM, "sums");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        values[i] = 0;
        for (uint32_t r = 0; r < world; r++)
            values[i] += all[r * n + i];
    }
    free(all);
    return rc;
}

/* What a rank comes with to a batch. */
enum { GO_ON, WANTS_CHECKPOINT, MUST_STOP };

int train_take(struct train_loop *l, struct batch **out, struct err *e)
{
    struct trainer *t = l->t;
    uint8_t all[CONF_RANKS_MAX], mine = GO_ON;
    double since_s = progress_now_s();
    int rc = batcher_take(&t->batcher, out);
    l->waited_s += progress_now_s() - since_s;
    if (rc == XDC_ESTOPPED)
        mine = MUST_STOP;
    else if (train_checkpoint_due(l))
        mine = WANTS_CHECKPOINT;
    int failed = net_gather(l->net, &mine, sizeof mine, all, e);
    l->checkpoint_now = false;
    bool stop = false;
    for (uint32_t r = 0; failed == 0 && r < t->meet.world; r++) {
        stop |= all[r] == MUST_STOP;
        l->checkpoint_now |= all[r] != GO_ON;
    }
    if (rc == 0 && (failed < 0 || stop))
        batcher_give(&t->batcher, *out);
    if (failed < 0)
        return failed;
    l->parting = stop;
    return stop ? err_set(e, XDC_ESTOPPED, "stopped") : rc;
}

/* The clips that other ranks have put into their quarantine since. */
int train_merge_quarantine(struct train_loop *l, struct err *e)
{
    uint32_t world = l->t->meet.world;
    struct quarantine *q = &l->t->quarantine;
    uint64_t n = quarantine_count(q), most = 0, counts[CONF_RANKS_MAX];
    if (world == 1)
        return 0;
    int rc = net_gather(l->net, &n, sizeof n, counts, e);
    for (uint32_t r = 0; rc == 0 && r < world; r++)
        most = counts[r] > most ? counts[r] : most;
    if (rc < 0 || most == 0)
        return rc;
    struct quarantine_entry *mine = calloc(most, sizeof *mine), *all = calloc(world * most, sizeof *all);
    rc = mine && all ? 0 : err_sys(e, ENOMEM, "quarantine");
    if (rc == 0) {
        quarantine_copy(q, mine, n);
        rc = net_gather(l->net, mine, most * sizeof *mine, all, e);
    }
    for (uint32_t r = 0; rc == 0 && r < world; r++)
        for (uint64_t i = 0; rc == 0 && i < counts[r]; i++)
            if (quarantine_add(q, all[r * most + i].clip, all[r * most + i].reason) < 0)
                rc = err_sys(e, ENOMEM, "quarantine");
    free(mine);
    free(all);
    return rc;
}

int train_gather_marks(struct train_loop *l, struct err *e)
{
    struct ledger_mark mine;
    int rc = ledger_sync(l->ledger, &mine, e);
    if (rc == 0 && l->harvest)
        rc = harvest_sync(l->harvest, e);
    l->state.ranks = l->t->meet.world;
    return rc == 0 ? net_gather(l->net, &mine, sizeof mine, l->state.ledgers, e) : rc;
}

/* An exchange that failed since a rank has gone says which one; while this one stops that is no failure. */
int train_name_lost(struct train_loop *l, int rc, struct err *e)
{
    struct trainer *t = l->t;
    bool broken = rc == XDC_ETORCH || (rc == XDC_ESTOPPED && !atomic_load(&t->stop) && !l->parting);
    int rank = t->meet.world > 1 && l->net && broken ? net_lost_rank(l->net, NAMED_WITHIN_S) : -1;
    if (rank < 0)
        return rc;
    if (atomic_load(&t->stop))
        return err_set(e, XDC_ESTOPPED, "stopped; rank %d had gone before", rank);
    return err_set(e, XDC_ELOST,
                   "rank %d of %u is lost: this one ends too, so that all go on from the newest checkpoint",
                   rank, t->meet.world);
}

int train_leave(struct train_loop *l, struct err *e)
{
    return net_leave(l->net, e);
}
