/* What net.h says of ranks. */
#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "lib/torch/net_impl.hpp"

using xdc::guard;

namespace
{

xdc::ranks_options options_of(const struct net_ranks &r, const at::Device &device)
{
    xdc::ranks_options o;
    o.meeting.rank = static_cast<int>(r.rank);
    o.meeting.world = static_cast<int>(r.world);
    o.meeting.address = r.address;
    o.meeting.port = r.port;
    o.meeting.timeout_s = r.timeout_s;
    o.meeting.waiting = [r](const std::string &who) {
        return !r.on_waiting || r.on_waiting(r.arg, who.c_str());
    };
    o.meeting.on_lost = [r](int rank) {
        if (r.on_lost)
            r.on_lost(r.arg, static_cast<uint32_t>(rank));
    };
    o.timeout_s = r.timeout_s;
    o.sync_norm = r.sync_norm;
    o.device = device;
    return o;
}

} // namespace

/* Gathered and added in the order of the ranks: equal bits on every rank. Counts of batches become the
 * largest.
 */
void xdc::average_statistics(const ranks &group, const std::vector<const std::vector<entry> *> &states)
{
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> buffers, flat;
    for (const std::vector<entry> *state : states)
        for (const entry &s : *state)
            if (!s.momentum.defined()) {
                buffers.push_back(s.value);
                flat.push_back(s.value.to(buffers[0].device(), at::kDouble).reshape({-1}));
            }
    at::Tensor host = at::cat(flat).cpu(); /* crosses once */
    auto n = static_cast<size_t>(host.numel());
    std::vector<double> all = group.gather({host.data_ptr<double>(), host.data_ptr<double>() + n});
    at::Tensor sum = at::zeros_like(host), most = at::zeros_like(host);
    for (int r = 0; r < group.world(); r++) {
        at::Tensor part = at::from_blob(all.data() + static_cast<size_t>(r) * n, {host.numel()}, at::kDouble);
        sum.add_(part);
        most = at::maximum(most, part);
    }
    at::Tensor mean = sum.div_(group.world()).to(buffers[0].device());
    most = most.to(buffers[0].device());
    int64_t first = 0;
    for (const at::Tensor &b : buffers) {
        const at::Tensor &from = b.scalar_type() == at::kLong ? most : mean;
        b.copy_(from.slice(0, first, first + b.numel()).view(b.sizes()));
        first += b.numel();
    }
}

extern "C" {

int net_join(struct net *net, const struct net_ranks *r, struct err *e)
{
    return guard(e, "meet the other ranks", [&] {
        net->group = std::make_unique<xdc::ranks>(options_of(*r, net->device));
        return 0;
    });
}

int net_gather(struct net *net, const void *mine, size_t size, void *out, struct err *e)
{
    return guard(e, "exchange with the other ranks", [&] {
        if (!net->group) {
            std::memcpy(out, mine, size);
            return 0;
        }
        std::vector<uint8_t> all = net->group->gather_bytes(mine, size);
        std::memcpy(out, all.data(), all.size());
        return 0;
    });
}

int net_average_statistics(struct net *net, struct err *e)
{
    return guard(e, "average batch-norm statistics", [&] {
        std::vector<const std::vector<xdc::entry> *> states;
        for (int enc = 0; enc < NET_ENCODERS; enc++)
            xdc::add_states(*net, enc, states);
        if (net->group)
            xdc::average_statistics(*net->group, states);
        return 0;
    });
}

int net_lost_rank(const struct net *net, double wait_s)
{
    using clock = std::chrono::steady_clock;
    clock::time_point until = clock::now() + std::chrono::milliseconds(static_cast<int64_t>(wait_s * 1000));
    int rank = net->group ? net->group->lost() : -1;
    while (net->group && rank < 0 && clock::now() < until) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        rank = net->group->lost();
    }
    return rank;
}

int net_leave(struct net *net, struct err *e)
{
    return guard(e, "part from the other ranks", [&] {
        if (net->group)
            net->group->leave();
        net->group.reset();
        return 0;
    });
}

} // extern "C"
