/* What net.h says of ranks. */
#include "lib/torch/net_impl.hpp"

using xdc::guard;
using xdc::refusal;

extern "C" {

int net_join(struct net *net, const struct net_ranks *r, struct err *e)
{
    return guard(e, "meet the other ranks", [&] {
        xdc::use_threads(*net);
        xdc::ranks_options o = {static_cast<int>(r->rank),
                                static_cast<int>(r->world),
                                r->address,
                                r->port,
                                r->timeout_s,
                                r->sync_norm};
        auto group = std::make_unique<xdc::ranks>(o);
        uint64_t hash;
        int rc = net_hash(net, &hash, e);
        if (rc < 0)
            return rc;
        /* Halves of 32 bits are exact in a double. */
        std::vector<double> all =
            group->gather({static_cast<double>(hash >> 32), static_cast<double>(hash & 0xffffffff)});
        for (size_t i = 0; i < all.size(); i += 2)
            if (all[i] != all[0] || all[i + 1] != all[1])
                throw refusal{XDC_EMISMATCH, "rank " + std::to_string(i / 2) +
                                                 " has other weights than rank 0: all must start from one "
                                                 "seed or checkpoint"};
        net->group = std::move(group);
        return 0;
    });
}

int net_average_statistics(struct net *net, struct err *e)
{
    return guard(e, "average batch-norm statistics", [&] {
        if (!net->group)
            return 0;
        std::vector<at::Tensor> buffers;
        std::vector<double> mine;
        for (const xdc::encoder &enc : net->encoder)
            for (const xdc::entry &s : enc.state)
                if (!s.momentum.defined() && s.value.scalar_type() == at::kFloat) {
                    at::Tensor host = s.value.cpu();
                    buffers.push_back(s.value);
                    mine.insert(mine.end(), host.data_ptr<float>(), host.data_ptr<float>() + host.numel());
                }
        std::vector<double> all = net->group->gather(mine);
        size_t at = 0;
        for (const at::Tensor &b : buffers) {
            at::Tensor host = at::zeros(b.sizes(), at::kDouble);
            for (int64_t i = 0; i < host.numel(); i++, at++)
                for (size_t r = at; r < all.size(); r += mine.size())
                    host.data_ptr<double>()[i] += all[r] / net->group->world();
            b.copy_(host);
        }
        return 0;
    });
}

} // extern "C"
