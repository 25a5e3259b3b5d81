#include "services/trainer/schedule.h"

#include <math.h>

uint64_t schedule_batches(uint64_t positions, uint32_t batch)
{
    return (positions + batch - 1) / batch;
}

double schedule_lr(double lr, double final_share, uint64_t step_of_round, uint64_t steps_of_round)
{
    if (final_share >= 1.0 || steps_of_round < 2)
        return lr;
    double x = (double)step_of_round / (double)(steps_of_round - 1);
    return lr * (final_share + (1.0 - final_share) * 0.5 * (1.0 + cos(M_PI * (x > 1.0 ? 1.0 : x))));
}
