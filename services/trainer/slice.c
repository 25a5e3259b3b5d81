#include "services/trainer/slice.h"

#include "services/trainer/schedule.h"

bool slice_divides(const struct conf *c)
{
    return c->method == METHOD_SELAVI && !c->labels.from[0] && c->selavi.relabel_power > 0;
}

uint32_t slice_epochs(const struct conf *c, uint32_t round)
{
    if (slice_divides(c))
        return 1;
    bool last = round + 1 >= c->train.rounds && c->train.last_round_epochs > 0;
    return (uint32_t)(last ? c->train.last_round_epochs : c->train.epochs);
}

struct slice slice_of(const struct conf *c, uint64_t clips, uint32_t round, uint32_t epoch)
{
    uint64_t batch = (uint64_t)c->train.batch;
    uint64_t n = c->train.epoch_clips ? (uint64_t)c->train.epoch_clips : clips;
    uint64_t steps = schedule_batches(n, (uint32_t)batch);
    if (!slice_divides(c))
        return (struct slice){round, epoch * n, n, epoch * steps, steps, slice_epochs(c, round)};
    uint32_t rounds = (uint32_t)c->train.rounds;
    uint64_t all = rounds * (uint64_t)c->train.epochs * steps;
    uint64_t from = schedule_relabel(all, rounds, c->selavi.relabel_power, round);
    uint64_t to = schedule_relabel(all, rounds, c->selavi.relabel_power, round + 1);
    return (struct slice){0,    from * batch, (to - from) * batch,
                          from, steps,        (double)rounds * (double)c->train.epochs};
}
