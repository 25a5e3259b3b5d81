#include "lib/torch/encoder.hpp"

#include <cmath>

#include <ATen/CPUGeneratorImpl.h>

namespace xdc
{
namespace
{

/* Draws the layers of an encoder in order and enters them in its state. */
class builder
{
  public:
    builder(encoder &target, uint64_t seed, const at::Device &where, double norm_eps)
        : enc(target), generator(at::detail::createCPUGenerator(seed)), device(where), eps(norm_eps)
    {
    }

    conv make_conv(const std::string &name, at::IntArrayRef shape, int64_t stride, int64_t pad)
    {
        /* Kaiming, normal, fan out: algorithms.md 1.3. */
        double fan_out = static_cast<double>(shape[0]);
        for (size_t i = 2; i < shape.size(); i++)
            fan_out *= static_cast<double>(shape[i]);
        conv c;
        c.weight = at::empty(shape, at::kFloat).normal_(0, std::sqrt(2 / fan_out), generator).to(device);
        c.stride = stride;
        c.pad = pad;
        add_parameter(name + ".weight", c.weight, true);
        return c;
    }

    norm make_norm(const std::string &name, int64_t channels)
    {
        auto options = at::TensorOptions().dtype(at::kFloat).device(device);
        norm n;
        n.weight = at::ones({channels}, options);
        n.bias = at::zeros({channels}, options);
        n.mean = at::zeros({channels}, options);
        n.var = at::ones({channels}, options);
        n.batches = at::zeros({}, at::kLong);
        n.eps = eps;
        add_parameter(name + ".weight", n.weight, false);
        add_parameter(name + ".bias", n.bias, false);
        enc.state.push_back({name + ".running_mean", n.mean, {}, false});
        enc.state.push_back({name + ".running_var", n.var, {}, false});
        enc.state.push_back({name + ".num_batches_tracked", n.batches, {}, false});
        return n;
    }

  private:
    void add_parameter(const std::string &name, at::Tensor &value, bool decays)
    {
        value.set_requires_grad(true);
        enc.state.push_back({name, value, at::zeros_like(value.detach()), decays});
    }

    encoder &enc;
    at::Generator generator;
    at::Device device;
    double eps;
};

/* Channels between the spatial and the temporal half, per convolution: algorithms.md 1.3. */
int64_t midplanes(int64_t in, int64_t out)
{
    return 27 * in * out / (9 * in + 3 * out);
}

unit make_unit21(builder &b, const std::string &name, int64_t in, int64_t out, int64_t stride)
{
    int64_t mid = midplanes(in, out);
    unit u;
    u.factored = true;
    u.space = b.make_conv(name + ".0.0", {mid, in, 1, 3, 3}, stride, 1);
    u.space_norm = b.make_norm(name + ".0.1", mid);
    u.time = b.make_conv(name + ".0.3", {out, mid, 3, 1, 1}, stride, 1);
    u.time_norm = b.make_norm(name + ".1", out);
    return u;
}

unit make_unit2(builder &b, const std::string &name, const std::string &number, int64_t in, int64_t out,
                int64_t stride)
{
    unit u;
    u.space = b.make_conv(name + ".conv" + number, {out, in, 3, 3}, stride, 1);
    u.space_norm = b.make_norm(name + ".bn" + number, out);
    return u;
}

void make_stages(encoder &e, builder &b, int64_t depth, int64_t width, bool video)
{
    int64_t in = width;
    for (int64_t stage = 0; stage < 4; stage++) {
        int64_t out = width << stage;
        for (int64_t i = 0; i < (depth == 18 ? 2 : 1); i++) {
            std::string name = "layer" + std::to_string(stage + 1) + "." + std::to_string(i);
            int64_t stride = stage > 0 && i == 0 ? 2 : 1;
            block k;
            k.first = video ? make_unit21(b, name + ".conv1", in, out, stride)
                            : make_unit2(b, name, "1", in, out, stride);
            k.second =
                video ? make_unit21(b, name + ".conv2", out, out, 1) : make_unit2(b, name, "2", out, out, 1);
            k.projected = stride != 1;
            if (k.projected) {
                std::vector<int64_t> shape(video ? 5 : 4, 1);
                shape[0] = out;
                shape[1] = in;
                k.shortcut = b.make_conv(name + ".downsample.0", shape, stride, 0);
                k.shortcut_norm = b.make_norm(name + ".downsample.1", out);
            }
            e.blocks.push_back(k);
            in = out;
        }
    }
    e.dim = in;
}

/* Runs a 2-D convolution on [B, Y, X, C] maps. */
at::Tensor convolve(const at::Tensor &x, const at::Tensor &weight, at::IntArrayRef stride,
                    at::IntArrayRef pad)
{
    return at::conv2d(x.permute({0, 3, 1, 2}), weight.contiguous(at::MemoryFormat::ChannelsLast), {}, stride,
                      pad)
        .permute({0, 2, 3, 1})
        .contiguous();
}

maps space(const maps &x, const conv &c)
{
    at::Tensor w = c.weight.dim() == 5 ? c.weight.select(2, 0) : c.weight;
    return {convolve(x.data, w, {c.stride, c.stride}, {c.pad, c.pad}), x.n, x.t};
}

maps time(const maps &x, const conv &c)
{
    int64_t h = x.data.size(1), w = x.data.size(2);
    at::Tensor flat = x.data.view({x.n, x.t, h * w, x.data.size(3)});
    at::Tensor y = convolve(flat, c.weight.select(4, 0), {c.stride, 1}, {c.pad, 0});
    int64_t t = y.size(1);
    return {y.view({x.n * t, h, w, y.size(3)}), x.n, t};
}

at::Tensor unit_forward(maps &x, const unit &u, const at::Tensor &residual, const norm_mode &mode)
{
    x = space(x, u.space);
    if (!u.factored)
        return x.data = norm_apply(x.data, u.space_norm, residual, true, mode);
    x.data = norm_apply(x.data, u.space_norm, {}, true, mode);
    x = time(x, u.time);
    return x.data = norm_apply(x.data, u.time_norm, residual, true, mode);
}

at::Tensor shortcut(const maps &x, const block &b, bool in_time, const norm_mode &mode)
{
    if (!b.projected)
        return x.data;
    int64_t h = x.data.size(1), w = x.data.size(2), c = x.data.size(3), s = b.shortcut.stride;
    at::Tensor y = x.data.view({x.n, x.t, h, w, c});
    if (in_time)
        y = y.slice(1, 0, x.t, s);
    y = y.slice(2, 0, h, s).slice(3, 0, w, s);
    y = y.reshape({-1, y.size(2), y.size(3), c});
    at::Tensor weight = b.shortcut.weight.view({-1, c, 1, 1});
    return norm_apply(convolve(y, weight, {1, 1}, {0, 0}), b.shortcut_norm, {}, false, mode);
}

} // namespace

encoder encoder_video(int64_t depth, int64_t width, uint64_t seed, const at::Device &device)
{
    encoder e;
    builder b(e, seed, device, 1e-3);
    int64_t mid = std::max<int64_t>(3, 45 * width / 64);
    e.stem.factored = true;
    e.stem.space = b.make_conv("stem.0", {mid, 3, 1, 7, 7}, 2, 3);
    e.stem.space_norm = b.make_norm("stem.1", mid);
    e.stem.time = b.make_conv("stem.3", {width, mid, 3, 1, 1}, 1, 1);
    e.stem.time_norm = b.make_norm("stem.4", width);
    make_stages(e, b, depth, width, true);
    return e;
}

encoder encoder_audio(int64_t depth, int64_t width, uint64_t seed, const at::Device &device)
{
    encoder e;
    builder b(e, seed, device, 1e-5);
    e.stem.space = b.make_conv("conv1", {width, 1, 7, 7}, 2, 3);
    e.stem.space_norm = b.make_norm("bn1", width);
    e.pooled = true;
    make_stages(e, b, depth, width, false);
    return e;
}

at::Tensor encoder_forward(const encoder &e, maps x, const norm_mode &mode)
{
    unit_forward(x, e.stem, {}, mode);
    if (e.pooled)
        x.data = at::max_pool2d(x.data.permute({0, 3, 1, 2}), 3, 2, 1).permute({0, 2, 3, 1}).contiguous();
    for (const block &b : e.blocks) {
        at::Tensor residual = shortcut(x, b, b.first.factored, mode);
        unit_forward(x, b.first, {}, mode);
        unit_forward(x, b.second, residual, mode);
    }
    return x.data.view({x.n, -1, e.dim}).mean(1);
}

void encoder_count_batch(const encoder &e, bool restart)
{
    for (const entry &s : e.state)
        if (s.value.scalar_type() == at::kLong)
            s.value.fill_(restart ? 1 : s.value.item<int64_t>() + 1);
}

} // namespace xdc
