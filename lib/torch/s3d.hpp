/* s3d: the separable 3-D Inception network S3D with torchvision's names; its head is the features' global
 * mean instead of torchvision's 2x7x7 windows (equal where the last map is that large: 16 frames of 224x224).
 * Used by encoder.cpp. Throws what libtorch throws. */
#pragma once
#include "lib/torch/encoder.hpp"

namespace xdc
{

/* Features of 16 x width; width 64 is the published network. */
encoder s3d_create(const struct net_spec &spec, uint64_t seed, const at::Device &device);

} // namespace xdc
