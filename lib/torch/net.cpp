#include "lib/torch/net.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/version.h>

#include "lib/rng.h"
#include "lib/torch/net_impl.hpp"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

using xdc::entry;
using xdc::guard;
using xdc::refusal;

namespace xdc
{

/* libtorch and OpenMP keep the number of threads per calling thread. */
void use_threads(const struct net &net)
{
    static thread_local int current = 0;
    int wanted = net.spec.threads;
    if (current == wanted)
        return;
    at::set_num_threads(wanted);
    current = wanted;
}

void heads_append(std::vector<entry> &heads, int64_t classes, int64_t dim, const at::Device &device)
{
    auto options = at::TensorOptions().dtype(at::kFloat).device(device);
    std::string name = "heads." + std::to_string(heads.size() / 2);
    at::Tensor weight = at::zeros({classes, dim}, options), bias = at::zeros({classes}, options);
    at::Tensor weight_momentum = at::zeros({classes, dim}, options),
               bias_momentum = at::zeros({classes}, options);
    weight.set_requires_grad(true);
    bias.set_requires_grad(true);
    heads.push_back({name + ".weight", weight, weight_momentum, true});
    heads.push_back({name + ".bias", bias, bias_momentum, false});
}

} // namespace xdc

namespace
{

constexpr int64_t MEL_BANDS = 40, MEL_FRAMES = 100;

/* A step frees and asks for the same large blocks as the one before: keep them instead of giving their pages
 * back. */
void keep_freed_memory()
{
#if defined(__GLIBC__)
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
#endif
}

void check_spec(const struct net_spec &s)
{
    const uint32_t depths[] = {s.video_depth, s.audio_depth}, widths[] = {s.video_width, s.audio_width};
    for (int i = 0; i < NET_ENCODERS; i++) {
        std::string name = xdc::encoder_name(i);
        if (depths[i] != 10 && depths[i] != 18)
            throw refusal{-EINVAL, name + " depth " + std::to_string(depths[i]) + " is neither 10 nor 18"};
        if (widths[i] < 4 || widths[i] > 512)
            throw refusal{-EINVAL, name + " width " + std::to_string(widths[i]) + " is not in 4..512"};
    }
    if (s.frames < 1 || s.frames > 256 || s.crop < 8 || s.crop > 1024)
        throw refusal{-EINVAL, "frames must be in 1..256 and crop in 8..1024"};
    if (s.threads < 0 || s.threads > 1024)
        throw refusal{-EINVAL, "threads must be in 0..1024"};
}

at::Device choose_device()
{
    const char *wanted = std::getenv("XDC_DEVICE");
    if (!wanted || std::strcmp(wanted, "cuda") != 0)
        return at::kCPU;
    if (!at::hasCUDA())
        throw refusal{-ENODEV, "XDC_DEVICE is cuda, but this libtorch finds no CUDA device"};
    at::globalContext().setDeterministicCuDNN(true);
    at::globalContext().setBenchmarkCuDNN(false);
    return at::Device(at::kCUDA, 0);
}

/* (byte / 255 - mean) / deviation per channel: algorithms.md 1.4. */
std::vector<float> pixel_table()
{
    const double mean[3] = {0.43216, 0.394666, 0.37645}, deviation[3] = {0.22803, 0.22145, 0.216989};
    std::vector<float> table(256 * 3);
    for (size_t v = 0; v < 256; v++)
        for (size_t c = 0; c < 3; c++)
            table[v * 3 + c] = static_cast<float>((static_cast<double>(v) / 255.0 - mean[c]) / deviation[c]);
    return table;
}

xdc::maps video_input(const struct net &net, const struct net_batch &b)
{
    int64_t n = b.n, t = net.spec.frames, p = net.spec.crop;
    at::Tensor x = at::empty({n * t, p, p, 3}, at::kFloat);
    const uint8_t *in = static_cast<const uint8_t *>(b.data);
    float *out = x.data_ptr<float>();
    const float *table = net.pixel.data();
    at::parallel_for(0, n * t * p, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin * p; i < end * p; i++)
            for (int64_t c = 0; c < 3; c++)
                out[3 * i + c] = table[3 * in[3 * i + c] + c];
    });
    return {x.to(net.device), n, t};
}

xdc::maps audio_input(const struct net &net, const struct net_batch &b)
{
    int64_t n = b.n;
    at::Tensor x = at::empty({n, MEL_BANDS, MEL_FRAMES, 1}, at::kFloat);
    const float *in = static_cast<const float *>(b.data);
    float *out = x.data_ptr<float>();
    double mean = net.audio_mean, deviation = net.audio_deviation;
    for (int64_t i = 0; i < x.numel(); i++)
        out[i] = static_cast<float>((static_cast<double>(in[i]) - mean) / deviation);
    return {x.to(net.device), n, 1};
}

xdc::maps input(const struct net &net, int enc, const struct net_batch &b)
{
    if (b.n == 0 || !b.data)
        throw refusal{-EINVAL, "an empty batch"};
    return enc == NET_VIDEO ? video_input(net, b) : audio_input(net, b);
}

/* What one head's loss needs, on the host. */
struct target {
    at::Tensor label, weight; /* i64 [n] with 0 where there is none, f32 [n] with 0 there, of sum 1 */
    uint32_t labelled = 0;
};

target make_target(const int64_t *labels, const float *weights, uint32_t n, int64_t classes)
{
    target t;
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

/* Fills the head's figures and returns its term of the loss. */
at::Tensor head_loss(const at::Tensor &features, const entry *head, const target &t, const int64_t *labels,
                     size_t h, struct net_step *out)
{
    at::Tensor logits = at::linear(features, head[0].value, head[1].value);
    at::Tensor label = t.label.to(features.device());
    at::Tensor nll = -at::log_softmax(logits, 1).gather(1, label.unsqueeze(1)).squeeze(1);
    at::Tensor nll_host = nll.detach().cpu(), best = logits.detach().argmax(1).cpu();
    double sum = 0;
    for (int64_t i = 0; i < nll_host.numel(); i++) {
        if (labels[i] == -1)
            continue;
        sum += static_cast<double>(nll_host.data_ptr<float>()[i]);
        out->correct[h] += best.data_ptr<int64_t>()[i] == labels[i];
    }
    out->labelled[h] = t.labelled;
    out->loss[h] = sum / t.labelled;
    if (!std::isfinite(out->loss[h]))
        throw refusal{XDC_ETORCH, "the loss is not finite (a lower train.lr may help)"};
    return at::dot(nll, t.weight.to(features.device()));
}

/* PyTorch's SGD rule over all tensors: g += wd p; buf = m buf + g; p -= lr (nesterov ? g + m buf : buf). */
void sgd(const std::vector<entry *> &entries, const std::vector<at::Tensor> &grads, const struct net_sgd &o)
{
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> params, buffers, decayed, decayed_grads;
    for (size_t i = 0; i < entries.size(); i++) {
        params.push_back(entries[i]->value.detach());
        buffers.push_back(entries[i]->momentum);
        if (entries[i]->decays && o.weight_decay > 0) {
            decayed.push_back(params.back());
            decayed_grads.push_back(grads[i]);
        }
    }
    if (!decayed.empty())
        at::_foreach_add_(decayed_grads, decayed, o.weight_decay);
    at::_foreach_mul_(buffers, o.momentum);
    at::_foreach_add_(buffers, grads, 1);
    if (o.nesterov)
        at::_foreach_add_(grads, buffers, o.momentum);
    at::_foreach_add_(params, o.nesterov ? grads : buffers, -o.lr);
}

void train_step(struct net &net, int enc, const struct net_batch &b, const int64_t *const *labels,
                const float *const *weights, const struct net_sgd &o, struct net_step *out)
{
    std::vector<entry> &heads = net.heads[enc];
    if (heads.empty())
        throw refusal{-EINVAL, "no heads"};
    std::vector<target> targets;
    uint32_t labelled = 0;
    for (size_t h = 0; h < heads.size() / 2; h++) {
        targets.push_back(
            make_target(labels[h], weights ? weights[h] : nullptr, b.n, heads[2 * h].value.size(0)));
        labelled += targets.back().labelled;
    }
    if (labelled == 0)
        return;
    std::vector<entry *> entries;
    std::vector<at::Tensor> params;
    for (auto *list : {&net.encoder[enc].state, &heads})
        for (entry &s : *list)
            if (s.momentum.defined()) {
                entries.push_back(&s);
                params.push_back(s.value);
            }
    at::Tensor features = xdc::encoder_forward(net.encoder[enc], input(net, enc, b), {true, 0.1});
    at::Tensor loss;
    for (size_t h = 0; h < targets.size(); h++) {
        if (targets[h].labelled == 0)
            continue;
        at::Tensor term = head_loss(features, &heads[2 * h], targets[h], labels[h], h, out);
        loss = loss.defined() ? loss + term : term;
    }
    std::vector<at::Tensor> grads = torch::autograd::grad({loss}, params, {}, {}, false, true);
    for (size_t i = 0; i < grads.size(); i++)
        if (!grads[i].defined())
            grads[i] = at::zeros_like(params[i]); /* a head without labels in this batch */
    sgd(entries, grads, o);
    xdc::encoder_count_batch(net.encoder[enc], false);
}

} // namespace

extern "C" {

int net_create(const struct net_spec *spec, struct net **out, struct err *e)
{
    return guard(e, "create the networks", [&] {
        check_spec(*spec);
        keep_freed_memory();
        auto net = std::make_unique<struct net>();
        net->spec = *spec;
        if (net->spec.threads == 0)
            net->spec.threads = at::get_num_threads();
        xdc::use_threads(*net);
        net->device = choose_device();
        net->pixel = pixel_table();
        uint64_t seed[NET_ENCODERS];
        for (uint64_t i = 0; i < NET_ENCODERS; i++)
            seed[i] = rng_key(spec->seed, "net", i, 0, 0);
        net->encoder[NET_VIDEO] =
            xdc::encoder_video(spec->video_depth, spec->video_width, seed[NET_VIDEO], net->device);
        net->encoder[NET_AUDIO] =
            xdc::encoder_audio(spec->audio_depth, spec->audio_width, seed[NET_AUDIO], net->device);
        *out = net.release();
        return 0;
    });
}

void net_destroy(struct net *net)
{
    delete net;
}

uint32_t net_feature_dim(const struct net *net, enum net_encoder enc)
{
    return static_cast<uint32_t>(net->encoder[enc].dim);
}

int net_set_audio_stats(struct net *net, double mean, double deviation, struct err *e)
{
    return guard(e, "set the audio statistics", [&] {
        if (!std::isfinite(mean) || !std::isfinite(deviation) || !(deviation > 0))
            throw refusal{-EINVAL,
                          "mean " + std::to_string(mean) + ", deviation " + std::to_string(deviation)};
        net->audio_mean = mean;
        net->audio_deviation = deviation;
        return 0;
    });
}

int net_warm_batchnorm(struct net *net, enum net_encoder enc, const struct net_batch *b, uint32_t index,
                       struct err *e)
{
    return guard(e, "warm the batch norm", [&] {
        xdc::use_threads(*net);
        at::NoGradGuard no_grad;
        /* The mean over index + 1 calls moves by 1 / (index + 1) towards the newest; the first replaces what
         * was. */
        xdc::encoder_forward(net->encoder[enc], input(*net, enc, *b), {true, 1.0 / (1.0 + index)});
        xdc::encoder_count_batch(net->encoder[enc], index == 0);
        return 0;
    });
}

int net_reset_heads(struct net *net, enum net_encoder enc, uint32_t n, const uint32_t *classes,
                    const uint64_t *seeds, struct err *e)
{
    return guard(e, "make new heads", [&] {
        if (n > NET_HEADS_MAX)
            throw refusal{-EINVAL, std::to_string(n) + " heads, at most " + std::to_string(NET_HEADS_MAX)};
        xdc::encoder &encoder = net->encoder[enc];
        std::vector<entry> heads;
        for (uint32_t h = 0; h < n; h++) {
            if (classes[h] == 0)
                throw refusal{-EINVAL, "a head without classes"};
            xdc::heads_append(heads, classes[h], encoder.dim, net->device);
            at::Generator generator = at::detail::createCPUGenerator(seeds[h]);
            at::NoGradGuard no_grad;
            heads[2 * h].value.copy_(
                at::empty({classes[h], encoder.dim}, at::kFloat).normal_(0, 0.01, generator));
        }
        net->heads[enc] = std::move(heads);
        for (entry &s : encoder.state)
            if (s.momentum.defined())
                s.momentum.zero_();
        return 0;
    });
}

int net_train_step(struct net *net, enum net_encoder enc, const struct net_batch *b,
                   const int64_t *const *labels, const float *const *weights,
                   const struct net_sgd *sgd_options, struct net_step *out, struct err *e)
{
    return guard(e, enc == NET_VIDEO ? "train the video encoder" : "train the audio encoder", [&] {
        *out = {};
        xdc::use_threads(*net);
        train_step(*net, enc, *b, labels, weights, *sgd_options, out);
        return 0;
    });
}

int net_features(struct net *net, enum net_encoder enc, const struct net_batch *b, float *out, struct err *e)
{
    return guard(e, enc == NET_VIDEO ? "video features" : "audio features", [&] {
        xdc::use_threads(*net);
        at::NoGradGuard no_grad;
        at::Tensor f = xdc::encoder_forward(net->encoder[enc], input(*net, enc, *b), {}).cpu().contiguous();
        std::memcpy(out, f.data_ptr<float>(), static_cast<size_t>(f.numel()) * sizeof(float));
        return 0;
    });
}

const char *net_torch_version(void)
{
    return TORCH_VERSION;
}

} // extern "C"
