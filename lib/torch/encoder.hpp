/* encoder: the R(2+1)D video network (xdc flavour) and the audio ResNet, as lists of named tensors and a
 * forward pass. Used by net.cpp and net_file.cpp. One thread at a time. Throws what libtorch throws. Weights
 * keep torchvision's names, order and shapes. Activations are [N * T, H, W, C] in memory throughout: a (1, k,
 * k) convolution is a 2-D one over all frames, a (3, 1, 1) convolution a 2-D one over [T, H * W]. The
 * libtorch of today computes 2-D convolutions with channels last in place, 3-D ones only after copying them
 * to another layout and back. */
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "lib/torch/norm.hpp"

namespace xdc
{

/* One tensor of the state: a parameter with its momentum, or a buffer (momentum undefined). */
struct entry {
    std::string name;
    at::Tensor value;
    at::Tensor momentum;
    bool decays; /* weight decay applies: convolution and head weights */
};

/* N clips of T maps. */
struct maps {
    at::Tensor data; /* [N * T, H, W, C], contiguous */
    int64_t n, t;
};

struct conv {
    at::Tensor weight;
    int64_t stride = 1, pad = 0;
};

/* A spatial convolution with its norm; in the video net a temporal one with its own follows. */
struct unit {
    conv space;
    norm space_norm;
    bool factored = false;
    conv time;
    norm time_norm;
};

struct block {
    unit first, second;
    bool projected = false; /* the shortcut is a 1x1 convolution with norm */
    conv shortcut;
    norm shortcut_norm;
};

struct encoder {
    std::vector<entry> state; /* in torchvision's order */
    unit stem;
    bool pooled = false; /* max-pool behind the stem: audio */
    std::deque<block> blocks;
    int64_t dim = 0;
};

/* Depth 10 or 18; weights drawn from `seed`. */
encoder encoder_video(int64_t depth, int64_t width, uint64_t seed, const at::Device &device);
encoder encoder_audio(int64_t depth, int64_t width, uint64_t seed, const at::Device &device);

/* Features [N, dim]. */
at::Tensor encoder_forward(const encoder &e, maps x, const norm_mode &mode);

/* Adds 1 to (or sets) the count of training batches of every norm. */
void encoder_count_batch(const encoder &e, bool restart);

} // namespace xdc
