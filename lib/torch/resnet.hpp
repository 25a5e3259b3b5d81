/* resnet: R(2+1)D, R3D and MC3 video networks (algorithms.md 1.3; torchvision's VideoResNet) and the audio
 * ResNets (algorithms.md 1.6). Used by encoder.cpp. Throws what libtorch throws. */
#pragma once
#include "lib/torch/encoder.hpp"

namespace xdc
{

encoder resnet_video(const struct net_spec &spec, uint64_t seed, const at::Device &device);
encoder resnet_audio(const struct net_spec &spec, uint64_t seed, const at::Device &device);

} // namespace xdc
