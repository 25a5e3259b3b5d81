#include "lib/torch/resnet.hpp"

#include <algorithm>

#include "lib/torch/recompute.hpp"

namespace xdc
{
namespace
{

struct block {
    std::vector<layer> first, second;
    bool projected = false;
    layer shortcut;
};

maps run(maps x, const std::vector<layer> &layers, const at::Tensor &residual, const norm_mode &mode)
{
    for (const layer &l : layers)
        x = layer_apply(x, l, &l == &layers.back() ? residual : at::Tensor(), true, mode);
    return x;
}

maps block_apply(const maps &x, const block &b, const norm_mode &mode)
{
    at::Tensor residual = b.projected ? layer_apply(x, b.shortcut, {}, false, mode).data : x.data;
    return run(run(x, b.first, {}, mode), b.second, residual, mode);
}

void each_of(const block &b, const std::function<void(const layer &)> &visit)
{
    std::for_each(b.first.begin(), b.first.end(), visit);
    std::for_each(b.second.begin(), b.second.end(), visit);
    if (b.projected)
        visit(b.shortcut);
}

std::vector<at::Tensor> parameters_of(const block &b)
{
    std::vector<at::Tensor> all;
    each_of(b, [&](const layer &l) { all.insert(all.end(), {l.c.weight, l.n.weight, l.n.bias}); });
    return all;
}

struct resnet : body {
    std::vector<layer> stem;
    bool pooled_stem = false; /* 3x3 max-pool of stride 2 behind the stem */
    bool largest = false;     /* features are the maximum of the last maps, not the mean: VMZ's audio net */
    std::vector<block> blocks;

    maps last(const maps &input, const norm_mode &mode) const override
    {
        maps x = run(input, stem, {}, mode);
        if (pooled_stem)
            x = max_pool(x, {1, 3}, {1, 2}, {0, 1});
        for (const block &b : blocks) {
            auto apply = [&b](const maps &y, const norm_mode &m) { return block_apply(y, b, m); };
            x = mode.recompute ? recompute(x, parameters_of(b), apply, mode) : apply(x, mode);
        }
        return x;
    }

    at::Tensor pool(const maps &last) const override
    {
        if (!largest)
            return body::pool(last);
        return last.data.view({last.n, -1, last.data.size(3)}).to(at::kFloat).amax(1);
    }

    void each(const std::function<void(const layer &)> &visit) const override
    {
        std::for_each(stem.begin(), stem.end(), visit);
        for (const block &b : blocks)
            each_of(b, visit);
    }
};

/* Channels between the spatial and the temporal half. */
int64_t midplanes(int64_t in, int64_t out)
{
    return 27 * in * out / (9 * in + 3 * out);
}

/* Blocks of the four stages. */
std::vector<int64_t> stage_sizes(uint32_t depth)
{
    if (depth == 34)
        return {3, 4, 6, 3};
    return depth == 18 ? std::vector<int64_t>{2, 2, 2, 2} : std::vector<int64_t>{1, 1, 1, 1};
}

/* One half of a video block: "<name>.0" the convolution (in factored networks itself two with a norm
 * between), "<name>.1" the norm. */
std::vector<layer> video_half(builder &b, enum net_video kind, const std::string &name, int64_t in,
                              int64_t out, int64_t stride, int64_t mid)
{
    if (kind == NET_R3D)
        return {b.make_layer(name + ".0", name + ".1", {out, in, 3, 3, 3}, {stride, stride}, {1, 1})};
    if (kind == NET_MC3)
        return {b.make_layer(name + ".0", name + ".1", {out, in, 1, 3, 3}, {1, stride}, {0, 1})};
    std::vector<layer> two;
    two.push_back(b.make_layer(name + ".0.0", name + ".0.1", {mid, in, 1, 3, 3}, {1, stride}, {0, 1}));
    two.push_back(b.make_layer(name + ".0.3", name + ".1", {out, mid, 3, 1, 1}, {stride, 1}, {1, 0}));
    b.align(two[0], two[1]);
    return two;
}

block video_block(builder &b, const struct net_spec &spec, enum net_video kind, const std::string &name,
                  int64_t in, int64_t out, int64_t stride)
{
    block k;
    /* torchvision's R(2+1)D takes the first convolution's midplanes for both: algorithms.md 1.3. */
    int64_t mid = midplanes(in, out), mid2 = spec.flavour == NET_XDC ? midplanes(out, out) : mid;
    k.first = video_half(b, kind, name + ".conv1", in, out, stride, mid);
    k.second = video_half(b, kind, name + ".conv2", out, out, 1, mid2);
    k.projected = stride != 1;
    if (k.projected)
        k.shortcut = b.make_layer(name + ".downsample.0", name + ".downsample.1", {out, in, 1, 1, 1},
                                  {kind == NET_MC3 ? 1 : stride, stride}, {0, 0});
    return k;
}

block audio_block(builder &b, const std::string &name, int64_t in, int64_t out, int64_t stride)
{
    block k;
    k.first = {b.make_layer(name + ".conv1", name + ".bn1", {out, in, 3, 3}, {1, stride}, {0, 1})};
    k.second = {b.make_layer(name + ".conv2", name + ".bn2", {out, out, 3, 3}, {1, 1}, {0, 1})};
    k.projected = stride != 1;
    if (k.projected)
        k.shortcut = b.make_layer(name + ".downsample.0", name + ".downsample.1", {out, in, 1, 1},
                                  {1, stride}, {0, 0});
    return k;
}

std::string block_name(int64_t stage, int64_t i)
{
    return "layer" + std::to_string(stage) + "." + std::to_string(i);
}

std::vector<layer> video_stem(builder &b, enum net_video kind, int64_t width)
{
    if (kind != NET_R2PLUS1D)
        return {b.make_layer("stem.0", "stem.1", {width, 3, 3, 7, 7}, {1, 2}, {1, 3})};
    int64_t mid = std::max<int64_t>(3, 45 * width / 64);
    std::vector<layer> two;
    two.push_back(b.make_layer("stem.0", "stem.1", {mid, 3, 1, 7, 7}, {1, 2}, {0, 3}));
    two.push_back(b.make_layer("stem.3", "stem.4", {width, mid, 3, 1, 1}, {1, 1}, {1, 0}));
    b.align(two[0], two[1]);
    return two;
}

/* VMZ's acoustic stem: a convolution with bias and nothing behind it, then three blocks. algorithms.md 1.6.
 */
void vmz_stem(resnet &net, builder &b, int64_t width)
{
    net.stem.push_back({b.make_conv("conv1", {width / 4, 1, 3, 3}, {1, 1}, {0, 1}, true), {}});
    for (int64_t i = 0; i < 3; i++)
        net.blocks.push_back(
            audio_block(b, block_name(0, i), i ? width / 2 : width / 4, width / 2, i ? 1 : 2));
    net.largest = true;
}

} // namespace

encoder resnet_video(const struct net_spec &spec, uint64_t seed, const at::Device &device)
{
    encoder e;
    auto net = std::make_unique<resnet>();
    bool xdc = spec.video == NET_R2PLUS1D && spec.flavour == NET_XDC;
    builder b(e.state, seed, device, xdc ? 1e-3 : 1e-5, conv_options_of(spec, device));
    int64_t in = spec.video_width;
    net->stem = video_stem(b, spec.video, in);
    std::vector<int64_t> sizes = stage_sizes(spec.video_depth);
    for (int64_t stage = 0; stage < 4; stage++) {
        int64_t out = static_cast<int64_t>(spec.video_width) << stage;
        /* MC3: time is mixed in the first stage alone. */
        enum net_video kind = spec.video == NET_MC3 && stage == 0 ? NET_R3D : spec.video;
        for (int64_t i = 0; i < sizes[static_cast<size_t>(stage)]; i++) {
            int64_t stride = stage > 0 && i == 0 ? 2 : 1;
            net->blocks.push_back(video_block(b, spec, kind, block_name(stage + 1, i), in, out, stride));
            in = out;
        }
    }
    e.dim = in;
    e.layers = std::move(net);
    return e;
}

encoder resnet_audio(const struct net_spec &spec, uint64_t seed, const at::Device &device)
{
    encoder e;
    auto net = std::make_unique<resnet>();
    bool vmz = spec.audio_stem == NET_STEM_VMZ;
    builder b(e.state, seed, device, vmz ? 1e-3 : 1e-5, conv_options_of(spec, device));
    int64_t width = spec.audio_width, in = vmz ? width / 2 : width;
    if (vmz) {
        vmz_stem(*net, b, width);
    } else {
        net->stem = {b.make_layer("conv1", "bn1", {width, 1, 7, 7}, {1, 2}, {0, 3})};
        net->pooled_stem = true;
    }
    std::vector<int64_t> sizes = stage_sizes(spec.audio_depth);
    for (int64_t stage = 0; stage < 4; stage++) {
        int64_t out = width << stage;
        for (int64_t i = 0; i < sizes[static_cast<size_t>(stage)]; i++) {
            int64_t stride = i == 0 && (stage > 0 || vmz) ? 2 : 1;
            net->blocks.push_back(audio_block(b, block_name(stage + 1, i), in, out, stride));
            in = out;
        }
    }
    e.dim = in;
    e.layers = std::move(net);
    return e;
}

} // namespace xdc
