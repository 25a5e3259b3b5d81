/* One step of training: loss, gradients, SGD. */
#include <cerrno>
#include <cmath>
#include <cstring>

#include <torch/csrc/autograd/autograd.h>

#include "lib/rng.h"
#include "lib/torch/net_impl.hpp"

using xdc::entry;
using xdc::refusal;

namespace
{

/* What one head's loss needs, on the host. */
struct target {
    at::Tensor label,
        weight; /* i64 [n] with 0 where there is none; f32 [n] with 0 there, of sum 1 over ranks */
    const int64_t *given = nullptr;
    double labelled = 0, sum = 0; /* of clips with a label, of their weights, over all ranks */
    double factor = 1;
    double nll = 0, correct = 0; /* of this step */
};

/* Weights not yet divided by their sum. */
target make_target(const int64_t *labels, const float *weights, uint32_t n, int64_t classes)
{
    target t;
    t.given = labels;
    t.label = at::zeros({n}, at::kLong);
    t.weight = at::zeros({n}, at::kFloat);
    int64_t *label = t.label.data_ptr<int64_t>();
    float *weight = t.weight.data_ptr<float>();
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
        t.sum += static_cast<double>(w);
        t.labelled++;
    }
    return t;
}

void normalise(target &t)
{
    if (t.labelled > 0 && !(t.sum > 0))
        throw refusal{-EINVAL, "the sample weights of the labelled clips sum to 0"};
    float *weight = t.weight.data_ptr<float>();
    for (int64_t i = 0; i < t.weight.numel(); i++)
        weight[i] = t.sum > 0 ? static_cast<float>(static_cast<double>(weight[i]) / t.sum) : 0.0f;
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

    xdc::norm_mode mode(bool ghost) const
    {
        const xdc::ranks *group = net.group && net.group->sync_norm() ? net.group.get() : nullptr;
        return {true, 0.1, o.recompute, group, ghost};
    }
};

/* A head's cross entropy and its class, of every row. */
struct verdict {
    at::Tensor nll, best; /* [n] */
};

/* A head's loss over rows with labels and weights on the device. */
at::Tensor head_loss(const xdc::head &h, const at::Tensor &features, const xdc::norm_mode &mode,
                     uint64_t seed, const at::Tensor &label, const at::Tensor &weight, verdict *out)
{
    at::Tensor logits = xdc::head_forward(h, features, mode, seed);
    at::Tensor nll = -at::log_softmax(logits, 1).gather(1, label.unsqueeze(1)).squeeze(1);
    *out = {nll.detach(), logits.detach().argmax(1)};
    return at::dot(nll, weight);
}

/* A head's figures over the rows from `first` on. */
void note_head(target &t, const verdict &v, int64_t first)
{
    at::Tensor nll_host = v.nll.cpu(), best = v.best.cpu();
    for (int64_t i = 0; i < nll_host.numel(); i++) {
        if (t.given[first + i] == -1)
            continue;
        t.nll += static_cast<double>(nll_host.data_ptr<float>()[i]);
        t.correct += best.data_ptr<int64_t>()[i] == t.given[first + i];
    }
}

/* Rows [first, first + n) of a batch; a ghost is one clip of zeros that stands in for none. */
struct chunk {
    int64_t first, n;
    bool ghost;
};

/* The chunk's part of the loss, as a scalar. A head without labels is left out, but not over ranks: there
 * every parameter must get a gradient. */
at::Tensor chunk_loss(step &s, const at::Tensor &features, const chunk &c)
{
    at::Tensor loss;
    std::vector<xdc::head> &heads = s.net.heads[s.enc];
    for (size_t h = 0; h < heads.size(); h++) {
        target &t = s.targets[h];
        if (t.labelled == 0 && !s.net.group)
            continue;
        uint64_t seed = rng_key(s.o.seed, "dropout", h, static_cast<uint64_t>(c.first), 0);
        at::Tensor term;
        if (c.ghost) {
            term = xdc::head_forward(heads[h], features, s.mode(true), seed).sum() * 0;
        } else {
            at::Tensor label = t.label.slice(0, c.first, c.first + c.n).to(features.device());
            at::Tensor weight = t.weight.slice(0, c.first, c.first + c.n).to(features.device());
            verdict v;
            term = head_loss(heads[h], features, s.mode(false), seed, label, weight, &v);
            note_head(t, v, c.first);
        }
        if (t.factor != 1)
            term = term * t.factor;
        loss = loss.defined() ? loss + term : term;
    }
    return loss;
}

at::Tensor features_of(const step &s, const struct net_batch &b, const chunk &c)
{
    size_t clip = xdc::input_bytes(s.net, s.enc);
    std::vector<float> zeros(c.ghost ? clip / sizeof(float) + 1 : 0);
    const char *data = static_cast<const char *>(b.data) + static_cast<size_t>(c.first) * clip;
    struct net_batch rows = {static_cast<uint32_t>(c.n), data};
    if (c.ghost)
        rows = {1, zeros.data()};
    xdc::maps x = xdc::input(s.net, s.enc, rows);
    const xdc::body &body = *s.net.encoder[s.enc].layers;
    if (!s.o.frozen)
        return body.forward(x, s.mode(c.ghost));
    at::NoGradGuard no_grad;
    return body.forward(x, {});
}

/* The chunk's features for whoever asked for them. */
void give_features(const step &s, const at::Tensor &features, const chunk &c)
{
    if (!s.o.features || c.ghost)
        return;
    at::Tensor f = features.detach().cpu().contiguous();
    std::memcpy(s.o.features + c.first * f.size(1), f.data_ptr<float>(), f.nbytes());
}

/* Adds the gradients of all chunks; over ranks the last backward pass sends what all have added. */
void add_gradients(step &s, const struct net_batch &b, const std::vector<chunk> &chunks, group &g)
{
    for (const chunk &c : chunks) {
        at::Tensor features = features_of(s, b, c), loss = chunk_loss(s, features, c);
        give_features(s, features, c);
        if (s.net.group && &c == &chunks.back()) {
            g.grads = s.net.group->gradients(loss, g.params, g.grads);
            continue;
        }
        std::vector<at::Tensor> grads = torch::autograd::grad({loss}, g.params, {}, {}, false, true);
        for (size_t i = 0; i < grads.size(); i++)
            if (!grads[i].defined())
                grads[i] = at::zeros_like(g.params[i]); /* a head without labels in this batch */
        if (g.grads.empty())
            g.grads = std::move(grads);
        else
            at::_foreach_add_(g.grads, grads, 1);
    }
}

/* Whether the step can be recorded: all of it on the device, with nothing that is drawn on the host. */
bool can_record(const step &s, const std::vector<chunk> &chunks)
{
    bool heads = true;
    for (const xdc::head &h : s.net.heads[s.enc])
        heads = heads && !h.mlp;
    return s.o.graph && !s.o.features && !s.net.device.is_cpu() && !s.net.group && !s.o.frozen &&
           !s.o.recompute && chunks.size() == 1 && heads;
}

/* Records the passes over what is in r.x, r.label and r.weight. */
void record(step &s, xdc::recorded_step &r, const std::vector<at::Tensor> &params)
{
    r.graph = std::make_unique<xdc::kernel_graph>();
    r.graph->record([&] {
        at::Tensor features = s.net.encoder[s.enc].layers->forward(r.x, s.mode(false)), loss;
        const std::vector<xdc::head> &heads = s.net.heads[s.enc];
        for (size_t h = 0; h < heads.size(); h++) {
            verdict v;
            at::Tensor term = head_loss(heads[h], features, s.mode(false), 0, r.label[h], r.weight[h], &v);
            r.nll.push_back(v.nll);
            r.best.push_back(v.best);
            loss = loss.defined() ? loss + term : term;
        }
        r.grads = torch::autograd::grad({loss}, params);
    });
}

/* Gradients by the recorded passes; false where the step must be made in the ordinary way: cuDNN chooses its
 * algorithms in the first ones of a size. */
bool replay(step &s, const struct net_batch &b, group &g)
{
    constexpr unsigned ORDINARY = 3;
    xdc::recorded_step &r = s.net.recorded[s.enc];
    if (r.n != b.n)
        r = {};
    r.n = b.n;
    if (!r.graph && r.seen++ < ORDINARY)
        return false;
    xdc::maps x = xdc::input(s.net, s.enc, b);
    bool fresh = !r.graph;
    if (fresh)
        r.x = {at::empty_like(x.data), x.n, x.t};
    r.x.data.copy_(x.data);
    for (size_t h = 0; h < s.targets.size(); h++) {
        at::Tensor label = s.targets[h].label, weight = s.targets[h].weight * s.targets[h].factor;
        if (fresh) {
            r.label.push_back(label.to(s.net.device));
            r.weight.push_back(weight.to(s.net.device));
        } else {
            r.label[h].copy_(label);
            r.weight[h].copy_(weight);
        }
    }
    if (fresh)
        record(s, r, g.params);
    r.graph->replay();
    for (size_t h = 0; h < s.targets.size(); h++)
        note_head(s.targets[h], {r.nll[h], r.best[h]}, 0);
    g.grads = r.grads;
    return true;
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

/* Adds up `n` numbers of every rank. */
void over_ranks(const step &s, std::vector<double> &values)
{
    if (!s.net.group)
        return;
    size_t n = values.size();
    std::vector<double> all = s.net.group->gather(values);
    std::fill(values.begin(), values.end(), 0.0);
    for (size_t i = 0; i < all.size(); i++)
        values[i % n] += all[i];
}

/* Labels and weights of all heads, those over all ranks counted; the number of labelled clips. */
double make_targets(step &s, const struct net_batch &b, const int64_t *const *labels,
                    const float *const *weights)
{
    std::vector<xdc::head> &heads = s.net.heads[s.enc];
    std::vector<double> sums;
    for (size_t h = 0; h < heads.size(); h++) {
        s.targets.push_back(
            make_target(labels[h], weights ? weights[h] : nullptr, b.n, heads[h].weight.size(0)));
        s.targets[h].factor = s.o.head_weights ? static_cast<double>(s.o.head_weights[h]) : 1;
        sums.insert(sums.end(), {s.targets[h].labelled, s.targets[h].sum});
    }
    over_ranks(s, sums);
    double labelled = 0;
    for (size_t h = 0; h < heads.size(); h++) {
        target &t = s.targets[h];
        t.labelled = sums[2 * h];
        t.sum = sums[2 * h + 1];
        normalise(t);
        s.out->labelled[h] = static_cast<uint32_t>(t.labelled);
        labelled += t.labelled;
    }
    return labelled;
}

/* The batch in parts; as many on every rank, so that all make the same collective calls. */
std::vector<chunk> make_chunks(const step &s, const struct net_batch &b)
{
    int64_t n = b.n, most = n, micro = s.o.micro_batch;
    if (s.net.group)
        for (double other : s.net.group->gather({static_cast<double>(n)}))
            most = std::max(most, static_cast<int64_t>(other));
    if (micro == 0 || micro > most)
        micro = most;
    std::vector<chunk> chunks;
    for (int64_t first = 0; first < most; first += micro)
        chunks.push_back({first, std::min(micro, n - first), first >= n});
    return chunks;
}

/* The step's figures, equal on every rank. */
void report(step &s)
{
    std::vector<double> sums;
    for (const target &t : s.targets)
        sums.insert(sums.end(), {t.nll, t.correct});
    over_ranks(s, sums);
    for (size_t h = 0; h < s.targets.size(); h++) {
        double labelled = s.targets[h].labelled;
        s.out->loss[h] = labelled > 0 ? sums[2 * h] / labelled : 0;
        s.out->correct[h] = static_cast<uint32_t>(sums[2 * h + 1]);
        if (!std::isfinite(s.out->loss[h]))
            throw refusal{XDC_EUNSTABLE, "the loss is not finite"};
    }
}

} // namespace

void xdc::train_step(struct net &net, int enc, const struct net_batch &b, const int64_t *const *labels,
                     const float *const *weights, const struct net_sgd &o, struct net_step *out)
{
    step s = {net, enc, o, {}, out};
    if (net.heads[enc].empty())
        throw refusal{-EINVAL, "no heads"};
    if (b.n == 0 && !net.group)
        throw refusal{-EINVAL, "an empty batch"};
    if (!(make_targets(s, b, labels, weights) > 0))
        return;
    group g;
    if (!o.frozen)
        g.add(net.encoder[enc].state);
    size_t of_encoder = g.entries.size();
    for (head &h : net.heads[enc])
        g.add(h.state);
    std::vector<chunk> chunks = make_chunks(s, b);
    if (!can_record(s, chunks) || !replay(s, b, g))
        add_gradients(s, b, chunks, g);
    report(s);
    update(s, g, of_encoder);
    if (net.group && !net.group->sync_norm() && !o.frozen) {
        std::vector<const std::vector<entry> *> states;
        add_states(net, enc, states);
        average_statistics(*net.group, states);
    }
    if (!o.frozen)
        ema_update(net.average[enc], net.encoder[enc].state);
}
