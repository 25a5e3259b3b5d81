#include "lib/torch/device.hpp"

#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "lib/torch/net_impl.hpp"

#if defined(XDC_CUDA)
#include <ATen/DeviceAccelerator.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

namespace xdc
{

at::Device device_open(enum net_device wanted, uint32_t gpu)
{
    bool there = at::hasCUDA();
    if (wanted == NET_DEVICE_CUDA && !there)
        throw refusal{XDC_ECONF,
                      "cuda is asked for, but this libtorch finds no CUDA device: is it the one of "
                      "install-deps.sh --libtorch cu130, and does nvidia-smi list a GPU?"};
    if (wanted == NET_DEVICE_CPU || !there)
        return at::kCPU;
    const c10::impl::VirtualGuardImpl runtime(c10::DeviceType::CUDA);
    at::Device device(at::kCUDA,
                      static_cast<c10::DeviceIndex>(gpu % static_cast<uint32_t>(runtime.deviceCount())));
    runtime.setDevice(device);
    at::globalContext().setDeterministicCuDNN(true);
    at::globalContext().setBenchmarkCuDNN(true);
    return device;
}

#if defined(XDC_CUDA)

c10::intrusive_ptr<c10d::ProcessGroup> nccl_group(const c10::intrusive_ptr<c10d::Store> &store, int rank,
                                                  int world, std::chrono::milliseconds timeout)
{
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, world, options);
    auto group = c10::make_intrusive<c10d::ProcessGroup>(store, rank, world);
    group->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL, nccl);
    group->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
    return group;
}

struct kernel_graph::parts {
    at::cuda::CUDAGraph graph;
};

void kernel_graph::record(const std::function<void()> &work)
{
    c10::cuda::CUDAStream computing = c10::cuda::getCurrentCUDAStream();
    at::cuda::CUDAEvent ready;
    ready.record(computing);
    {
        c10::cuda::CUDAStreamGuard apart(c10::cuda::getStreamFromPool());
        ready.block(c10::cuda::getCurrentCUDAStream());
        p->graph.capture_begin();
        work();
        p->graph.capture_end();
    }
}

void kernel_graph::replay()
{
    p->graph.replay();
}

#else

c10::intrusive_ptr<c10d::ProcessGroup> nccl_group(const c10::intrusive_ptr<c10d::Store> &, int, int,
                                                  std::chrono::milliseconds)
{
    throw refusal{XDC_ECONF, "this libtorch is not for CUDA"};
}

struct kernel_graph::parts {
};

void kernel_graph::record(const std::function<void()> &)
{
    throw refusal{XDC_ECONF, "this libtorch is not for CUDA"};
}

void kernel_graph::replay()
{
}

#endif

kernel_graph::kernel_graph() : p(std::make_unique<parts>())
{
}

kernel_graph::~kernel_graph() = default;

} // namespace xdc

extern "C" {

uint32_t net_gpus(void)
{
    if (!at::hasCUDA())
        return 0;
    return static_cast<uint32_t>(c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).deviceCount());
}

double net_gpu_free(uint32_t gpu)
{
    double available = 0;
    uint32_t gpus = net_gpus();
    (void)gpu;
#if defined(XDC_CUDA)
    if (gpus > 0)
        try {
            available = static_cast<double>(
                at::accelerator::getMemoryInfo(static_cast<c10::DeviceIndex>(gpu % gpus)).first);
        } catch (const std::exception &) {
            available = 0;
        }
#endif
    (void)gpus;
    return available;
}

} // extern "C"
