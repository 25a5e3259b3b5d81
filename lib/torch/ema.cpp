#include "lib/torch/ema.hpp"

#include <cerrno>

#include "lib/torch/net_impl.hpp"

namespace xdc
{

void ema_restart(ema &a, const std::vector<entry> &state)
{
    at::NoGradGuard no_grad;
    a.average.clear();
    for (const entry &s : state)
        if (a.decay > 0 && s.momentum.defined())
            a.average.emplace_back(s.name, s.value.detach().clone());
}

void ema_update(ema &a, const std::vector<entry> &state)
{
    if (!(a.decay > 0))
        return;
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> averages, weights;
    for (const auto &one : a.average)
        averages.push_back(one.second);
    for (const entry &s : state)
        if (s.momentum.defined())
            weights.push_back(s.value.detach());
    at::_foreach_mul_(averages, a.decay);
    at::_foreach_add_(averages, weights, 1 - a.decay);
}

} // namespace xdc

int net_set_ema(struct net *net, double decay, struct err *e)
{
    return xdc::guard(e, "average the weights", [&] {
        if (!(decay >= 0 && decay < 1))
            throw xdc::refusal{-EINVAL, "a decay of " + std::to_string(decay) + " is not in [0, 1)"};
        for (int enc = 0; enc < NET_ENCODERS; enc++) {
            net->average[enc].decay = decay;
            xdc::ema_restart(net->average[enc], net->encoder[enc].state);
        }
        return 0;
    });
}
