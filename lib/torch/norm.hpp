/* norm: batch normalisation, shortcut addition and ReLU as one operation on [M, C] data (channels last).
 * Used by encoder.cpp. On CPU two passes forward and two backward, where separate operations take seven and
 * eight: the encoders are bound by memory, and this is a third of a training step. Deterministic for a given
 * number of threads. */
#pragma once
#include <ATen/ATen.h>

namespace xdc
{

class ranks;

struct norm {
    at::Tensor weight, bias; /* [C], learnt */
    at::Tensor mean, var;    /* [C], running statistics */
    at::Tensor batches;      /* i64 scalar: training batches seen */
    double eps = 0;
};

/* How a forward pass treats batch-norm: batch statistics that also move the running ones by `momentum`, or
 * those alone. */
struct norm_mode {
    bool train = false;
    double momentum = 0.1;
    bool recompute = false; /* keep no activations inside blocks: see recompute.hpp */
    /* Training over ranks: batch statistics are those of all ranks' rows together. */
    const ranks *group = nullptr;
    bool ghost = false; /* these rows stand in for none: they count nowhere and get no gradient */
};

/* act(normalise(x) + residual): x [..., C] contiguous, residual of the same shape or undefined; act is ReLU
 * or nothing. Channels of x beyond the norm's are zeros, and come out as zeros. */
at::Tensor norm_apply(const at::Tensor &x, const norm &n, const at::Tensor &residual, bool relu,
                      const norm_mode &mode);

/* The same out of libtorch's own operations: what norm_apply does on devices other than the CPU. */
at::Tensor norm_generic(const at::Tensor &x, const norm &n, const at::Tensor &residual, bool relu,
                        const norm_mode &mode);

} // namespace xdc
