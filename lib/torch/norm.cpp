#include "lib/torch/norm.hpp"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/torch/norm_kernels.hpp"
#include "lib/torch/ranks.hpp"

namespace xdc
{
namespace
{

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/* Rows are dealt to threads in equal ranges: the order of every sum depends on the number of threads alone.
 */
template <class F> void over_rows(int64_t rows, F body)
{
    int64_t parts = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), rows / 256));
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; p++)
            body(p, rows * p / parts, rows * (p + 1) / parts);
    });
}

/* Two sums per channel over all rows, in double. */
template <class F> std::vector<double> sum_rows(int64_t rows, int64_t c, F body)
{
    std::vector<std::vector<double>> part(static_cast<size_t>(at::get_num_threads()));
    over_rows(rows, [&](int64_t p, int64_t first, int64_t last) {
        auto &sums = part[static_cast<size_t>(p)];
        sums.assign(static_cast<size_t>(2 * c), 0.0);
        body(first, last, sums.data());
    });
    std::vector<double> total(static_cast<size_t>(2 * c), 0.0);
    for (const auto &sums : part)
        for (size_t i = 0; i < sums.size(); i++)
            total[i] += sums[i];
    return total;
}

/* Per-channel numbers of one application: y = x * scale + shift. */
struct affine {
    std::vector<float> scale, shift;
    affine(size_t c) : scale(c), shift(c)
    {
    }
};

affine affine_of(const norm &n, const double *mean, const double *var)
{
    size_t c = static_cast<size_t>(n.weight.numel());
    const float *weight = n.weight.data_ptr<float>(), *bias = n.bias.data_ptr<float>();
    affine a(c);
    for (size_t i = 0; i < c; i++) {
        double scale = weight[i] / std::sqrt(var[i] + n.eps);
        a.scale[i] = static_cast<float>(scale);
        a.shift[i] = static_cast<float>(bias[i] - mean[i] * scale);
    }
    return a;
}

void transform(const at::Tensor &x, const affine &a, const at::Tensor &residual, bool relu,
               const at::Tensor &y)
{
    int64_t c = x.size(-1), rows = x.numel() / c;
    const float *px = x.data_ptr<float>(), *pr = residual.defined() ? residual.data_ptr<float>() : nullptr;
    float *py = y.data_ptr<float>();
    over_rows(rows, [&](int64_t, int64_t first, int64_t last) {
        norm_kernel_transform(px + first * c, pr ? pr + first * c : nullptr, py + first * c, a.scale.data(),
                              a.shift.data(), last - first, c, relu);
    });
}

/* Of all rows of a batch, on whatever ranks they are. */
struct statistics {
    double rows;
    std::vector<double> mean, var; /* [C]; var biased */
};

/* Sums of differences from the first row: no cancellation when the mean is large. */
statistics local_statistics(const at::Tensor &x)
{
    int64_t c = x.size(-1), rows = x.numel() / c;
    const float *px = x.data_ptr<float>();
    std::vector<double> s = sum_rows(rows, c, [&](int64_t first, int64_t last, double *sums) {
        norm_kernel_moments(px + first * c, px, last - first, c, sums);
    });
    size_t channels = static_cast<size_t>(c);
    statistics out = {static_cast<double>(rows), std::vector<double>(channels),
                      std::vector<double>(channels)};
    for (size_t i = 0; i < channels; i++) {
        double d = s[i] / out.rows;
        out.mean[i] = static_cast<double>(px[i]) + d;
        out.var[i] = std::max(0.0, s[channels + i] / out.rows - d * d);
    }
    return out;
}

/* Means and squares of the ranks put together pairwise, in the order of the ranks (Chan, Golub, LeVeque). */
statistics over_ranks(const statistics &mine, const ranks &group, bool ghost)
{
    size_t c = mine.mean.size(), n = 1 + 2 * c;
    std::vector<double> part = {ghost ? 0.0 : mine.rows};
    part.insert(part.end(), mine.mean.begin(), mine.mean.end());
    part.insert(part.end(), mine.var.begin(), mine.var.end());
    std::vector<double> all = group.gather_statistics(part);
    statistics out = {0, std::vector<double>(c), std::vector<double>(c)};
    for (size_t r = 0; r < all.size(); r += n) {
        double rows = all[r], total = out.rows + rows;
        if (!(rows > 0))
            continue;
        for (size_t i = 0; i < c; i++) {
            double delta = all[r + 1 + i] - out.mean[i];
            double squares =
                out.var[i] * out.rows + all[r + 1 + c + i] * rows + delta * delta * out.rows * rows / total;
            out.mean[i] += delta * rows / total;
            out.var[i] = squares / total;
        }
        out.rows = total;
    }
    return out;
}

/* The running statistics move: PyTorch's rule, with the unbiased variance. */
void move_running(const norm &n, const statistics &s, double momentum)
{
    float *mean = n.mean.data_ptr<float>(), *var = n.var.data_ptr<float>();
    for (size_t i = 0; i < s.mean.size(); i++) {
        double unbiased = s.rows > 1 ? s.var[i] * s.rows / (s.rows - 1) : s.var[i];
        mean[i] = static_cast<float>((1 - momentum) * static_cast<double>(mean[i]) + momentum * s.mean[i]);
        var[i] = static_cast<float>((1 - momentum) * static_cast<double>(var[i]) + momentum * unbiased);
    }
}

/* What backward keeps beside x: the batch's mean and 1/deviation, scale and shift, as f32 [4, C]. */
at::Tensor keep(const statistics &stats, const affine &a, double eps)
{
    int64_t c = static_cast<int64_t>(a.scale.size());
    at::Tensor k = at::empty({4, c}, at::kFloat);
    float *p = k.data_ptr<float>();
    for (int64_t i = 0; i < c; i++) {
        size_t j = static_cast<size_t>(i);
        p[i] = static_cast<float>(stats.mean[j]);
        p[c + i] = static_cast<float>(1 / std::sqrt(stats.var[j] + eps));
        p[2 * c + i] = a.scale[j];
        p[3 * c + i] = a.shift[j];
    }
    return k;
}

/* [world, n] summed in the order of the ranks. */
std::vector<double> add_ranks(const std::vector<double> &all, size_t n)
{
    std::vector<double> sum(n, 0.0);
    for (size_t i = 0; i < all.size(); i++)
        sum[i % n] += all[i];
    return sum;
}

/* The gradients of rows that stand in for none. */
variable_list nothing(const at::Tensor &x, const at::Tensor &masked_by, int64_t c)
{
    at::Tensor none = at::zeros({c}, at::kFloat);
    return {
        at::zeros_like(x), none,         none.clone(), masked_by.defined() ? at::zeros_like(x) : at::Tensor(),
        at::Tensor(),      at::Tensor(), at::Tensor()};
}

struct norm_train : torch::autograd::Function<norm_train> {
    static at::Tensor forward(AutogradContext *ctx, const at::Tensor &x, const at::Tensor &weight,
                              const at::Tensor &bias, const at::Tensor &residual, const norm *n, bool relu,
                              const norm_mode *mode)
    {
        (void)weight;
        (void)bias;
        statistics stats = local_statistics(x);
        if (mode->group)
            stats = over_ranks(stats, *mode->group, mode->ghost);
        if (mode->group || !mode->ghost)
            move_running(*n, stats, mode->momentum);
        affine a = affine_of(*n, stats.mean.data(), stats.var.data());
        at::Tensor y = at::empty_like(x);
        bool has_residual = residual.numel() > 0;
        transform(x, a, has_residual ? residual : at::Tensor(), relu, y);
        /* Without a shortcut the ReLU's mask follows from x; with one it is read off the output. */
        bool masked_by_y = relu && has_residual;
        ctx->save_for_backward({x, keep(stats, a, n->eps), masked_by_y ? y : at::Tensor()});
        ctx->saved_data["relu"] = relu;
        ctx->saved_data["residual"] = has_residual;
        ctx->saved_data["rows"] = stats.rows;
        ctx->saved_data["ghost"] = mode->ghost;
        ctx->saved_data["group"] = static_cast<int64_t>(reinterpret_cast<intptr_t>(mode->group));
        return y;
    }

    static variable_list backward(AutogradContext *ctx, variable_list grads)
    {
        variable_list saved = ctx->get_saved_variables();
        const at::Tensor &x = saved[0], &kept = saved[1];
        at::Tensor dy = grads[0].contiguous();
        bool relu = ctx->saved_data["relu"].toBool(), has_residual = ctx->saved_data["residual"].toBool();
        int64_t c = x.size(-1), rows = x.numel() / c;
        const float *mean = kept.data_ptr<float>(), *inv = mean + c, *scale = inv + c, *shift = scale + c;
        const float *px = x.data_ptr<float>(), *pg = dy.data_ptr<float>();
        const float *py = saved[2].defined() ? saved[2].data_ptr<float>() : nullptr;
        norm_mask mask = !relu ? norm_mask::none : py ? norm_mask::output : norm_mask::input;

        std::vector<double> s = sum_rows(rows, c, [&](int64_t first, int64_t last, double *sums) {
            norm_kernel_sums(px + first * c, pg + first * c, py ? py + first * c : nullptr, mean, scale,
                             shift, last - first, c, mask, sums);
        });
        /* The parameters' gradients are of these rows; what passes on to x counts the rows of all ranks. */
        std::vector<double> all = s;
        auto *group =
            reinterpret_cast<const ranks *>(static_cast<intptr_t>(ctx->saved_data["group"].toInt()));
        if (group)
            all = add_ranks(group->gather_statistics(s), s.size());
        if (ctx->saved_data["ghost"].toBool())
            return nothing(x, saved[2], c);
        double m = ctx->saved_data["rows"].toDouble();
        /* dx = scale (g - mean(g) - xhat mean(g xhat)) = scale g + b x + d */
        at::Tensor dw = at::empty({c}, at::kFloat), db = at::empty({c}, at::kFloat);
        std::vector<float> b(static_cast<size_t>(c)), d(static_cast<size_t>(c));
        for (int64_t i = 0; i < c; i++) {
            size_t j = static_cast<size_t>(i);
            double sum = all[j], dot = all[static_cast<size_t>(c) + j];
            double slope = -static_cast<double>(scale[i]) * inv[i] * inv[i] * dot / m;
            db.data_ptr<float>()[i] = static_cast<float>(s[j]);
            dw.data_ptr<float>()[i] = static_cast<float>(s[static_cast<size_t>(c) + j] * inv[i]);
            b[j] = static_cast<float>(slope);
            d[j] = static_cast<float>(-scale[i] * sum / m - slope * mean[i]);
        }
        at::Tensor dx = at::empty_like(x), dr = has_residual && relu ? at::empty_like(x) : at::Tensor();
        float *pdx = dx.data_ptr<float>(), *pdr = dr.defined() ? dr.data_ptr<float>() : nullptr;
        over_rows(rows, [&](int64_t, int64_t first, int64_t last) {
            norm_kernel_gradient(px + first * c, pg + first * c, py ? py + first * c : nullptr, scale, shift,
                                 b.data(), d.data(), pdx + first * c, pdr ? pdr + first * c : nullptr,
                                 last - first, c, mask);
        });
        if (has_residual && !relu)
            dr = dy;
        return {dx, dw, db, dr, at::Tensor(), at::Tensor(), at::Tensor()};
    }
};

/* Rows and statistics of all ranks on the device, in f64: rows, mean and biased variance, [1 + 2 C]. */
at::Tensor over_ranks_on_device(const at::Tensor &x, const ranks &group, bool ghost)
{
    at::Tensor rows =
        at::full({1}, ghost ? 0.0 : static_cast<double>(x.size(0)), x.options().dtype(at::kDouble));
    at::Tensor mean = x.mean(0), var = x.var(0, false);
    at::Tensor all = group.gather_statistics(at::cat({rows, mean.to(at::kDouble), var.to(at::kDouble)}));
    int64_t c = x.size(1);
    at::Tensor weight = all.slice(1, 0, 1), total = weight.sum();
    at::Tensor means = all.slice(1, 1, 1 + c), vars = all.slice(1, 1 + c);
    mean = (means * weight).sum(0) / total;
    var = ((vars + (means - mean).square()) * weight).sum(0) / total;
    return at::cat({total.view({1}), mean, var});
}

/* Batch normalisation over the rows of all ranks out of libtorch's own operations, for devices without a
 * kernel of ours. x [rows, C], f32. */
struct norm_train_on_device : torch::autograd::Function<norm_train_on_device> {
    static at::Tensor forward(AutogradContext *ctx, const at::Tensor &x, const at::Tensor &weight,
                              const at::Tensor &bias, const norm *n, const norm_mode *mode)
    {
        at::Tensor s = over_ranks_on_device(x, *mode->group, mode->ghost);
        int64_t c = x.size(1);
        at::Tensor rows = s[0], mean = s.slice(0, 1, 1 + c), var = s.slice(0, 1 + c);
        at::Tensor unbiased = var * rows / (rows - 1).clamp_min(1);
        at::Tensor(n->mean).mul_(1 - mode->momentum).add_(mean, mode->momentum);
        at::Tensor(n->var).mul_(1 - mode->momentum).add_(unbiased, mode->momentum);
        at::Tensor inv = (var + n->eps).rsqrt().to(at::kFloat);
        at::Tensor xhat = (x - mean.to(at::kFloat)) * inv;
        ctx->save_for_backward({xhat, inv, weight, rows});
        ctx->saved_data["ghost"] = mode->ghost;
        ctx->saved_data["group"] = static_cast<int64_t>(reinterpret_cast<intptr_t>(mode->group));
        return xhat * weight + bias;
    }

    static variable_list backward(AutogradContext *ctx, variable_list grads)
    {
        variable_list saved = ctx->get_saved_variables();
        const at::Tensor &xhat = saved[0], &inv = saved[1], &weight = saved[2], &rows = saved[3],
                         &dy = grads[0];
        auto *group =
            reinterpret_cast<const ranks *>(static_cast<intptr_t>(ctx->saved_data["group"].toInt()));
        int64_t c = xhat.size(1);
        at::Tensor db = dy.sum(0), dw = (dy * xhat).sum(0);
        at::Tensor all = group->gather_statistics(at::cat({db, dw}).to(at::kDouble)).sum(0) / rows;
        if (ctx->saved_data["ghost"].toBool())
            return {at::zeros_like(xhat), at::zeros_like(dw), at::zeros_like(db), at::Tensor(), at::Tensor()};
        at::Tensor mean = all.slice(0, 0, c).to(at::kFloat), dot = all.slice(0, c).to(at::kFloat);
        return {(dy - mean - xhat * dot) * (weight * inv), dw, db, at::Tensor(), at::Tensor()};
    }
};

} // namespace

at::Tensor norm_generic(const at::Tensor &x, const norm &n, const at::Tensor &residual, bool relu,
                        const norm_mode &mode)
{
    int64_t c = x.size(-1);
    at::Tensor rows = x.reshape({-1, c}), y;
    if (mode.train && mode.group)
        y = norm_train_on_device::apply(rows.to(at::kFloat), n.weight, n.bias, &n, &mode).to(x.scalar_type());
    else
        y = at::batch_norm(rows, n.weight, n.bias, n.mean, n.var, mode.train, mode.ghost ? 0 : mode.momentum,
                           n.eps, true);
    y = y.view(x.sizes());
    if (residual.defined())
        y = y + residual;
    return relu ? at::relu(y) : y;
}

namespace
{

/* x has channels beyond the norm's, which are zeros and stay so: their weight and bias are 0. */
at::Tensor norm_padded(const at::Tensor &x, const norm &n, const at::Tensor &residual, bool relu,
                       const norm_mode &mode)
{
    int64_t c = n.weight.numel(), more = x.size(-1) - c;
    norm wide = n;
    wide.weight = at::constant_pad_nd(n.weight, {0, more});
    wide.bias = at::constant_pad_nd(n.bias, {0, more});
    wide.mean = at::constant_pad_nd(n.mean, {0, more});
    wide.var = at::constant_pad_nd(n.var, {0, more}, 1);
    at::Tensor y = norm_apply(x, wide, residual, relu, mode);
    if (mode.train) {
        n.mean.copy_(wide.mean.narrow(0, 0, c));
        n.var.copy_(wide.var.narrow(0, 0, c));
    }
    return y;
}

} // namespace

at::Tensor norm_apply(const at::Tensor &x, const norm &n, const at::Tensor &residual, bool relu,
                      const norm_mode &mode)
{
    if (x.size(-1) > n.weight.numel())
        return norm_padded(x, n, residual, relu, mode);
    if (!x.is_cpu())
        return norm_generic(x, n, residual, relu, mode);
    if (mode.train) {
        /* libtorch's Function takes no undefined tensors: none is an empty one. */
        at::Tensor r = residual.defined() ? residual : at::empty({0}, at::kFloat);
        return norm_train::apply(x, n.weight, n.bias, r, &n, relu, &mode);
    }
    at::Tensor stats = at::stack({n.mean, n.var}).to(at::kDouble);
    const double *p = stats.data_ptr<double>();
    transform(x, affine_of(n, p, p + x.size(-1)), residual, relu, x);
    return x;
}

} // namespace xdc
