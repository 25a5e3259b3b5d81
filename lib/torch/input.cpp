/* Batches as they come from the wire, as normalised maps on the net's device. */
#include <array>
#include <cerrno>
#include <cstring>

#include <ATen/Parallel.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "lib/torch/net_impl.hpp"

namespace
{

constexpr int64_t MEL_BANDS = 40, MEL_FRAMES = 100;

/* algorithms.md 1.4 */
constexpr std::array<double, 3> RGB_MEAN = {0.43216, 0.394666, 0.37645};
constexpr std::array<double, 3> RGB_DEVIATION = {0.22803, 0.22145, 0.216989};

/* A normalised value per byte and channel. */
std::array<float, 256 * 3> make_table()
{
    std::array<float, 256 * 3> table;
    for (size_t v = 0; v < 256; v++)
        for (size_t c = 0; c < 3; c++)
            table[v * 3 + c] =
                static_cast<float>((static_cast<double>(v) / 255.0 - RGB_MEAN[c]) / RGB_DEVIATION[c]);
    return table;
}

at::Tensor video_on_host(const uint8_t *in, int64_t maps, int64_t p)
{
    static const std::array<float, 256 * 3> table = make_table();
    at::Tensor x = at::empty({maps, p, p, 3}, at::kFloat);
    float *out = x.data_ptr<float>();
    at::parallel_for(0, maps * p, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin * p; i < end * p; i++)
            for (int64_t c = 0; c < 3; c++)
                out[3 * i + c] = table[static_cast<size_t>(3 * in[3 * i + c] + c)];
    });
    return x;
}

/* Through page-locked memory, which libtorch keeps for the next batch, on a stream of its own: the bytes of
 * one part of a batch cross while the part before is computed. The part's own work waits for them. */
at::Tensor bytes_on_device(const uint8_t *in, at::IntArrayRef shape, const at::Device &device)
{
    const c10::impl::VirtualGuardImpl runtime(device.type());
    static const c10::Stream copies = runtime.getStreamFromGlobalPool(device);
    c10::Stream computing = runtime.getStream(device);
    at::Tensor staged = at::empty(shape, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
    uint8_t *to = staged.data_ptr<uint8_t>();
    at::parallel_for(0, staged.numel(), 1 << 20, [&](int64_t begin, int64_t end) {
        std::memcpy(to + begin, in + begin, static_cast<size_t>(end - begin));
    });
    c10::Event arrived(device.type());
    at::Tensor bytes;
    {
        c10::StreamGuard guard(copies);
        bytes = staged.to(device, at::kByte, true);
        arrived.record(copies);
    }
    arrived.block(computing);
    bytes.record_stream(computing);
    return bytes;
}

/* Scale and shift of the three colours, [2, 3]. They stay on the device (there is one): to send them anew
 * would wait for all that is under way. */
const at::Tensor &colours_on_device(const at::Device &device)
{
    static const at::Tensor *const kept = [&] {
        at::Tensor t = at::empty({2, 3}, at::kFloat);
        for (size_t c = 0; c < 3; c++) {
            t.data_ptr<float>()[c] = static_cast<float>(1 / (255.0 * RGB_DEVIATION[c]));
            t.data_ptr<float>()[3 + c] = static_cast<float>(-RGB_MEAN[c] / RGB_DEVIATION[c]);
        }
        return new at::Tensor(t.to(device));
    }();
    return *kept;
}

/* Bytes cross to the device, a quarter of the floats. */
at::Tensor video_on_device(const uint8_t *in, int64_t maps, int64_t p, const at::Device &device)
{
    const at::Tensor &colours = colours_on_device(device);
    at::Tensor x = bytes_on_device(in, {maps, p, p, 3}, device).to(at::kFloat);
    return x.mul_(colours[0]).add_(colours[1]);
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

} // namespace

xdc::maps xdc::input(const struct net &net, int enc, const struct net_batch &b)
{
    if (b.n == 0 || !b.data)
        throw refusal{-EINVAL, "an empty batch"};
    if (modality(net, enc) == NET_AUDIO)
        return audio_input(net, b);
    const uint8_t *in = static_cast<const uint8_t *>(b.data);
    int64_t n = b.n, t = net.spec.frames, p = net.spec.crop;
    return {net.device.is_cpu() ? video_on_host(in, n * t, p) : video_on_device(in, n * t, p, net.device), n,
            t};
}

size_t xdc::input_bytes(const struct net &net, int enc)
{
    size_t frames = net.spec.frames, side = net.spec.crop;
    return modality(net, enc) == NET_VIDEO ? 3 * frames * side * side
                                           : MEL_BANDS * MEL_FRAMES * sizeof(float);
}
