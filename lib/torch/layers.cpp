#include "lib/torch/layers.hpp"

#include <cmath>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/version.h>

#include "lib/torch/time_conv.hpp"

namespace xdc
{
namespace
{

thread_local double multiply_adds = 0;

at::Tensor clips_of(const maps &x)
{
    return x.data.view({x.n, x.t, x.data.size(1), x.data.size(2), x.data.size(3)});
}

maps maps_of(const at::Tensor &clips)
{
    int64_t n = clips.size(0), t = clips.size(1);
    return {clips.reshape({n * t, clips.size(2), clips.size(3), clips.size(4)}), n, t};
}

/* A 1x1 kernel with strides looks at every so many places alone. */
maps thin(const maps &x, extent stride)
{
    if (stride.time == 1 && stride.space == 1)
        return x;
    return maps_of(clips_of(x)
                       .slice(1, 0, x.t, stride.time)
                       .slice(2, 0, x.data.size(1), stride.space)
                       .slice(3, 0, x.data.size(2), stride.space));
}

maps in_space(const maps &x, const conv &c)
{
    at::Tensor w = c.weight.dim() == 5 ? c.weight.select(2, 0) : c.weight;
    if (w.size(2) == 1) {
        maps y = thin(x, c.stride);
        return {convolve(y.data, w, c.bias, {1, 1}, {0, 0}), y.n, y.t};
    }
    maps y = thin(x, {c.stride.time, 1});
    return {convolve(y.data, w, c.bias, {c.stride.space, c.stride.space}, {c.pad.space, c.pad.space}), y.n,
            y.t};
}

maps in_time(const maps &x, const conv &c)
{
    int64_t h = x.data.size(1), w = x.data.size(2);
    at::Tensor flat = x.data.view({x.n, x.t, h * w, x.data.size(3)});
    bool own = flat.is_cpu() && flat.scalar_type() == at::kFloat && !c.bias.defined();
    at::Tensor y = own ? time_conv(flat, c.weight, c.stride.time, c.pad.time)
                       : convolve(flat, c.weight.select(4, 0), c.bias, {c.stride.time, 1}, {c.pad.time, 0});
    int64_t t = y.size(1);
    return {y.view({x.n * t, h, w, y.size(3)}), x.n, t};
}

maps in_both(const maps &x, const conv &c)
{
    at::Tensor y =
        at::conv3d(clips_of(x).permute({0, 4, 1, 2, 3}), c.weight, c.bias,
                   {c.stride.time, c.stride.space, c.stride.space}, {c.pad.time, c.pad.space, c.pad.space});
    return maps_of(y.permute({0, 2, 3, 4, 1}).contiguous());
}

/* libtorch 1.13 with oneDNN 2.6 gives garbage as the weight's gradient of a strided 3-D convolution in
 * bfloat16: the self-test shows it. */
bool right_in_bf16(at::IntArrayRef shape, const at::Device &where)
{
    bool in_both = shape.size() == 5 && shape[2] > 1 && shape[3] > 1;
    return !(TORCH_VERSION_MAJOR < 2 && in_both && where.is_cpu());
}

/* With zeros for the channels that input and result have beyond it; autograd drops their gradients. */
at::Tensor padded(const at::Tensor &w, int64_t in, int64_t out)
{
    if (in == w.size(1) && out == w.size(0))
        return w;
    std::vector<int64_t> pads(static_cast<size_t>(2 * w.dim()), 0);
    pads[pads.size() - 3] = in - w.size(1);
    pads[pads.size() - 1] = out - w.size(0);
    return at::constant_pad_nd(w, pads);
}

} // namespace

builder::builder(std::vector<entry> &state, uint64_t seed, const at::Device &device, double norm_eps,
                 conv_options options)
    : list(state), generator(at::detail::createCPUGenerator(seed)), where(device), eps(norm_eps), how(options)
{
}

void builder::add_parameter(const std::string &name, at::Tensor &value, bool decays)
{
    value.set_requires_grad(true);
    list.push_back({name, value, at::zeros_like(value.detach()), decays});
}

conv builder::make_conv(const std::string &name, at::IntArrayRef shape, extent stride, extent pad,
                        bool biased)
{
    double fan_out = static_cast<double>(shape[0]);
    for (size_t i = 2; i < shape.size(); i++)
        fan_out *= static_cast<double>(shape[i]);
    conv c;
    /* Channels last in memory, as the convolutions want them: nothing is copied in a step. */
    auto layout = shape.size() == 5 ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::ChannelsLast;
    at::Tensor drawn = at::empty(shape, at::kFloat).normal_(0, std::sqrt(2 / fan_out), generator);
    c.weight = at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(where), layout).copy_(drawn);
    c.stride = stride;
    c.pad = pad;
    c.in = shape[1];
    c.out = shape[0];
    c.bf16 = how.bf16 && right_in_bf16(shape, where);
    add_parameter(name + ".weight", c.weight, true);
    if (biased)
        c.bias = make_bias(name + ".bias", shape[0]);
    return c;
}

norm builder::make_norm(const std::string &name, int64_t channels)
{
    auto options = at::TensorOptions().dtype(at::kFloat).device(where);
    norm n;
    n.weight = at::ones({channels}, options);
    n.bias = at::zeros({channels}, options);
    n.mean = at::zeros({channels}, options);
    n.var = at::ones({channels}, options);
    n.batches = at::zeros({}, at::kLong);
    n.eps = eps;
    add_parameter(name + ".weight", n.weight, false);
    add_parameter(name + ".bias", n.bias, false);
    list.push_back({name + ".running_mean", n.mean, {}, false});
    list.push_back({name + ".running_var", n.var, {}, false});
    list.push_back({name + ".num_batches_tracked", n.batches, {}, false});
    return n;
}

layer builder::make_layer(const std::string &conv_name, const std::string &norm_name, at::IntArrayRef shape,
                          extent stride, extent pad)
{
    layer l;
    l.c = make_conv(conv_name, shape, stride, pad);
    l.n = make_norm(norm_name, shape[0]);
    return l;
}

at::Tensor builder::make_linear(const std::string &name, int64_t out, int64_t in)
{
    at::Tensor weight = at::empty({out, in}, at::kFloat).normal_(0, 0.01, generator).to(where);
    add_parameter(name, weight, true);
    return weight;
}

at::Tensor builder::make_bias(const std::string &name, int64_t n)
{
    at::Tensor bias = at::zeros({n}, at::TensorOptions().dtype(at::kFloat).device(where));
    add_parameter(name, bias, false);
    return bias;
}

void builder::align(layer &first, layer &second) const
{
    int64_t n = (first.c.out + how.multiple - 1) / how.multiple * how.multiple;
    first.c.out = second.c.in = n;
}

at::Tensor convolve(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias,
                    at::IntArrayRef stride, at::IntArrayRef pad)
{
    return at::conv2d(x.permute({0, 3, 1, 2}), weight.contiguous(at::MemoryFormat::ChannelsLast), bias,
                      stride, pad)
        .permute({0, 2, 3, 1})
        .contiguous();
}

maps conv_apply(const maps &x, const conv &c)
{
    conv k = c;
    k.weight = padded(c.weight, c.in, c.out);
    maps in = x;
    if (c.bf16) {
        in.data = x.data.to(at::kBFloat16);
        k.weight = k.weight.to(at::kBFloat16);
        k.bias = c.bias.defined() ? c.bias.to(at::kBFloat16) : c.bias;
    }
    const at::Tensor &w = k.weight;
    bool still = w.dim() == 4 || w.size(2) == 1;
    maps y = still ? in_space(in, k) : w.size(3) == 1 ? in_time(in, k) : in_both(in, k);
    multiply_adds += static_cast<double>(y.data.numel() / c.out) * static_cast<double>(c.weight.numel());
    /* On the CPU all that is between convolutions is f32. */
    if (c.bf16 && y.data.is_cpu())
        y.data = y.data.to(at::kFloat);
    return y;
}

maps layer_apply(const maps &x, const layer &l, const at::Tensor &residual, bool relu, const norm_mode &mode)
{
    maps y = conv_apply(x, l.c);
    if (l.n.weight.defined())
        y.data = norm_apply(y.data, l.n, residual, relu, mode);
    return y;
}

maps max_pool(const maps &x, extent size, extent stride, extent pad)
{
    if (size.time == 1)
        return {at::max_pool2d(x.data.permute({0, 3, 1, 2}), size.space, stride.space, pad.space)
                    .permute({0, 2, 3, 1})
                    .contiguous(),
                x.n, x.t};
    at::Tensor y =
        at::max_pool3d(clips_of(x).permute({0, 4, 1, 2, 3}).contiguous(), {size.time, size.space, size.space},
                       {stride.time, stride.space, stride.space}, {pad.time, pad.space, pad.space});
    return maps_of(y.permute({0, 2, 3, 4, 1}).contiguous());
}

double conv_count_reset()
{
    double n = multiply_adds;
    multiply_adds = 0;
    return n;
}

} // namespace xdc
