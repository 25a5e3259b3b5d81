#include "lib/torch/recompute.hpp"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace xdc
{
namespace
{

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/* What the second pass needs beside tensors. */
struct second_pass : torch::CustomClassHolder {
    part apply;
    norm_mode mode;
    int64_t n, t;
};

struct recomputed : torch::autograd::Function<recomputed> {
    static at::Tensor forward(AutogradContext *ctx, at::TensorList inputs,
                              const c10::intrusive_ptr<second_pass> &again, int64_t *out_t)
    {
        ctx->save_for_backward(inputs.vec());
        maps y = again->apply({inputs[0], again->n, again->t}, again->mode);
        ctx->saved_data["again"] = c10::IValue::make_capsule(again);
        *out_t = y.t;
        return y.data;
    }

    static variable_list backward(AutogradContext *ctx, variable_list grads)
    {
        variable_list saved = ctx->get_saved_variables();
        auto held = ctx->saved_data["again"].toCapsule();
        auto *again = static_cast<second_pass *>(held.get());
        at::AutoGradMode enabled(true);
        at::Tensor x = saved[0].detach();
        x.set_requires_grad(true);
        norm_mode mode = again->mode;
        mode.momentum = 0; /* the running statistics have moved already */
        at::Tensor y = again->apply({x, again->n, again->t}, mode).data;
        saved[0] = x;
        variable_list result = torch::autograd::grad({y}, saved, {grads[0]});
        result.resize(result.size() + 2); /* of the two arguments that are no tensors */
        return result;
    }
};

} // namespace

maps recompute(const maps &x, const std::vector<at::Tensor> &parameters, const part &apply,
               const norm_mode &mode)
{
    if (!at::GradMode::is_enabled())
        return apply(x, mode);
    auto again = c10::make_intrusive<second_pass>();
    again->apply = apply;
    again->mode = mode;
    again->mode.recompute = false;
    again->n = x.n;
    again->t = x.t;
    std::vector<at::Tensor> inputs = {x.data};
    inputs.insert(inputs.end(), parameters.begin(), parameters.end());
    int64_t t = x.t;
    at::Tensor y = recomputed::apply(at::TensorList(inputs), again, &t);
    return {y, x.n, t};
}

} // namespace xdc
