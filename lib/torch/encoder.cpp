#include "lib/torch/encoder.hpp"

#include "lib/torch/resnet.hpp"
#include "lib/torch/s3d.hpp"

namespace xdc
{

at::Tensor body::pool(const maps &last) const
{
    return last.data.view({last.n, -1, last.data.size(3)}).to(at::kFloat).mean(1);
}

at::Tensor flat_maps(const maps &last)
{
    const at::Tensor &d = last.data;
    at::Tensor x = d.view({last.n, last.t, d.size(1), d.size(2), d.size(3)}).to(at::kFloat);
    x = x.permute({0, 4, 1, 2, 3}).contiguous(); /* [N, C, T, H, W] */
    std::vector<int64_t> window;
    for (int64_t axis = 2; axis < 5; axis++)
        window.push_back(x.size(axis) < 2 ? 1 : 2);
    return at::max_pool3d(x, window, window).flatten(1);
}

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
