/* encoder: a video or audio network as a list of named tensors and a forward pass to pooled features, or to
 * the maps of its last stage. Used by net.cpp and net_file.cpp. One thread at a time. Throws what libtorch
 * throws. Weights keep torchvision's names, order and shapes. */
#pragma once
#include <functional>
#include <memory>

#include "lib/torch/layers.hpp"
#include "lib/torch/net.h"

namespace xdc
{

/* The layers behind the state. */
struct body {
    virtual ~body() = default;
    virtual maps last(const maps &x, const norm_mode &mode) const = 0; /* the last stage's */
    virtual at::Tensor pool(const maps &last) const;                   /* [N, dim] f32: their mean */
    at::Tensor forward(const maps &x, const norm_mode &mode) const
    {
        return pool(last(x, mode));
    }
    virtual void each(const std::function<void(const layer &)> &visit) const = 0;
};

struct encoder {
    std::vector<entry> state; /* in torchvision's order */
    int64_t dim = 0;
    std::unique_ptr<const body> layers;
};

/* Weights drawn from `seed`. The spec is already checked. */
encoder encoder_create(const struct net_spec &spec, enum net_encoder which, uint64_t seed,
                       const at::Device &device);

/* What the spec and the device want of convolutions. */
conv_options conv_options_of(const struct net_spec &spec, const at::Device &device);

/* The maps of the last stage as a row (algorithms.md 2.5): max-pooled over windows of 2 in time, height and
 * width, of stride 2 (an extent of 1 stays), then [C, T, H, W] flattened: [N, C T' H' W'] f32. */
at::Tensor flat_maps(const maps &last);

/* Adds 1 to (or sets) the count of training batches of every norm in the list. */
void count_batch(const std::vector<entry> &state, bool restart);

} // namespace xdc
