#include "lib/torch/heads.hpp"

#include <ATen/CPUGeneratorImpl.h>

namespace xdc
{
namespace
{

constexpr double DROPOUT = 0.3, MLP_NORM_EPS = 1e-5;

at::Tensor drop(const at::Tensor &x, at::Generator &generator)
{
    at::Tensor kept = at::empty(x.sizes(), at::kFloat).bernoulli_(1 - DROPOUT, generator).div_(1 - DROPOUT);
    return x * kept.to(x.device());
}

} // namespace

head head_create(size_t h, enum net_head kind, int64_t classes, int64_t dim, uint64_t seed,
                 const at::Device &device)
{
    head out;
    std::string name = "heads." + std::to_string(h) + ".";
    builder b(out.state, seed, device, MLP_NORM_EPS);
    out.mlp = kind == NET_HEAD_MLP;
    if (out.mlp) {
        out.hidden = b.make_linear(name + "1.weight", dim, dim);
        out.hidden_norm = b.make_norm(name + "2", dim);
        name += "5.";
    }
    out.weight = b.make_linear(name + "weight", classes, dim);
    out.bias = b.make_bias(name + "bias", classes);
    return out;
}

at::Tensor head_forward(const head &h, const at::Tensor &features, const norm_mode &mode, uint64_t seed)
{
    if (!h.mlp)
        return at::linear(features, h.weight, h.bias);
    at::Generator generator = at::detail::createCPUGenerator(seed);
    at::Tensor x = mode.train ? drop(features, generator) : features;
    x = norm_apply(at::linear(x, h.hidden).contiguous(), h.hidden_norm, {}, true, mode);
    if (mode.train)
        x = drop(x, generator);
    return at::linear(x, h.weight, h.bias);
}

} // namespace xdc
