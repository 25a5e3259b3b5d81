#include "lib/torch/ranks.hpp"

#include <cmath>
#include <cstring>

#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <torch/version.h>

namespace xdc
{
namespace
{

/* PyTorch's sizes: the first bucket is small, so that sending begins early. */
constexpr size_t FIRST_BUCKET_BYTES = size_t(1) << 20, BUCKET_BYTES = size_t(25) << 20;

std::vector<double> gather_with(const c10::intrusive_ptr<c10d::ProcessGroup> &group,
                                const std::vector<double> &mine)
{
    int64_t n = static_cast<int64_t>(mine.size());
    std::vector<at::Tensor> in = {at::empty({n}, at::kDouble)};
    std::memcpy(in[0].data_ptr(), mine.data(), mine.size() * sizeof(double));
    std::vector<std::vector<at::Tensor>> out(1);
    for (int r = 0; r < group->getSize(); r++)
        out[0].push_back(at::empty({n}, at::kDouble));
    group->allgather(out, in)->wait();
    std::vector<double> all;
    for (const at::Tensor &t : out[0])
        all.insert(all.end(), t.data_ptr<double>(), t.data_ptr<double>() + n);
    return all;
}

} // namespace

struct ranks::parts {
    ranks_options options;
    c10::intrusive_ptr<c10d::ProcessGroup> figures, statistics, gradients;
    /* Made for one list of parameters, made anew for another. */
    std::unique_ptr<c10d::Reducer> reducer;
    std::vector<at::Tensor> reduced;

    c10::intrusive_ptr<c10d::ProcessGroup> make_group(const c10::intrusive_ptr<c10d::Store> &store,
                                                      const char *name) const
    {
        auto o = c10d::ProcessGroupGloo::Options::create();
        o->timeout = std::chrono::milliseconds(static_cast<int64_t>(options.timeout_s * 1000));
        o->threads = 2;
        o->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
        auto prefixed = c10::make_intrusive<c10d::PrefixStore>(name, store);
        auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(prefixed, options.rank, options.world, o);
#if TORCH_VERSION_MAJOR >= 2 /* there a group is a shell around its backend */
        auto group = c10::make_intrusive<c10d::ProcessGroup>(prefixed, options.rank, options.world);
        group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
        group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
        return group;
#else
        return gloo;
#endif
    }

    bool made_for(const std::vector<at::Tensor> &params) const
    {
        bool same = reducer && params.size() == reduced.size();
        for (size_t i = 0; same && i < params.size(); i++)
            same = params[i].is_same(reduced[i]);
        return same;
    }

    void make_reducer(const std::vector<at::Tensor> &params)
    {
        std::vector<bool> sparse(params.size(), false);
        auto buckets =
            c10d::compute_bucket_assignment_by_size(params, {FIRST_BUCKET_BYTES, BUCKET_BYTES}, sparse);
        /* Gradients come in about the reverse of the parameters' order. */
        auto indices = std::get<0>(buckets);
        auto limits = std::get<1>(buckets);
        std::reverse(indices.begin(), indices.end());
        std::reverse(limits.begin(), limits.end());
        reducer.reset();
        int64_t cap = static_cast<int64_t>(BUCKET_BYTES), first = static_cast<int64_t>(FIRST_BUCKET_BYTES);
        std::unordered_map<size_t, std::string> no_names;
#if TORCH_VERSION_MAJOR >= 2
        reducer = std::make_unique<c10d::Reducer>(params, indices, gradients, sparse, cap, false, true,
                                                  no_names, first, false, false, std::vector<int64_t>());
#else
        reducer = std::make_unique<c10d::Reducer>(params, indices, limits, gradients, sparse, cap, false,
                                                  true, no_names, first);
#endif
        reduced = params;
    }
};

ranks::ranks(const ranks_options &o) : p(std::make_unique<parts>())
{
    p->options = o;
    c10d::TCPStoreOptions s;
    s.port = o.port;
    s.isServer = o.rank == 0;
    s.numWorkers = static_cast<size_t>(o.world);
    s.timeout = std::chrono::milliseconds(static_cast<int64_t>(o.timeout_s * 1000));
    auto store = c10::make_intrusive<c10d::TCPStore>(o.address, s);
    p->figures = p->make_group(store, "figures");
    p->statistics = p->make_group(store, "statistics");
    p->gradients = p->make_group(store, "gradients");
}

ranks::~ranks() = default;

int ranks::rank() const
{
    return p->options.rank;
}

int ranks::world() const
{
    return p->options.world;
}

bool ranks::sync_norm() const
{
    return p->options.sync_norm;
}

std::vector<double> ranks::gather(const std::vector<double> &mine) const
{
    return gather_with(p->figures, mine);
}

std::vector<double> ranks::gather_statistics(const std::vector<double> &mine) const
{
    return gather_with(p->statistics, mine);
}

std::vector<at::Tensor> ranks::gradients(const at::Tensor &loss, const std::vector<at::Tensor> &params,
                                         const std::vector<at::Tensor> &so_far)
{
    if (!p->made_for(params))
        p->make_reducer(params);
    /* The reducer averages; what is wanted is the sum. */
    double world = p->options.world;
    for (size_t i = 0; i < params.size(); i++)
        params[i].mutable_grad() = so_far.empty() ? at::Tensor() : so_far[i] * world;
    at::Tensor scaled = loss * world;
    p->reducer->prepare_for_forward();
    p->reducer->rebuild_buckets(); /* once, in the order in which the first gradients came */
    p->reducer->prepare_for_backward({scaled});
    scaled.backward();
    std::vector<at::Tensor> grads;
    for (const at::Tensor &t : params)
        grads.push_back(t.grad());
    return grads;
}

} // namespace xdc
