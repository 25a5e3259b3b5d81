#include "lib/torch/net.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include <xxhash.h>

#include "lib/rng.h"
#include "lib/tensor.h"
#include "lib/torch/net_impl.hpp"

using xdc::entry;
using xdc::guard;
using xdc::refusal;

namespace
{

enum tensor_dtype dtype_of(const at::Tensor &t)
{
    switch (t.scalar_type()) {
    case at::kFloat:
        return TENSOR_F32;
    case at::kDouble:
        return TENSOR_F64;
    case at::kLong:
        return TENSOR_I64;
    default:
        throw refusal{XDC_ETORCH, "a tensor of an unexpected type"};
    }
}

const char *dtype_name(enum tensor_dtype d)
{
    static const char *const names[] = {"?", "u8", "i32", "u32", "i64", "f16", "f32", "f64"};
    return d >= TENSOR_U8 && d <= TENSOR_F64 ? names[d] : "?";
}

template <class T> std::string shape_text(const T &shape, size_t n)
{
    std::string s = "[";
    for (size_t i = 0; i < n; i++)
        s += (i ? ", " : "") + std::to_string(shape[i]);
    return s + "]";
}

/* Host tensors and the views of them that lib/tensor writes. */
struct listing {
    std::vector<at::Tensor> host;
    std::vector<struct tensor> views;

    /* `copy`: also where the tensor is in host memory already. */
    void add(const std::string &name, const at::Tensor &value, bool copy = false)
    {
        at::Tensor t = value.detach().to(at::kCPU, value.scalar_type(), false, copy).contiguous();
        struct tensor v = {};
        if (name.size() >= sizeof v.name)
            throw refusal{XDC_ETORCH, "a tensor's name is too long"};
        std::memcpy(v.name, name.c_str(), name.size() + 1);
        v.dtype = dtype_of(t);
        v.ndim = static_cast<uint32_t>(t.dim());
        for (int64_t i = 0; i < t.dim(); i++)
            v.shape[i] = static_cast<uint64_t>(t.size(i));
        v.data = t.data_ptr();
        host.push_back(t);
        views.push_back(v);
    }
};

/* All that a checkpoint holds but the audio statistics, by name. */
std::vector<std::pair<std::string, at::Tensor>>
everything(const struct net &net, const std::vector<xdc::head> (&heads)[NET_ENCODERS])
{
    std::vector<std::pair<std::string, at::Tensor>> all;
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        std::string prefix = xdc::encoder_name(net, enc) + std::string(".");
        std::vector<const std::vector<entry> *> lists = {&net.encoder[enc].state};
        for (const xdc::head &h : heads[enc])
            lists.push_back(&h.state);
        for (const auto *list : lists)
            for (const entry &s : *list)
                all.emplace_back(prefix + s.name, s.value);
        for (const auto *list : lists)
            for (const entry &s : *list)
                if (s.momentum.defined())
                    all.emplace_back(prefix + "momentum." + s.name, s.momentum);
        for (const auto &one : net.average[enc].average)
            all.emplace_back(prefix + "ema." + one.first, one.second);
    }
    return all;
}

/* All of a net, as a checkpoint holds it. */
listing list_net(const struct net &net, bool copy)
{
    listing list;
    for (const auto &item : everything(net, net.heads))
        list.add(item.first, item.second, copy);
    at::Tensor stats = at::empty({2}, at::kDouble);
    stats.data_ptr<double>()[0] = net.audio_mean;
    stats.data_ptr<double>()[1] = net.audio_deviation;
    list.add("audio_stats", stats);
    return list;
}

int write_list(const listing &list, const char *path, struct err *e)
{
    const char *const metadata[][2] = {{"format", "pt"}, {"xdc", "checkpoint"}};
    return safetensors_write(path, list.views.data(), list.views.size(), metadata, 2, e);
}

/* What is wrong with the file's tensor of that name, which must be of `want`'s type and shape; empty: it
 * fits. */
std::string misfit(const struct safetensors *file, const std::string &name, const at::Tensor &want)
{
    const struct tensor *t = safetensors_find(file, name.c_str());
    std::string ours = std::string(dtype_name(dtype_of(want))) + " " +
                       shape_text(want.sizes(), static_cast<size_t>(want.dim()));
    if (!t)
        return name + " is missing, expected " + ours;
    bool same = t->dtype == dtype_of(want) && t->ndim == want.dim();
    for (uint32_t i = 0; same && i < t->ndim; i++)
        same = t->shape[i] == static_cast<uint64_t>(want.size(i));
    if (same)
        return "";
    return name + " is " + dtype_name(t->dtype) + " " + shape_text(t->shape, t->ndim) + ", expected " + ours;
}

/* The file's tensor of that name, which must be of `want`'s type and shape. */
const struct tensor *demand(const struct safetensors *file, const std::string &name, const at::Tensor &want)
{
    std::string wrong = misfit(file, name, want);
    if (!wrong.empty())
        throw refusal{XDC_EMISMATCH, wrong};
    return safetensors_find(file, name.c_str());
}

/* Heads as the file has them, not yet filled. */
std::vector<xdc::head> heads_in(const struct safetensors *file, int enc, const struct net &net)
{
    std::vector<xdc::head> heads;
    for (size_t h = 0; h < NET_HEADS_MAX; h++) {
        std::string name = xdc::encoder_name(net, enc) + std::string(".heads.") + std::to_string(h);
        const struct tensor *linear = safetensors_find(file, (name + ".weight").c_str());
        const struct tensor *mlp = safetensors_find(file, (name + ".5.weight").c_str());
        const struct tensor *t = linear ? linear : mlp;
        if (!t)
            break;
        if (t->ndim != 2 || t->shape[0] == 0 || t->shape[0] > UINT32_MAX)
            throw refusal{XDC_EMISMATCH, std::string(t->name) + " is " + shape_text(t->shape, t->ndim) +
                                             ", expected [classes, " + std::to_string(net.encoder[enc].dim) +
                                             "]"};
        heads.push_back(xdc::head_create(h, linear ? NET_HEAD_LINEAR : NET_HEAD_MLP,
                                         static_cast<int64_t>(t->shape[0]), net.encoder[enc].dim, 0,
                                         net.device));
    }
    return heads;
}

void fill(const at::Tensor &to, const struct tensor &from)
{
    at::Tensor host = at::empty(to.sizes(), at::TensorOptions().dtype(to.scalar_type()));
    std::memcpy(host.data_ptr(), from.data, static_cast<size_t>(host.nbytes()));
    to.detach().copy_(host);
}

/* Checks the whole file before the first tensor changes. */
void restore(struct net &net, const struct safetensors *file)
{
    at::NoGradGuard no_grad;
    std::vector<xdc::head> heads[NET_ENCODERS];
    for (int enc = 0; enc < NET_ENCODERS; enc++)
        heads[enc] = heads_in(file, enc, net);
    auto all = everything(net, heads);
    at::Tensor stats = at::zeros({2}, at::kDouble);
    all.emplace_back("audio_stats", stats);
    std::vector<const struct tensor *> sources;
    std::set<std::string> known;
    for (const auto &item : all) {
        sources.push_back(demand(file, item.first, item.second));
        known.insert(item.first);
    }
    for (size_t i = 0; i < safetensors_count(file); i++)
        if (!known.count(safetensors_at(file, i)->name))
            throw refusal{XDC_EMISMATCH,
                          std::string(safetensors_at(file, i)->name) + " is not part of this network"};
    for (size_t i = 0; i < all.size(); i++)
        fill(all[i].second, *sources[i]);
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        net.heads[enc] = std::move(heads[enc]);
        net.recorded[enc] = {}; /* it knows the old heads */
    }
    net.audio_mean = stats.data_ptr<double>()[0];
    net.audio_deviation = stats.data_ptr<double>()[1];
}

/* Names of the classifier behind an encoder in torchvision. */
std::string classifier_name(const struct net &net, int enc)
{
    return xdc::modality(net, enc) == NET_VIDEO && net.spec.video == NET_S3D ? "classifier.1" : "fc";
}

/* Everything of the file that does not fit the encoder, as one sentence. */
std::string all_misfits(const struct net &net, int enc, const struct safetensors *file)
{
    constexpr size_t SHOWN = 600;
    std::string list, classifier = classifier_name(net, enc) + ".";
    std::set<std::string> known;
    size_t wrong = 0, more = 0;
    auto note = [&](const std::string &what) {
        if (what.empty())
            return;
        wrong++;
        if (list.size() + what.size() < SHOWN)
            list += (list.empty() ? "" : "; ") + what;
        else
            more++;
    };
    for (const entry &s : net.encoder[enc].state) {
        note(misfit(file, s.name, s.value));
        known.insert(s.name);
    }
    for (size_t i = 0; i < safetensors_count(file); i++) {
        std::string name = safetensors_at(file, i)->name;
        if (!known.count(name) && name.rfind(classifier, 0) != 0)
            note(name + " is not part of this network");
    }
    if (wrong == 0)
        return "";
    return std::to_string(wrong) + " tensors do not fit: " + list +
           (more ? "; and " + std::to_string(more) + " more" : "");
}

/* The log-mel's mean and deviation as lib/export.c writes them. */
void take_stats(struct net &net, const struct safetensors *file)
{
    const char *text = safetensors_metadata(file, "xdc.log_mel");
    double mean, deviation;
    if (!text || std::sscanf(text, "{\"mean\": %lf, \"deviation\": %lf}", &mean, &deviation) != 2)
        return;
    if (!std::isfinite(mean) || !std::isfinite(deviation) || !(deviation > 0))
        throw refusal{XDC_EFORMAT, std::string("its metadata xdc.log_mel is ") + text};
    net.audio_mean = mean;
    net.audio_deviation = deviation;
    net.file_stats = true;
}

} // namespace

struct net_snapshot {
    listing list;
};

extern "C" {

int net_init(struct net *net, enum net_encoder enc, const char *path, struct err *e)
{
    std::string context =
        std::string("initial weights of the ") + xdc::encoder_name(*net, enc) + " encoder, " + path;
    return guard(e, context.c_str(), [&] {
        struct safetensors *file = nullptr;
        int r = safetensors_open(path, &file, e);
        if (r < 0)
            return r;
        std::unique_ptr<struct safetensors, void (*)(struct safetensors *)> owner(file, safetensors_close);
        std::string wrong = all_misfits(*net, enc, file);
        if (!wrong.empty())
            throw refusal{XDC_EMISMATCH, wrong};
        if (xdc::modality(*net, enc) == NET_AUDIO)
            take_stats(*net, file);
        at::NoGradGuard no_grad;
        for (const entry &s : net->encoder[enc].state)
            fill(s.value, *safetensors_find(file, s.name.c_str()));
        xdc::ema_restart(net->average[enc], net->encoder[enc].state);
        net->initialised[enc] = true;
        return 0;
    });
}

int net_write_encoder(struct net *net, enum net_encoder enc, uint32_t classes,
                      const char *const (*metadata)[2], size_t n, const char *path, struct err *e)
{
    return guard(e, "write an encoder", [&] {
        listing list;
        for (const entry &s : net->encoder[enc].state)
            list.add(s.name, s.value);
        if (classes > 0) {
            uint64_t seed = rng_key(net->spec.seed, "fc", static_cast<uint64_t>(enc), 0, 0);
            int64_t dim = net->encoder[enc].dim;
            xdc::head h = xdc::head_create(0, NET_HEAD_LINEAR, classes, dim, seed, at::kCPU);
            std::string name = classifier_name(*net, enc);
            list.add(name + ".weight", name == "fc" ? h.weight : h.weight.view({classes, dim, 1, 1, 1}));
            list.add(name + ".bias", h.bias);
        }
        return safetensors_write(path, list.views.data(), list.views.size(), metadata, n, e);
    });
}

int net_write_heads(struct net *net, const char *path, struct err *e)
{
    return guard(e, "write the heads", [&] {
        listing list;
        for (int enc = 0; enc < NET_ENCODERS; enc++)
            for (const xdc::head &h : net->heads[enc])
                for (const entry &s : h.state)
                    list.add(xdc::encoder_name(*net, enc) + std::string(".") + s.name, s.value);
        const char *const metadata[][2] = {{"format", "pt"}, {"xdc", "heads"}};
        return safetensors_write(path, list.views.data(), list.views.size(), metadata, 2, e);
    });
}

int net_hash(struct net *net, uint64_t *out, struct err *e)
{
    return guard(e, "hash the weights", [&] {
        std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t *)> state(XXH3_createState(),
                                                                               XXH3_freeState);
        if (!state)
            throw std::bad_alloc();
        XXH3_64bits_reset(state.get());
        for (const xdc::encoder &enc : net->encoder)
            for (const entry &s : enc.state) {
                at::Tensor t = s.value.detach().cpu().contiguous();
                XXH3_64bits_update(state.get(), s.name.c_str(), s.name.size());
                XXH3_64bits_update(state.get(), t.data_ptr(), static_cast<size_t>(t.nbytes()));
            }
        *out = XXH3_64bits_digest(state.get());
        return 0;
    });
}

int net_save(struct net *net, const char *path, struct err *e)
{
    return guard(e, "save the networks", [&] { return write_list(list_net(*net, false), path, e); });
}

int net_snapshot_create(struct net *net, struct net_snapshot **out, struct err *e)
{
    return guard(e, "copy the networks", [&] {
        *out = new net_snapshot{list_net(*net, true)};
        return 0;
    });
}

int net_snapshot_write(const struct net_snapshot *s, const char *path, struct err *e)
{
    return guard(e, "save the networks", [&] { return write_list(s->list, path, e); });
}

int net_snapshot_compare(const struct net_snapshot *s, const char *path, struct err *e)
{
    return guard(e, "compare the saved networks", [&] {
        struct safetensors *file = nullptr;
        int r = safetensors_open(path, &file, e);
        if (r < 0)
            return r;
        std::unique_ptr<struct safetensors, void (*)(struct safetensors *)> owner(file, safetensors_close);
        if (safetensors_count(file) != s->list.views.size())
            throw refusal{XDC_EFORMAT, std::string(path) + " has tensors too many or too few"};
        for (size_t i = 0; i < s->list.views.size(); i++) {
            const struct tensor &want = s->list.views[i], *t = demand(file, want.name, s->list.host[i]);
            if (std::memcmp(t->data, want.data, static_cast<size_t>(s->list.host[i].nbytes())) != 0)
                throw refusal{XDC_EFORMAT, std::string(path) + ": " + want.name + " reads back differently"};
        }
        return 0;
    });
}

void net_snapshot_destroy(struct net_snapshot *s)
{
    delete s;
}

int net_load(struct net *net, const char *path, struct err *e)
{
    std::string context = std::string("load the networks from ") + path;
    return guard(e, context.c_str(), [&] {
        struct safetensors *file = nullptr;
        int r = safetensors_open(path, &file, e);
        if (r < 0)
            return r;
        std::unique_ptr<struct safetensors, void (*)(struct safetensors *)> owner(file, safetensors_close);
        restore(*net, file);
        return 0;
    });
}

} // extern "C"
