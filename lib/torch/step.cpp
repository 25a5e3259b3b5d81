/* One step of training: loss, gradients, SGD. */
#include <cerrno>
#include <cmath>

#include <torch/csrc/autograd/autograd.h>

#include "lib/rng.h"
#include "lib/torch/net_impl.hpp"

using xdc::entry;
using xdc::refusal;

namespace
{

/* What one head's loss needs, on the host. */
struct target {
    at::Tensor label, weight; /* i64 [n] with 0 where there is none, f32 [n] with 0 there, of sum 1 */
    const int64_t *given = nullptr;
    uint32_t labelled = 0;
    double factor = 1;
};

target make_target(const int64_t *labels, const float *weights, uint32_t n, int64_t classes)
{
    target t;
    t.given = labels;
    t.label = at::zeros({n}, at::kLong);
    t.weight = at::zeros({n}, at::kFloat);
    int64_t *label = t.label.data_ptr<int64_t>();
    float *weight = t.weight.data_ptr<float>();
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (labels[i] == -1)
            continue;
        if (labels[i] < 0 || labels[i] >= classes)
            throw refusal{-EINVAL, "label " + std::to_string(labels[i]) + " for " + std::to_string(classes) +
                                       " classes"};
        float w = weights ? weights[i] : 1.0f;
        if (!(w >= 0) || !std::isfinite(w))
            throw refusal{-EINVAL, "a sample weight is negative or not finite"};
        label[i] = labels[i];
        weight[i] = w;
        sum += static_cast<double>(w);
        t.labelled++;
    }
    if (t.labelled > 0 && !(sum > 0))
        throw refusal{-EINVAL, "the sample weights of the labelled clips sum to 0"};
    for (uint32_t i = 0; i < n; i++)
        weight[i] = sum > 0 ? static_cast<float>(static_cast<double>(weight[i]) / sum) : 0.0f;
    return t;
}

/* All that a step moves, with its gradients. */
struct group {
    std::vector<entry *> entries;
    std::vector<at::Tensor> params, grads;

    void add(std::vector<entry> &state)
    {
        for (entry &s : state)
            if (s.momentum.defined()) {
                entries.push_back(&s);
                params.push_back(s.value);
            }
    }
};

struct step {
    struct net &net;
    int enc;
    const struct net_sgd &o;
    std::vector<target> targets;
    struct net_step *out;
};

/* A head's figures over the rows from `first` on. */
void note_head(const step &s, size_t h, const at::Tensor &nll, const at::Tensor &logits, int64_t first)
{
    at::Tensor nll_host = nll.detach().cpu(), best = logits.detach().argmax(1).cpu();
    const target &t = s.targets[h];
    double sum = 0;
    for (int64_t i = 0; i < nll_host.numel(); i++) {
        if (t.given[first + i] == -1)
            continue;
        sum += static_cast<double>(nll_host.data_ptr<float>()[i]);
        s.out->correct[h] += best.data_ptr<int64_t>()[i] == t.given[first + i];
    }
    s.out->loss[h] += sum / t.labelled;
    if (!std::isfinite(sum))
        throw refusal{XDC_EUNSTABLE, "the loss is not finite"};
}

/* The part of the loss of rows [first, first + n), as a scalar; undefined when none of them has a label. */
at::Tensor chunk_loss(const step &s, const at::Tensor &features, int64_t first, int64_t n)
{
    at::Tensor loss;
    std::vector<xdc::head> &heads = s.net.heads[s.enc];
    for (size_t h = 0; h < heads.size(); h++) {
        const target &t = s.targets[h];
        if (t.labelled == 0)
            continue;
        uint64_t seed = rng_key(s.o.seed, "dropout", h, static_cast<uint64_t>(first), 0);
        at::Tensor logits = xdc::head_forward(heads[h], features, {true, 0.1, false}, seed);
        at::Tensor label = t.label.slice(0, first, first + n).to(features.device());
        at::Tensor weight = t.weight.slice(0, first, first + n).to(features.device());
        at::Tensor nll = -at::log_softmax(logits, 1).gather(1, label.unsqueeze(1)).squeeze(1);
        note_head(s, h, nll, logits, first);
        at::Tensor term = at::dot(nll, weight);
        if (t.factor != 1)
            term = term * t.factor;
        loss = loss.defined() ? loss + term : term;
    }
    return loss;
}

at::Tensor features_of(const step &s, const struct net_batch &b)
{
    xdc::maps x = xdc::input(s.net, s.enc, b);
    const xdc::body &body = *s.net.encoder[s.enc].layers;
    if (!s.o.frozen)
        return body.forward(x, {true, 0.1, s.o.recompute});
    at::NoGradGuard no_grad;
    return body.forward(x, {});
}

/* Adds the gradients of rows [first, first + n) to the group's. */
void add_gradients(const step &s, const struct net_batch &b, int64_t first, int64_t n, group &g)
{
    size_t clip = s.enc == NET_VIDEO ? size_t(3) * s.net.spec.frames * s.net.spec.crop * s.net.spec.crop
                                     : 4000 * sizeof(float);
    const char *data = static_cast<const char *>(b.data) + static_cast<size_t>(first) * clip;
    at::Tensor features = features_of(s, {static_cast<uint32_t>(n), data});
    at::Tensor loss = chunk_loss(s, features, first, n);
    std::vector<at::Tensor> grads = torch::autograd::grad({loss}, g.params, {}, {}, false, true);
    for (size_t i = 0; i < grads.size(); i++)
        if (!grads[i].defined())
            grads[i] = at::zeros_like(g.params[i]); /* a head without labels in this batch */
    if (g.grads.empty())
        g.grads = std::move(grads);
    else
        at::_foreach_add_(g.grads, grads, 1);
}

/* PyTorch's SGD rule: g += wd p; buf = m buf + g; p -= lr (nesterov ? g + m buf : buf). */
void sgd(const std::vector<entry *> &entries, std::vector<at::Tensor> grads, const struct net_sgd &o,
         double lr)
{
    std::vector<at::Tensor> params, buffers, decayed[2], decayed_grads[2];
    const double decay[2] = {o.norm_decay, o.weight_decay};
    for (size_t i = 0; i < entries.size(); i++) {
        params.push_back(entries[i]->value.detach());
        buffers.push_back(entries[i]->momentum);
        decayed[entries[i]->decays].push_back(params.back());
        decayed_grads[entries[i]->decays].push_back(grads[i]);
    }
    for (int k = 0; k < 2; k++)
        if (decay[k] > 0 && !decayed[k].empty())
            at::_foreach_add_(decayed_grads[k], decayed[k], decay[k]);
    at::_foreach_mul_(buffers, o.momentum);
    at::_foreach_add_(buffers, grads, 1);
    if (o.nesterov)
        at::_foreach_add_(grads, buffers, o.momentum);
    at::_foreach_add_(params, o.nesterov ? grads : buffers, -lr);
}

/* 2-norm over all gradients, to which they are shortened if they are asked to: PyTorch's clip_grad_norm_. */
double clip(std::vector<at::Tensor> &grads, double most)
{
    std::vector<at::Tensor> norms = at::_foreach_norm(grads, 2);
    double norm = at::stack(norms).to(at::kDouble).norm().item<double>();
    if (!std::isfinite(norm))
        throw refusal{XDC_EUNSTABLE, "a gradient is not finite"};
    if (most > 0 && norm > most)
        at::_foreach_mul_(grads, most / (norm + 1e-6));
    return norm;
}

void update(const step &s, group &g, size_t of_encoder)
{
    at::NoGradGuard no_grad;
    s.out->gradient_norm = clip(g.grads, s.o.clip_norm);
    auto split = static_cast<ptrdiff_t>(of_encoder);
    std::vector<entry *> encoder(g.entries.begin(), g.entries.begin() + split),
        heads(g.entries.begin() + split, g.entries.end());
    std::vector<at::Tensor> encoder_grads(g.grads.begin(), g.grads.begin() + split),
        heads_grads(g.grads.begin() + split, g.grads.end());
    if (!encoder.empty())
        sgd(encoder, encoder_grads, s.o, s.o.lr);
    sgd(heads, heads_grads, s.o, s.o.head_lr > 0 ? s.o.head_lr : s.o.lr);
    if (!s.o.frozen)
        xdc::count_batch(s.net.encoder[s.enc].state, false);
    for (const xdc::head &h : s.net.heads[s.enc])
        xdc::count_batch(h.state, false);
}

} // namespace

void xdc::train_step(struct net &net, int enc, const struct net_batch &b, const int64_t *const *labels,
                     const float *const *weights, const struct net_sgd &o, struct net_step *out)
{
    step s = {net, enc, o, {}, out};
    std::vector<head> &heads = net.heads[enc];
    if (heads.empty())
        throw refusal{-EINVAL, "no heads"};
    uint32_t labelled = 0;
    for (size_t h = 0; h < heads.size(); h++) {
        s.targets.push_back(
            make_target(labels[h], weights ? weights[h] : nullptr, b.n, heads[h].weight.size(0)));
        s.targets[h].factor = o.head_weights ? static_cast<double>(o.head_weights[h]) : 1;
        labelled += out->labelled[h] = s.targets[h].labelled;
    }
    if (labelled == 0)
        return;
    group g;
    if (!o.frozen)
        g.add(net.encoder[enc].state);
    size_t of_encoder = g.entries.size();
    for (head &h : heads)
        g.add(h.state);
    int64_t n = b.n, micro = o.micro_batch && o.micro_batch < b.n ? o.micro_batch : b.n;
    for (int64_t first = 0; first < n; first += micro)
        add_gradients(s, b, first, std::min(micro, n - first), g);
    update(s, g, of_encoder);
}
