/* net_impl: what the files behind net.h share: its struct and the guard around every C entry.
 * One thread at a time per net. No exception leaves the guard. */
#pragma once
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include "lib/torch/device.hpp"
#include "lib/torch/ema.hpp"
#include "lib/torch/encoder.hpp"
#include "lib/torch/heads.hpp"
#include "lib/torch/net.h"
#include "lib/torch/ranks.hpp"

namespace xdc
{

/* On a GPU: forward and backward pass of a step on n clips, recorded after some ordinary ones. The tensors
 * are those that a replay reads and writes. */
struct recorded_step {
    int64_t n = 0;
    unsigned seen = 0; /* steps of that size so far */
    std::unique_ptr<kernel_graph> graph;
    maps x;
    std::vector<at::Tensor> label, weight, nll, best; /* of every head */
    std::vector<at::Tensor> grads;
};

} // namespace xdc

struct net {
    struct net_spec spec;
    at::Device device = at::kCPU;
    xdc::encoder encoder[NET_ENCODERS];
    int64_t map_dim[NET_ENCODERS] = {0, 0}; /* with spec.maps: what net_features gives of a clip */
    std::vector<xdc::head> heads[NET_ENCODERS];
    xdc::ema average[NET_ENCODERS];
    xdc::recorded_step recorded[NET_ENCODERS];
    double audio_mean = 0, audio_deviation = 1;
    std::unique_ptr<xdc::ranks> group;               /* NULL: this process trains alone */
    bool initialised[NET_ENCODERS] = {false, false}; /* by net_init */
    bool file_stats = false;                         /* its file had mean and deviation */
};

namespace xdc
{

/* Refusals that are not libtorch's: code and sentence. */
struct refusal {
    int code;
    std::string what;
};

void use_threads(const struct net &net);

/* Runs `body`, which returns 0 or throws; the one place where exceptions become codes. */
template <class F> int guard(struct err *e, const char *what, F body) noexcept
{
    try {
        return body();
    } catch (const refusal &r) {
        return err_set(e, r.code, "%s: %s", what, r.what.c_str());
    } catch (const c10::Error &x) {
        return err_set(e, XDC_ETORCH, "%s: libtorch: %s", what, x.what_without_backtrace());
    } catch (const std::bad_alloc &) {
        return err_set(e, -ENOMEM, "%s: out of memory", what);
    } catch (const std::exception &x) {
        return err_set(e, XDC_ETORCH, "%s: %s", what, x.what());
    } catch (...) {
        return err_set(e, XDC_ETORCH, "%s: unknown exception", what);
    }
}

/* The batch as normalised maps on the net's device. */
maps input(const struct net &net, int enc, const struct net_batch &b);
/* Bytes of one clip of a batch. */
size_t input_bytes(const struct net &net, int enc);

/* step.cpp: net_train_step. Throws refusals too. */
void train_step(struct net &net, int enc, const struct net_batch &b, const int64_t *const *labels,
                const float *const *weights, const struct net_sgd &o, struct net_step *out);

/* Adds what of an encoder has running statistics: its own state and that of the heads with a norm. */
inline void add_states(const struct net &net, int enc, std::vector<const std::vector<entry> *> &to)
{
    to.push_back(&net.encoder[enc].state);
    for (const head &h : net.heads[enc])
        if (h.mlp)
            to.push_back(&h.state);
}

/* net_ranks.cpp: the running statistics of these states become the mean over ranks. */
void average_statistics(const ranks &group, const std::vector<const std::vector<entry> *> &states);
/* self_test.cpp: net_self_test. Throws a refusal. */
void self_test(const struct net &net, double tolerance);

inline const char *encoder_name(const struct net &net, int enc)
{
    return net_encoder_name(net.spec.pair, static_cast<enum net_encoder>(enc));
}

/* What an encoder sees, NET_VIDEO or NET_AUDIO. */
inline int modality(const struct net &net, int enc)
{
    return net_modality(net.spec.pair, static_cast<enum net_encoder>(enc));
}

} // namespace xdc
