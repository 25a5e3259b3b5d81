#include "lib/torch/ranks.hpp"

#include <cstdlib>
#include <cstring>

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/version.h>

#include "lib/torch/device.hpp"

namespace xdc
{
namespace
{

/* DistributedDataParallel's sizes: the first bucket is small, so that sending begins early. */
constexpr int64_t FIRST_BUCKET = (1 << 20) / 4, BUCKET = (25 << 20) / 4;

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

/* The gradients of one backward pass, summed over ranks. They are sent in buckets, a bucket as soon as the
 * pass has made the last of its gradients; all ranks send theirs in one order. Lives on the stack of the
 * caller. */
class backward_sum
{
  public:
    backward_sum(const c10::intrusive_ptr<c10d::ProcessGroup> &over, const at::Device &where,
                 const std::vector<at::Tensor> &leaves)
        : group(over), device(where), params(leaves), bucket_of(leaves.size()), nodes(leaves.size())
    {
        make_buckets();
        for (size_t i = 0; i < params.size(); i++) {
            nodes[i] = torch::autograd::impl::grad_accumulator(params[i]);
            keys.push_back(nodes[i]->add_post_hook(std::make_unique<arrival>(*this, i)));
        }
    }

    ~backward_sum()
    {
        for (size_t i = 0; i < keys.size(); i++)
            nodes[i]->del_post_hook(keys[i]);
        for (const at::Tensor &t : params)
            t.mutable_grad() = at::Tensor();
    }

    backward_sum(const backward_sum &) = delete;
    backward_sum &operator=(const backward_sum &) = delete;

    /* After the pass. */
    std::vector<at::Tensor> finish()
    {
        while (sent < buckets.size()) /* parameters that the loss does not depend on */
            send(buckets[sent++]);
        for (bucket &b : buckets)
            b.work->wait();
        std::vector<at::Tensor> grads(params.size());
        for (bucket &b : buckets)
            for (size_t k = 0; k < b.params.size(); k++)
                grads[b.params[k]] = b.parts[k];
        return grads;
    }

  private:
    struct bucket {
        std::vector<size_t> params;
        int64_t size = 0;
        size_t missing = 0;
        std::vector<at::Tensor> parts; /* views of what is sent, laid out as the parameters */
        c10::intrusive_ptr<c10d::Work> work;
    };

    struct arrival : torch::autograd::FunctionPostHook {
        backward_sum &sum;
        size_t param;
        arrival(backward_sum &s, size_t i) : sum(s), param(i)
        {
        }
        torch::autograd::variable_list operator()(const torch::autograd::variable_list &outputs,
                                                  const torch::autograd::variable_list &) override
        {
            sum.arrived(param);
            return outputs;
        }
    };

    /* Gradients come in about the reverse of the parameters' order. */
    void make_buckets()
    {
        for (size_t i = params.size(); i-- > 0;) {
            if (buckets.empty() || buckets.back().size >= (buckets.size() == 1 ? FIRST_BUCKET : BUCKET))
                buckets.emplace_back();
            bucket &b = buckets.back();
            b.params.push_back(i);
            b.size += params[i].numel();
            b.missing++;
            bucket_of[i] = buckets.size() - 1;
        }
    }

    void arrived(size_t param)
    {
        buckets[bucket_of[param]].missing--;
        while (sent < buckets.size() && buckets[sent].missing == 0)
            send(buckets[sent++]);
    }

    void send(bucket &b)
    {
        std::vector<at::Tensor> flat = {
            at::empty({b.size}, at::TensorOptions().dtype(at::kFloat).device(device))};
        int64_t first = 0;
        for (size_t i : b.params) {
            const at::Tensor &t = params[i];
            b.parts.push_back(flat[0].as_strided(t.sizes(), t.strides(), first));
            if (t.grad().defined())
                b.parts.back().copy_(t.grad());
            else
                b.parts.back().zero_();
            first += t.numel();
        }
        b.work = group->allreduce(flat);
    }

    const c10::intrusive_ptr<c10d::ProcessGroup> &group;
    const at::Device device;
    const std::vector<at::Tensor> &params;
    std::vector<bucket> buckets;
    std::vector<size_t> bucket_of;
    std::vector<std::shared_ptr<torch::autograd::Node>> nodes;
    std::vector<uintptr_t> keys;
    size_t sent = 0;
};

} // namespace

struct ranks::parts {
    ranks_options options;
    meeting met;
    c10::intrusive_ptr<c10d::ProcessGroup> figures, statistics, gradients;

    explicit parts(const ranks_options &o) : options(o), met(o.meeting)
    {
        figures = gloo_group("figures");
        if (options.device.is_cpu()) {
            statistics = gloo_group("statistics");
            gradients = gloo_group("gradients");
        } else { /* one group, since two over NCCL may wait for each other crosswise */
            gradients = nccl_group(c10::make_intrusive<c10d::PrefixStore>("gradients", met.store()),
                                   o.meeting.rank, o.meeting.world, timeout());
            statistics = gradients;
        }
    }

    std::chrono::milliseconds timeout() const
    {
        return std::chrono::milliseconds(static_cast<int64_t>(options.timeout_s * 1000));
    }

    c10::intrusive_ptr<c10d::ProcessGroup> gloo_group(const char *name) const
    {
        auto o = c10d::ProcessGroupGloo::Options::create();
        o->timeout = timeout();
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
    gather({0}); /* missed until here, however long the others take */
    p->met.end_watch();
    gather({0}); /* rank 0 serves the store until nobody looks any more */
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

at::Tensor ranks::gather_statistics(const at::Tensor &mine) const
{
    std::vector<at::Tensor> in = {mine};
    std::vector<std::vector<at::Tensor>> out(1);
    for (int r = 0; r < world(); r++)
        out[0].push_back(at::empty_like(mine));
    p->statistics->allgather(out, in)->wait();
    return at::stack(out[0]);
}

std::vector<at::Tensor> ranks::gradients(const at::Tensor &loss, const std::vector<at::Tensor> &params,
                                         const std::vector<at::Tensor> &so_far)
{
    for (size_t i = 0; i < params.size(); i++)
        params[i].mutable_grad() = so_far.empty() ? at::Tensor() : so_far[i];
    backward_sum sum(p->gradients, p->options.device, params);
    loss.backward();
    return sum.finish();
}

} // namespace xdc
