#include "lib/torch/time_conv.hpp"

#include <algorithm>

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "lib/torch/layers.hpp"

#if defined(XDC_DNNL)
#include <dnnl.h>
#endif

namespace xdc
{
namespace
{

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/* c [m, n] += a^T b, a [rows, m], b [rows, n], each with its own distance between rows. */
struct product {
    int64_t m, n, rows;
    const float *a, *b;
    float *c;
    int64_t a_row, b_row, c_row;
};

void add_product(const product &p)
{
#if defined(XDC_DNNL)
    dnnl_status_t status =
        dnnl_sgemm('T', 'N', p.m, p.n, p.rows, 1, p.a, p.a_row, p.b, p.b_row, 1, p.c, p.c_row);
    TORCH_CHECK(status == dnnl_success, "dnnl_sgemm fails with ", static_cast<int>(status));
#else
    auto view = [](const float *data, int64_t rows, int64_t columns, int64_t row) {
        return at::from_blob(const_cast<float *>(data), {rows, columns}, {row, 1}, at::kFloat);
    };
    view(p.c, p.m, p.n, p.c_row).addmm_(view(p.a, p.rows, p.m, p.a_row).t(), view(p.b, p.rows, p.n, p.b_row));
#endif
}

/* The gradient of the weight: a matrix product of the output's gradient with the input, moved by each tap.
 * Each thread has input channels of its own. */
at::Tensor weight_gradient(const at::Tensor &x, const at::Tensor &dy, int64_t taps, int64_t stride,
                           int64_t pad)
{
    int64_t n = x.size(0), t = x.size(1), pixels = x.size(2), in = x.size(3), to = dy.size(1),
            out = dy.size(3);
    at::Tensor g = at::zeros({out, taps, 1, 1, in}, at::kFloat);
    const float *px = x.data_ptr<float>(), *py = dy.data_ptr<float>();
    float *pg = g.data_ptr<float>();
    constexpr int64_t LANES = 16;
    int64_t parts = std::min<int64_t>(at::get_num_threads(), (in + LANES - 1) / LANES);
    auto edge = [&](int64_t p) { return std::min(in, (in * p / parts + LANES - 1) / LANES * LANES); };
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
        at::NoGradGuard no_grad;
        int64_t c0 = edge(begin), c1 = edge(end);
        for (int64_t k = 0; k < taps; k++) {
            /* The outputs whose input is there. */
            int64_t first = std::max<int64_t>(0, (pad - k + stride - 1) / stride);
            int64_t last = std::min(to, (t + pad - k + stride - 1) / stride);
            /* With stride 1 the inputs of outputs in a row are in a row. */
            int64_t run = stride == 1 ? std::max<int64_t>(last - first, 1) : 1;
            for (int64_t clip = 0; clip < n; clip++)
                for (int64_t o = first; o < last; o += run)
                    add_product({out, c1 - c0, run * pixels, py + (clip * to + o) * pixels * out,
                                 px + (clip * t + o * stride + k - pad) * pixels * in + c0, pg + k * in + c0,
                                 out, in, taps * in});
        }
    });
    return g.permute({0, 4, 1, 2, 3});
}

/* The gradient of the input: with stride 1 it is a convolution too, with the taps in reverse. */
at::Tensor input_gradient(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &dy, int64_t stride,
                          int64_t pad)
{
    at::Tensor w = weight.select(4, 0);
    if (stride == 1)
        return convolve(dy, w.flip({2}).transpose(0, 1), {}, {1, 1}, {weight.size(2) - 1 - pad, 0});
    auto grads = at::convolution_backward(
        dy.permute({0, 3, 1, 2}), x.permute({0, 3, 1, 2}), w.contiguous(at::MemoryFormat::ChannelsLast),
        c10::nullopt, {stride, 1}, {pad, 0}, {1, 1}, false, {0, 0}, 1, {true, false, false});
    return std::get<0>(grads).permute({0, 2, 3, 1}).contiguous();
}

struct function : torch::autograd::Function<function> {
    static at::Tensor forward(AutogradContext *ctx, const at::Tensor &x, const at::Tensor &weight,
                              int64_t stride, int64_t pad)
    {
        ctx->save_for_backward({x, weight});
        ctx->saved_data["stride"] = stride;
        ctx->saved_data["pad"] = pad;
        return convolve(x, weight.select(4, 0), {}, {stride, 1}, {pad, 0});
    }

    static variable_list backward(AutogradContext *ctx, variable_list grads)
    {
        variable_list saved = ctx->get_saved_variables();
        const at::Tensor &x = saved[0], &weight = saved[1], dy = grads[0].contiguous();
        int64_t stride = ctx->saved_data["stride"].toInt(), pad = ctx->saved_data["pad"].toInt();
        return {input_gradient(x, weight, dy, stride, pad),
                weight_gradient(x, dy, weight.size(2), stride, pad), at::Tensor(), at::Tensor()};
    }
};

} // namespace

at::Tensor time_conv(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t pad)
{
    return function::apply(x, weight, stride, pad);
}

} // namespace xdc
