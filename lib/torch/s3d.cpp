#include "lib/torch/s3d.hpp"

#include <algorithm>

namespace xdc
{
namespace
{

using layers = std::vector<layer>;

/* Channels of the four branches: 1x1; 1x1 then separable; the same; pooled then 1x1. */
struct widths {
    int64_t b0, b1_mid, b1, b2_mid, b2, b3;
};

const widths blocks[] = {
    {64, 96, 128, 16, 32, 32},     {128, 128, 192, 32, 96, 64},   {192, 96, 208, 16, 48, 64},
    {160, 112, 224, 24, 64, 64},   {128, 128, 256, 24, 64, 64},   {112, 144, 288, 32, 64, 64},
    {256, 160, 320, 32, 128, 128}, {256, 160, 320, 32, 128, 128}, {384, 192, 384, 48, 128, 128}};

struct inception {
    layers branch[4];
};

maps run(maps x, const layers &list, const norm_mode &mode)
{
    for (const layer &l : list)
        x = layer_apply(x, l, {}, true, mode);
    return x;
}

maps inception_apply(const maps &x, const inception &m, const norm_mode &mode)
{
    std::vector<at::Tensor> parts;
    maps y = x;
    for (size_t i = 0; i < 4; i++) {
        y = run(i == 3 ? max_pool(x, {3, 3}, {1, 1}, {1, 1}) : x, m.branch[i], mode);
        parts.push_back(y.data);
    }
    return {at::cat(parts, 3), y.n, y.t};
}

struct s3d : body {
    layers first, middle, third; /* the stem: separable 7, 1x1, separable 3 */
    std::vector<inception> mixed;

    maps last(const maps &input, const norm_mode &mode) const override
    {
        maps x = max_pool(run(input, first, mode), {1, 3}, {1, 2}, {0, 1});
        x = max_pool(run(run(x, middle, mode), third, mode), {1, 3}, {1, 2}, {0, 1});
        for (size_t i = 0; i < mixed.size(); i++) {
            if (i == 2)
                x = max_pool(x, {3, 3}, {2, 2}, {1, 1});
            if (i == 7) /* a clip shorter than 16 frames has one map left and keeps it */
                x = x.t > 1 ? max_pool(x, {2, 2}, {2, 2}, {0, 0}) : max_pool(x, {1, 2}, {1, 2}, {0, 0});
            x = inception_apply(x, mixed[i], mode);
        }
        return x;
    }

    void each(const std::function<void(const layer &)> &visit) const override
    {
        std::for_each(first.begin(), first.end(), visit);
        std::for_each(middle.begin(), middle.end(), visit);
        std::for_each(third.begin(), third.end(), visit);
        for (const inception &m : mixed)
            for (const layers &branch : m.branch)
                std::for_each(branch.begin(), branch.end(), visit);
    }
};

class s3d_builder
{
  public:
    s3d_builder(std::vector<entry> &state, const struct net_spec &spec, uint64_t seed,
                const at::Device &device)
        : b(state, seed, device, 1e-3, conv_options_of(spec, device)), width(spec.video_width)
    {
    }

    /* Of the published network's channels, as many as this width has. */
    int64_t scaled(int64_t channels) const
    {
        return std::max<int64_t>(1, channels * width / 64);
    }

    layer point(const std::string &name, int64_t in, int64_t out)
    {
        return b.make_layer(name + ".0", name + ".1", {out, in, 1, 1, 1}, {1, 1}, {0, 0});
    }

    void separable(layers &list, const std::string &name, int64_t in, int64_t out, int64_t k, int64_t stride)
    {
        list.push_back(
            b.make_layer(name + ".0.0", name + ".0.1", {out, in, 1, k, k}, {1, stride}, {0, k / 2}));
        list.push_back(
            b.make_layer(name + ".1.0", name + ".1.1", {out, out, k, 1, 1}, {stride, 1}, {k / 2, 0}));
        b.align(list[list.size() - 2], list.back());
    }

    inception mix(const std::string &name, int64_t in, const widths &w)
    {
        inception m;
        m.branch[0].push_back(point(name + ".branch0", in, scaled(w.b0)));
        m.branch[1].push_back(point(name + ".branch1.0", in, scaled(w.b1_mid)));
        separable(m.branch[1], name + ".branch1.1", scaled(w.b1_mid), scaled(w.b1), 3, 1);
        m.branch[2].push_back(point(name + ".branch2.0", in, scaled(w.b2_mid)));
        separable(m.branch[2], name + ".branch2.1", scaled(w.b2_mid), scaled(w.b2), 3, 1);
        m.branch[3].push_back(point(name + ".branch3.1", in, scaled(w.b3)));
        return m;
    }

  private:
    builder b;
    int64_t width;
};

} // namespace

encoder s3d_create(const struct net_spec &spec, uint64_t seed, const at::Device &device)
{
    /* Places of the modules in torchvision's `features`: the others are max-pools. */
    const int places[] = {5, 6, 8, 9, 10, 11, 12, 14, 15};
    encoder e;
    auto net = std::make_unique<s3d>();
    s3d_builder b(e.state, spec, seed, device);
    b.separable(net->first, "features.0", 3, b.scaled(64), 7, 2);
    net->middle.push_back(b.point("features.2", b.scaled(64), b.scaled(64)));
    b.separable(net->third, "features.3", b.scaled(64), b.scaled(192), 3, 1);
    int64_t in = b.scaled(192);
    for (size_t i = 0; i < 9; i++) {
        const widths &w = blocks[i];
        net->mixed.push_back(b.mix("features." + std::to_string(places[i]), in, w));
        in = b.scaled(w.b0) + b.scaled(w.b1) + b.scaled(w.b2) + b.scaled(w.b3);
    }
    e.dim = in;
    e.layers = std::move(net);
    return e;
}

} // namespace xdc
