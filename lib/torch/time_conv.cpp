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

struct shapes {
    int64_t n, t, pixels, in, to, out, taps, stride, pad;
};

/* Adds what clips [clip, last_clip) and input channels [c0, c1) give to g [out, taps, in]: for each tap the
 * product of the output's gradient with the input, moved by the tap. */
void add_gradient(const shapes &s, const float *x, const float *dy, int64_t clip, int64_t last_clip,
                  int64_t c0, int64_t c1, float *g)
{
    for (int64_t k = 0; k < s.taps; k++) {
        /* The outputs whose input is there. */
        int64_t first = std::max<int64_t>(0, (s.pad - k + s.stride - 1) / s.stride);
        int64_t last = std::min(s.to, (s.t + s.pad - k + s.stride - 1) / s.stride);
        /* With stride 1 the inputs of outputs in a row are in a row. */
        int64_t run = s.stride == 1 ? std::max<int64_t>(last - first, 1) : 1;
        for (int64_t i = clip; i < last_clip; i++)
            for (int64_t o = first; o < last; o += run)
                add_product({s.out, c1 - c0, run * s.pixels, dy + (i * s.to + o) * s.pixels * s.out,
                             x + (i * s.t + o * s.stride + k - s.pad) * s.pixels * s.in + c0,
                             g + k * s.in + c0, s.out, s.in, s.taps * s.in});
    }
}

/* The gradient of the weight. A thread has clips of its own and a sum of its own, or, where the sums would be
 * large, input channels of its own. */
at::Tensor weight_gradient(const at::Tensor &x, const at::Tensor &dy, int64_t taps, int64_t stride,
                           int64_t pad)
{
    shapes s = {x.size(0), x.size(1), x.size(2), x.size(3), dy.size(1), dy.size(3), taps, stride, pad};
    constexpr int64_t LANES = 16, SUMS_MAX = 1 << 20;
    int64_t threads = at::get_num_threads(), size = s.out * taps * s.in;
    bool by_clip = threads > 1 && s.n >= threads && threads * size <= SUMS_MAX;
    int64_t parts = by_clip ? threads : std::min<int64_t>(threads, (s.in + LANES - 1) / LANES);
    at::Tensor g = at::zeros({by_clip ? parts : 1, s.out, taps, 1, 1, s.in}, at::kFloat);
    const float *px = x.data_ptr<float>(), *py = dy.data_ptr<float>();
    float *pg = g.data_ptr<float>();
    auto edge = [&](int64_t p) { return std::min(s.in, (s.in * p / parts + LANES - 1) / LANES * LANES); };
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
        at::NoGradGuard no_grad;
        for (int64_t p = begin; p < end; p++)
            if (by_clip)
                add_gradient(s, px, py, s.n * p / parts, s.n * (p + 1) / parts, 0, s.in, pg + p * size);
            else
                add_gradient(s, px, py, 0, s.n, edge(p), edge(p + 1), pg);
    });
    return g.sum(0).permute({0, 4, 1, 2, 3});
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
