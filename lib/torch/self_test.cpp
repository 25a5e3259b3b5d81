/* The convolutions that a net uses against sums of products in f64: see net_self_test. */
#include <cmath>
#include <cstdio>
#include <set>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include "lib/torch/net_impl.hpp"

namespace
{

/* Odd sizes, so that strides leave a rest. */
constexpr int64_t CLIPS = 2, TIMES = 3, SIDE = 5;

/* A convolution's numbers, channels last: x [N, T, H, W, in], y alike, weight [out, in, kt, kh, kw]. */
struct numbers {
    at::Tensor x, weight, y, dx, dweight;
};

/* Normal numbers that bfloat16 holds exactly, so that nothing but sums and results are rounded. */
at::Tensor draw(at::IntArrayRef shape, at::Generator &g)
{
    return at::empty(shape, at::kFloat).normal_(0, 1, g).to(at::kBFloat16).to(at::kDouble);
}

/* The numbers that the kernel's element (a, b, c) meets, of padded x. */
at::Tensor met(const at::Tensor &x, const xdc::conv &k, const at::Tensor &y, int64_t a, int64_t b, int64_t c)
{
    auto cut = [](const at::Tensor &t, int64_t dim, int64_t first, int64_t n, int64_t stride) {
        return t.slice(dim, first, first + (n - 1) * stride + 1, stride);
    };
    at::Tensor t = cut(x, 1, a, y.size(1), k.stride.time);
    return cut(cut(t, 2, b, y.size(2), k.stride.space), 3, c, y.size(3), k.stride.space);
}

/* y, dx and dweight by one product of matrices per element of the kernel. */
void by_sums(numbers &n, const xdc::conv &k, const at::Tensor &dy)
{
    int64_t out = n.weight.size(0), in = n.weight.size(1), t = k.pad.time, s = k.pad.space;
    at::Tensor x = at::constant_pad_nd(n.x, {0, 0, s, s, s, s, t, t}), dx = at::zeros_like(x);
    n.y = at::zeros_like(dy);
    n.dweight = at::zeros_like(n.weight);
    for (int64_t a = 0; a < n.weight.size(2); a++)
        for (int64_t b = 0; b < n.weight.size(3); b++)
            for (int64_t c = 0; c < n.weight.size(4); c++) {
                at::Tensor w = n.weight.select(4, c).select(3, b).select(2, a);
                at::Tensor part = met(x, k, dy, a, b, c);
                n.y.add_(at::matmul(part, w.t()));
                n.dweight.select(4, c).select(3, b).select(2, a).copy_(
                    at::matmul(dy.reshape({-1, out}).t(), part.reshape({-1, in})));
                met(dx, k, dy, a, b, c).add_(at::matmul(dy, w));
            }
    n.dx = dx.slice(1, t, t + TIMES).slice(2, s, s + SIDE).slice(3, s, s + SIDE);
}

/* The same by the convolution that the nets use. */
numbers by_convolution(const numbers &given, const xdc::conv &like, const at::Tensor &dy)
{
    xdc::conv k = like;
    auto where = like.weight.device();
    int64_t in = given.x.size(4), out = dy.size(4);
    k.weight = at::empty_like(like.weight.detach()); /* in the same layout */
    k.weight.copy_(given.weight.reshape(like.weight.sizes())).set_requires_grad(true);
    k.bias = at::Tensor();
    at::Tensor x = given.x.to(at::kFloat).to(where).set_requires_grad(true);
    at::AutoGradMode enabled(true);
    at::Tensor wide = at::constant_pad_nd(x, {0, like.in - in});
    xdc::maps y = xdc::conv_apply({wide.view({CLIPS * TIMES, SIDE, SIDE, like.in}), CLIPS, TIMES}, k);
    at::Tensor mine = y.data.view({CLIPS, y.t, y.data.size(1), y.data.size(2), like.out}).narrow(4, 0, out);
    auto grads = torch::autograd::grad({mine}, {x, k.weight}, {dy.to(where).to(mine.scalar_type())});
    auto host = [](const at::Tensor &t) { return t.detach().cpu().to(at::kDouble); };
    return {given.x, given.weight, host(mine), host(grads[0]), host(grads[1]).reshape(given.weight.sizes())};
}

std::string text_of(const xdc::conv &k)
{
    std::string s = "[";
    for (int64_t i = 0; i < k.weight.dim(); i++)
        s += (i ? ", " : "") + std::to_string(k.weight.size(i));
    s += "] of stride " + std::to_string(k.stride.time) + ", " + std::to_string(k.stride.space);
    if (k.out != k.weight.size(0) || k.in != k.weight.size(1))
        s += ", padded to [" + std::to_string(k.out) + ", " + std::to_string(k.in) + "]";
    return s + (k.bf16 ? " in bf16" : "");
}

/* The largest difference as a share of the largest number; NaN counts as infinitely far. */
double distance(const at::Tensor &a, const at::Tensor &b)
{
    double d = (a - b).abs().max().item<double>() / b.abs().max().item<double>();
    return d >= 0 ? d : HUGE_VAL;
}

void test(const xdc::conv &k, const std::string &text, double tolerance)
{
    at::Generator g = at::detail::createCPUGenerator(1);
    std::vector<int64_t> shape = k.weight.sizes().vec();
    if (shape.size() == 4)
        shape.insert(shape.begin() + 2, 1);
    numbers want;
    want.x = draw({CLIPS, TIMES, SIDE, SIDE, shape[1]}, g);
    /* An element's matrix lies in one piece. */
    want.weight = draw({shape[2], shape[3], shape[4], shape[0], shape[1]}, g).permute({3, 4, 0, 1, 2});
    auto count = [](int64_t n, int64_t kernel, int64_t pad, int64_t stride) {
        return (n + 2 * pad - kernel) / stride + 1;
    };
    int64_t side = count(SIDE, shape[3], k.pad.space, k.stride.space);
    at::Tensor dy = draw({CLIPS, count(TIMES, shape[2], k.pad.time, k.stride.time), side, side, shape[0]}, g);
    by_sums(want, k, dy);
    numbers got = by_convolution(want, k, dy);
    const double apart[] = {distance(got.y, want.y), distance(got.dx, want.dx),
                            distance(got.dweight, want.dweight)};
    static const char *const what[] = {"result", "gradient of its input", "gradient of its weight"};
    for (int i = 0; i < 3; i++)
        if (!(apart[i] <= tolerance)) {
            char figures[96];
            std::snprintf(figures, sizeof figures, " is off by %.2g of its largest number, allowed are %.2g",
                          apart[i], tolerance);
            throw xdc::refusal{XDC_ETORCH,
                               "convolution " + text + ": the " + what[i] + figures +
                                   ": this libtorch computes wrongly here; try train.amp: off, another "
                                   "libtorch (or its cuDNN or oneDNN), or the CPU in place of the GPU"};
        }
}

} // namespace

void xdc::self_test(const struct net &net, double tolerance)
{
    std::set<std::string> seen;
    for (int enc = 0; enc < NET_ENCODERS; enc++)
        net.encoder[enc].layers->each([&](const layer &l) {
            std::string text = text_of(l.c);
            if (!seen.insert(text).second)
                return;
            /* Of bfloat16 the result has 8 bits. */
            double allowed = l.c.bf16 ? 0.01 : 1e-4;
            test(l.c, text, tolerance > 0 ? tolerance : allowed);
        });
}
