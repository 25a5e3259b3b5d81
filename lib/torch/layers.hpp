/* layers: the parts that every encoder is built of: named tensors, convolutions in one memory layout, and the
 * builder that draws and names them. Used by resnet.cpp, s3d.cpp and heads.cpp. One thread at a time. Throws
 * what libtorch throws. Activations are [N * T, H, W, C] in memory throughout: a (1, k, k) convolution is a
 * 2-D one over all frames, a (k, 1, 1) convolution a 2-D one over [T, H * W]. The libtorch of today computes
 * 2-D convolutions with channels last in place, 3-D ones only after copying them to another layout and back.
 */
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "lib/torch/norm.hpp"

namespace xdc
{

/* One tensor of the state: a parameter with its momentum, or a buffer (momentum undefined). */
struct entry {
    std::string name;
    at::Tensor value;
    at::Tensor momentum;
    bool decays; /* weight decay applies: convolution and head weights */
};

/* N clips of T maps. */
struct maps {
    at::Tensor data; /* [N * T, H, W, C], contiguous */
    int64_t n, t;
};

/* Of time and of space. */
struct extent {
    int64_t time, space;
};

/* weight [out, in, kt, kh, kw], or [out, in, kh, kw] for pictures without time. */
struct conv {
    at::Tensor weight, bias; /* bias undefined: none */
    extent stride = {1, 1}, pad = {0, 0};
    /* Channels of input and result in memory: those beyond the weight's own are zeros (see conv_options). */
    int64_t in = 0, out = 0;
    bool bf16 = false; /* input, weight and their gradients are rounded to bfloat16 */
};

/* How convolutions are computed. Parameters are the same in all cases. */
struct conv_options {
    bool bf16 = false;
    int64_t multiple = 1; /* of channels between the halves of a factored convolution */
};

/* A convolution with its norm; without a norm (weight undefined) nothing follows it. */
struct layer {
    conv c;
    norm n;
};

/* Draws the layers of an encoder in order and enters them in its state: convolutions Kaiming normal, fan out;
 * norms 1 and 0; biases 0 (algorithms.md 1.3). */
class builder
{
  public:
    builder(std::vector<entry> &state, uint64_t seed, const at::Device &device, double norm_eps,
            conv_options options = {});

    conv make_conv(const std::string &name, at::IntArrayRef shape, extent stride, extent pad,
                   bool biased = false);
    norm make_norm(const std::string &name, int64_t channels);
    layer make_layer(const std::string &conv_name, const std::string &norm_name, at::IntArrayRef shape,
                     extent stride, extent pad);
    /* Weights N(0, 0.01). */
    at::Tensor make_linear(const std::string &name, int64_t out, int64_t in);
    at::Tensor make_bias(const std::string &name, int64_t n);
    /* Pads the channels between two layers, of which the second alone sees what the first makes. */
    void align(layer &first, layer &second) const;

  private:
    void add_parameter(const std::string &name, at::Tensor &value, bool decays);

    std::vector<entry> &list;
    at::Generator generator;
    at::Device where;
    double eps;
    conv_options how;
};

/* A 2-D convolution of [B, Y, X, C] maps; bias may be undefined. */
at::Tensor convolve(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias,
                    at::IntArrayRef stride, at::IntArrayRef pad);
/* f32, but bfloat16 where c.bf16 on a GPU. */
maps conv_apply(const maps &x, const conv &c);
/* act(norm(conv(x)) + residual); residual may be undefined. */
maps layer_apply(const maps &x, const layer &l, const at::Tensor &residual, bool relu, const norm_mode &mode);
/* Max-pooling over windows of `size`. */
maps max_pool(const maps &x, extent size, extent stride, extent pad);

/* Multiply-adds of the convolutions since the last call, of this thread. */
double conv_count_reset();

} // namespace xdc
