#include "lib/torch/net.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <ATen/Parallel.h>
#include <torch/version.h>

#include "lib/cpus.h"
#include "lib/rng.h"
#include "lib/torch/device.hpp"
#include "lib/torch/net_impl.hpp"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

using xdc::guard;
using xdc::refusal;

/* Not libtorch's own count alone: an old cpuinfo finds one core on CPUs that it does not know. */
static int default_threads()
{
    return std::getenv("OMP_NUM_THREADS") ? at::get_num_threads() : static_cast<int>(cpus_cores());
}

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

} // namespace xdc

namespace
{

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
        std::string name = i == NET_VIDEO ? "video" : "audio";
        bool deep = depths[i] == 10 || depths[i] == 18 || depths[i] == 34;
        if (!deep && !(i == NET_VIDEO && s.video == NET_S3D))
            throw refusal{-EINVAL, name + " depth " + std::to_string(depths[i]) + " is not 10, 18 or 34"};
        if (widths[i] < 4 || widths[i] > 512)
            throw refusal{-EINVAL, name + " width " + std::to_string(widths[i]) + " is not in 4..512"};
    }
    if (s.frames < 1 || s.frames > 256 || s.crop < 8 || s.crop > 1024)
        throw refusal{-EINVAL, "frames must be in 1..256 and crop in 8..1024"};
    if (s.threads < 0 || s.threads > 1024)
        throw refusal{-EINVAL, "threads must be in 0..1024"};
}

/* The last maps of a clip of zeros. */
xdc::maps maps_of_zeros(const struct net &net, int enc)
{
    at::NoGradGuard no_grad;
    std::vector<float> zeros(std::max<size_t>(
        4000, size_t(3) * net.spec.frames * net.spec.crop * net.spec.crop / sizeof(float) + 1));
    return net.encoder[enc].layers->last(xdc::input(net, enc, {1, zeros.data()}), {});
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
            net->spec.threads = default_threads();
        xdc::use_threads(*net);
        net->device = xdc::device_open(spec->device, spec->gpu);
        uint64_t seed[NET_ENCODERS];
        for (uint64_t i = 0; i < NET_ENCODERS; i++)
            seed[i] = rng_key(spec->seed, "net", i, 0, 0);
        for (int i = 0; i < NET_ENCODERS; i++)
            net->encoder[i] =
                xdc::encoder_create(*spec, static_cast<enum net_encoder>(i), seed[i], net->device);
        for (int i = 0; spec->maps && i < NET_ENCODERS; i++)
            net->map_dim[i] = xdc::flat_maps(maps_of_zeros(*net, i)).size(1);
        enum net_switch test = spec->self_test;
        if (test == NET_ON || (test == NET_AUTO && !net->device.is_cpu()))
            xdc::self_test(*net, 0);
        *out = net.release();
        return 0;
    });
}

int net_self_test(struct net *net, double tolerance, struct err *e)
{
    return guard(e, "test the convolutions", [&] {
        xdc::use_threads(*net);
        xdc::self_test(*net, tolerance);
        return 0;
    });
}

void net_destroy(struct net *net)
{
    delete net;
}

uint32_t net_feature_dim(const struct net *net, enum net_encoder enc)
{
    return static_cast<uint32_t>(net->spec.maps ? net->map_dim[enc] : net->encoder[enc].dim);
}

uint64_t net_parameters(const struct net *net, enum net_encoder enc)
{
    uint64_t n = 0;
    for (const xdc::entry &s : net->encoder[enc].state)
        n += s.momentum.defined() ? static_cast<uint64_t>(s.value.numel()) : 0;
    return n;
}

int net_flop_per_clip(struct net *net, enum net_encoder enc, double *out, struct err *e)
{
    return guard(e, "count operations", [&] {
        xdc::use_threads(*net);
        xdc::conv_count_reset();
        maps_of_zeros(*net, enc);
        *out = 2 * xdc::conv_count_reset();
        return 0;
    });
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
        const xdc::encoder &encoder = net->encoder[enc];
        const xdc::ranks *group = net->group && net->group->sync_norm() ? net->group.get() : nullptr;
        bool ghost = group && b->n == 0;
        std::vector<float> none(ghost ? xdc::input_bytes(*net, enc) / sizeof(float) + 1 : 0);
        struct net_batch stand_in = {1, none.data()};
        xdc::norm_mode mode = {true, 1.0 / (1.0 + index), false, group, ghost};
        at::Tensor features = encoder.layers->forward(xdc::input(*net, enc, ghost ? stand_in : *b), mode);
        xdc::count_batch(encoder.state, index == 0);
        for (size_t h = 0; h < net->heads[enc].size(); h++) {
            if (!net->heads[enc][h].mlp)
                continue; /* a linear layer has no statistics */
            xdc::head_forward(net->heads[enc][h], features, mode,
                              rng_key(net->spec.seed, "warm", h, index, 0));
            xdc::count_batch(net->heads[enc][h].state, index == 0);
        }
        return 0;
    });
}

int net_reset_heads(struct net *net, enum net_encoder enc, enum net_head kind, uint32_t n,
                    const uint32_t *classes, const uint64_t *seeds, struct err *e)
{
    return guard(e, "make new heads", [&] {
        if (n > NET_HEADS_MAX)
            throw refusal{-EINVAL, std::to_string(n) + " heads, at most " + std::to_string(NET_HEADS_MAX)};
        xdc::encoder &encoder = net->encoder[enc];
        std::vector<xdc::head> heads;
        for (uint32_t h = 0; h < n; h++) {
            if (classes[h] == 0)
                throw refusal{-EINVAL, "a head without classes"};
            heads.push_back(xdc::head_create(h, kind, classes[h], encoder.dim, seeds[h], net->device));
        }
        net->heads[enc] = std::move(heads);
        net->recorded[enc] = {};
        for (xdc::entry &s : encoder.state)
            if (s.momentum.defined())
                s.momentum.zero_();
        return 0;
    });
}

int net_permute_head(struct net *net, enum net_encoder enc, uint32_t head, const uint32_t *order,
                     struct err *e)
{
    return guard(e, "permute a head", [&] {
        at::NoGradGuard no_grad;
        std::vector<xdc::head> &heads = net->heads[enc];
        if (head >= heads.size())
            throw refusal{-EINVAL, "no head " + std::to_string(head)};
        xdc::head &h = heads[head];
        auto classes = static_cast<size_t>(h.weight.size(0));
        std::vector<bool> seen(classes);
        at::Tensor index = at::empty({h.weight.size(0)}, at::kLong);
        for (size_t j = 0; j < classes; j++) {
            if (order[j] >= classes || seen[order[j]])
                throw refusal{-EINVAL, "output " + std::to_string(order[j]) + " is not one of " +
                                           std::to_string(classes) + ", or comes twice"};
            seen[order[j]] = true;
            index.data_ptr<int64_t>()[j] = order[j];
        }
        index = index.to(net->device);
        for (xdc::entry &s : h.state)
            if (s.value.is_same(h.weight) || s.value.is_same(h.bias)) {
                s.value.copy_(s.value.index_select(0, index));
                s.momentum.copy_(s.momentum.index_select(0, index));
            }
        return 0;
    });
}

uint32_t net_heads(const struct net *net, enum net_encoder enc, uint32_t classes[NET_HEADS_MAX])
{
    const std::vector<xdc::head> &heads = net->heads[enc];
    for (size_t h = 0; h < heads.size(); h++)
        classes[h] = static_cast<uint32_t>(heads[h].weight.size(0));
    return static_cast<uint32_t>(heads.size());
}

bool net_initialised(const struct net *net, enum net_encoder enc, bool *out_stats)
{
    if (out_stats)
        *out_stats = net->file_stats;
    return net->initialised[enc];
}

int net_train_step(struct net *net, enum net_encoder enc, const struct net_batch *b,
                   const int64_t *const *labels, const float *const *weights,
                   const struct net_sgd *sgd_options, struct net_step *out, struct err *e)
{
    std::string what = std::string("train the ") + xdc::encoder_name(*net, enc) + " encoder";
    return guard(e, what.c_str(), [&] {
        *out = {};
        xdc::use_threads(*net);
        xdc::train_step(*net, enc, *b, labels, weights, *sgd_options, out);
        return 0;
    });
}

int net_features(struct net *net, enum net_encoder enc, const struct net_batch *b, float *out, struct err *e)
{
    std::string what = xdc::encoder_name(*net, enc) + std::string(" features");
    return guard(e, what.c_str(), [&] {
        xdc::use_threads(*net);
        at::NoGradGuard no_grad;
        const xdc::body &layers = *net->encoder[enc].layers;
        xdc::maps last = layers.last(xdc::input(*net, enc, *b), {});
        at::Tensor f = (net->spec.maps ? xdc::flat_maps(last) : layers.pool(last)).cpu().contiguous();
        std::memcpy(out, f.data_ptr<float>(), static_cast<size_t>(f.numel()) * sizeof(float));
        return 0;
    });
}

const char *net_torch_version(void)
{
    return TORCH_VERSION;
}

} // extern "C"
