/* recompute: activation checkpointing: a part of a network whose activations are not kept for the backward
 * pass but computed a second time in it. Used by resnet.cpp. Throws what libtorch throws. The gradients are
 * those of the plain pass bit for bit; running batch-norm statistics move once, in the first pass. */
#pragma once
#include <functional>

#include "lib/torch/layers.hpp"

namespace xdc
{

using part = std::function<maps(const maps &x, const norm_mode &mode)>;

/* apply(x, mode), where `parameters` are all leaves that apply's result depends on beside x. */
maps recompute(const maps &x, const std::vector<at::Tensor> &parameters, const part &apply,
               const norm_mode &mode);

} // namespace xdc
