#include "lib/torch/ranks.hpp"

#include <cstdlib>
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

/* [world, n] of the ranks' [n], one behind the other. */
template <class T>
std::vector<T> gather_with(const c10::intrusive_ptr<c10d::ProcessGroup> &group, const T *mine, size_t n)
{
    auto type = c10::CppTypeToScalarType<T>::value;
    auto length = static_cast<int64_t>(n);
    std::vector<at::Tensor> in = {at::empty({length}, type)};
    std::memcpy(in[0].data_ptr(), mine, n * sizeof(T));
    std::vector<std::vector<at::Tensor>> out(1);
    for (int r = 0; r < group->getSize(); r++)
        out[0].push_back(at::empty({length}, type));
    group->allgather(out, in)->wait();
    std::vector<T> all;
    for (const at::Tensor &t : out[0])
        all.insert(all.end(), t.data_ptr<T>(), t.data_ptr<T>() + n);
    return all;
}

/* The interface that the ranks' connections use: $GLOO_SOCKET_IFNAME, loopback where rank 0 is there, else
 * the one of this host's name. */
std::shared_ptr<::gloo::transport::Device> make_device(const std::string &address)
{
    const char *interface = std::getenv("GLOO_SOCKET_IFNAME");
    if (interface && *interface)
        return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
    if (address == "localhost" || address.rfind("127.", 0) == 0)
        return c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1");
    return c10d::ProcessGroupGloo::createDefaultDevice();
}

} // namespace

struct ranks::parts {
    ranks_options options;
    meeting met;
    c10::intrusive_ptr<c10d::ProcessGroup> figures, statistics, gradients;
    /* Made for one list of parameters, made anew for another. */
    std::unique_ptr<c10d::Reducer> reducer;
    std::vector<at::Tensor> reduced;

    explicit parts(const ranks_options &o) : options(o), met(o.meeting)
    {
        figures = make_group("figures");
        statistics = make_group("statistics");
        gradients = make_group("gradients");
    }

    c10::intrusive_ptr<c10d::ProcessGroup> make_group(const char *name) const
    {
        auto o = c10d::ProcessGroupGloo::Options::create();
        o->timeout = std::chrono::milliseconds(static_cast<int64_t>(options.timeout_s * 1000));
        o->threads = 2;
        o->devices.push_back(make_device(options.meeting.address));
        auto prefixed = c10::make_intrusive<c10d::PrefixStore>(name, met.store());
        auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(prefixed, options.meeting.rank,
                                                                options.meeting.world, o);
#if TORCH_VERSION_MAJOR >= 2 /* there a group is a shell around its backend */
        auto group =
            c10::make_intrusive<c10d::ProcessGroup>(prefixed, options.meeting.rank, options.meeting.world);
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

ranks::ranks(const ranks_options &o) : p(std::make_unique<parts>(o))
{
}

ranks::~ranks() = default;

int ranks::rank() const
{
    return p->options.meeting.rank;
}

int ranks::world() const
{
    return p->options.meeting.world;
}

bool ranks::sync_norm() const
{
    return p->options.sync_norm;
}

int ranks::lost() const
{
    return p->met.lost();
}

void ranks::leave()
{
    p->met.end_watch();
    gather({0});
}

std::vector<double> ranks::gather(const std::vector<double> &mine) const
{
    return gather_with(p->figures, mine.data(), mine.size());
}

std::vector<uint8_t> ranks::gather_bytes(const void *mine, size_t n) const
{
    return gather_with(p->figures, static_cast<const uint8_t *>(mine), n);
}

std::vector<double> ranks::gather_statistics(const std::vector<double> &mine) const
{
    return gather_with(p->statistics, mine.data(), mine.size());
}

std::vector<at::Tensor> ranks::gradients(const at::Tensor &loss, const std::vector<at::Tensor> &params,
                                         const std::vector<at::Tensor> &so_far)
{
    if (!p->made_for(params))
        p->make_reducer(params);
    /* The reducer averages; what is wanted is the sum. */
    double world = p->options.meeting.world;
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
