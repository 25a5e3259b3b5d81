/* ema: an exponential moving average of an encoder's weights over its training steps. Used by step.cpp and
 * net_file.cpp. One thread at a time. Throws what libtorch throws. Batch-norm's running statistics, which are
 * averages themselves, and the heads, which are new in every round, are left out. */
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "lib/torch/layers.hpp"

namespace xdc
{

struct ema {
    double decay = 0;                                        /* 0: there is no average */
    std::vector<std::pair<std::string, at::Tensor>> average; /* of each parameter, by its name, in order */
};

/* The average becomes the encoder's weights. */
void ema_restart(ema &a, const std::vector<entry> &state);
/* average = decay average + (1 - decay) weights; nothing where there is none. */
void ema_update(ema &a, const std::vector<entry> &state);

} // namespace xdc
