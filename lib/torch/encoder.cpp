#include "lib/torch/encoder.hpp"

#include "lib/torch/resnet.hpp"
#include "lib/torch/s3d.hpp"

namespace xdc
{

encoder encoder_create(const struct net_spec &spec, enum net_encoder which, uint64_t seed,
                       const at::Device &device)
{
    if (net_modality(spec.pair, which) == NET_AUDIO)
        return resnet_audio(spec, seed, device);
    if (spec.video == NET_S3D)
        return s3d_create(spec, seed, device);
    return resnet_video(spec, seed, device);
}

conv_options conv_options_of(const struct net_spec &spec, const at::Device &device)
{
    bool pads = spec.pad_channels == NET_ON || (spec.pad_channels == NET_AUTO && !device.is_cpu());
    return {spec.amp == NET_AMP_BF16, pads ? 8 : 1};
}

void count_batch(const std::vector<entry> &state, bool restart)
{
    for (const entry &s : state)
        if (s.value.scalar_type() == at::kLong && restart)
            s.value.fill_(1);
        else if (s.value.scalar_type() == at::kLong)
            s.value.add_(1);
}

} // namespace xdc
