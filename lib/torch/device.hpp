/* device: where a net computes, and what only a libtorch for CUDA has: groups of ranks over NCCL and graphs
 * of kernels. Used by net.cpp, ranks.cpp and step.cpp. One thread at a time. Throws refusals and what
 * libtorch throws; in a build against a libtorch without CUDA no device is one, and what needs it is refused.
 */
#pragma once
#include <chrono>
#include <functional>
#include <memory>

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "lib/torch/net.h"

namespace xdc
{

/* The device, made the thread's current one. XDC_ECONF where CUDA is demanded and there is none. */
at::Device device_open(enum net_device wanted, uint32_t gpu);

/* Ranks over NCCL, one GPU each; calls with tensors of the current device. */
c10::intrusive_ptr<c10d::ProcessGroup> nccl_group(const c10::intrusive_ptr<c10d::Store> &store, int rank,
                                                  int world, std::chrono::milliseconds timeout);

/* Kernels recorded once and started together from then on, on the tensors they were recorded with. */
class kernel_graph
{
  public:
    kernel_graph();
    ~kernel_graph();
    /* Runs `work` on a stream of its own without computing anything; it must not wait for the device. */
    void record(const std::function<void()> &work);
    void replay();

  private:
    struct parts;
    std::unique_ptr<parts> p;
};

} // namespace xdc
