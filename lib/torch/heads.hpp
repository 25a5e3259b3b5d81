/* heads: what turns features into logits: one linear layer, or SeLaVi's MLP (algorithms.md 4.4). Used by
 * net.cpp, step.cpp and net_file.cpp. One thread at a time. Throws what libtorch throws. */
#pragma once
#include <vector>

#include "lib/torch/layers.hpp"
#include "lib/torch/net.h"

namespace xdc
{

/* Names are PyTorch's: "heads.<h>.weight" and ".bias"; of the MLP those of the Sequential(Dropout, Linear,
 * BatchNorm1d, ReLU, Dropout, Linear): "heads.<h>.1.weight", "heads.<h>.2.*", "heads.<h>.5.*". */
struct head {
    std::vector<entry> state;
    bool mlp = false;
    at::Tensor hidden; /* [dim, dim], of the MLP alone */
    norm hidden_norm;
    at::Tensor weight, bias; /* [classes, dim], [classes] */
};

/* Number h of its encoder: weights N(0, 0.01), bias 0; the MLP's hidden layer likewise. */
head head_create(size_t h, enum net_head kind, int64_t classes, int64_t dim, uint64_t seed,
                 const at::Device &device);

/* Logits [N, classes]. In training the MLP drops 0.3 of the inputs of both its layers, drawn from `seed`. */
at::Tensor head_forward(const head &h, const at::Tensor &features, const norm_mode &mode, uint64_t seed);

} // namespace xdc
