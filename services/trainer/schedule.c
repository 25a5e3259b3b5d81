#include "services/trainer/schedule.h"

#include <math.h>

uint64_t schedule_batches(uint64_t positions, uint32_t batch)
{
    return (positions + batch - 1) / batch;
}

double schedule_rate(const struct schedule *s, uint64_t step_of_round, uint64_t steps_per_epoch)
{
    double step = (double)step_of_round, warmup = s->warmup * (double)steps_per_epoch;
    if (step < warmup)
        return s->warmup_start + (1 - s->warmup_start) * step / warmup;
    if (s->step)
        return pow(s->factor, floor((step - warmup) / (s->every * (double)steps_per_epoch)));
    double length = s->epochs * (double)steps_per_epoch - 1 - warmup;
    if (s->last >= 1 || length < 1)
        return 1;
    double x = (step - warmup) / length;
    return s->last + (1 - s->last) * 0.5 * (1 + cos(M_PI * (x > 1 ? 1 : x)));
}

uint64_t schedule_relabel(uint64_t steps, uint32_t rounds, double power, uint32_t j)
{
    uint64_t all = steps > rounds ? steps : rounds;
    double at = round((double)all * pow((double)j / rounds, power));
    uint64_t latest = all - (rounds - j); /* which leaves each of the following a step */
    uint64_t step = at < (double)latest ? (uint64_t)at : latest;
    return step > j ? step : j;
}
