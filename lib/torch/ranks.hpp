/* ranks: processes that train one net together, over libtorch's c10d. Used by norm.cpp, step.cpp and net.cpp.
 * Calls are collective: every rank makes the same ones in the same order, from one thread. Throws what c10d
 * throws; a lost rank makes the next call throw within the time-out, mostly at once. */
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "lib/torch/meeting.hpp"

namespace xdc
{

struct ranks_options {
    meeting_options meeting;
    double timeout_s; /* of a call */
    bool sync_norm;
    at::Device device = at::kCPU; /* where gradients are: they cross by NCCL on a GPU, else by Gloo */
};

class ranks
{
  public:
    explicit ranks(const ranks_options &o);
    ~ranks();

    int rank() const;
    int world() const;
    bool sync_norm() const;
    /* A rank that has gone, -1: none. Any thread. */
    int lost() const;
    /* Waits for all: after it ranks may go without being missed. */
    void leave();

    /* The parts of all ranks, one behind the other: f64 [world, n]. Equal on every rank. */
    std::vector<double> gather(const std::vector<double> &mine) const;
    /* n bytes of every rank: [world, n]. */
    std::vector<uint8_t> gather_bytes(const void *mine, size_t n) const;
    /* As gather, for batch statistics, on connections of their own, since it runs between the gradients'. */
    std::vector<double> gather_statistics(const std::vector<double> &mine) const;
    /* The same of a tensor on the group's device: [world, n]. */
    at::Tensor gather_statistics(const at::Tensor &mine) const;

    /* Gradients of loss with respect to `params` (leaves), and `so_far` (empty: nothing), summed over ranks.
     * They are sent in buckets while the backward pass runs. */
    std::vector<at::Tensor> gradients(const at::Tensor &loss, const std::vector<at::Tensor> &params,
                                      const std::vector<at::Tensor> &so_far);

  private:
    struct parts;
    std::unique_ptr<parts> p;
};

} // namespace xdc
