/* Rows against centroids by libtorch's matrix product. */
#include "lib/torch/scores.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "lib/torch/net_impl.hpp"

using xdc::guard;

namespace
{

constexpr int64_t CELLS_MAX = int64_t{1} << 25; /* scores that lie there at a time: 128 MiB */

/* What one thread calls with. */
struct worker {
    c10::optional<c10::Stream> stream; /* of a GPU */
    at::Tensor staged;                 /* f32 [n, d], page-locked for a GPU */
};

} // namespace

struct scores {
    at::Device device = at::kCPU;
    std::string name;
    std::vector<worker> workers;
    at::Tensor centroids; /* [k, d]: -2 c, on the device */
    at::Tensor offset;    /* [k], on the device */
};

namespace
{

at::Tensor stage(struct scores &s, worker &w, const float *x, const uint32_t *pick, int64_t n)
{
    int64_t d = s.centroids.size(1);
    if (!w.staged.defined() || w.staged.size(0) < n || w.staged.size(1) != d)
        w.staged = at::empty({n, d}, at::TensorOptions().dtype(at::kFloat).pinned_memory(s.device.is_cuda()));
    float *to = w.staged.data_ptr<float>();
    for (int64_t i = 0; i < n; i++)
        std::memcpy(to + i * d, x + static_cast<int64_t>(pick[i]) * d, static_cast<size_t>(d) * sizeof *to);
    return w.staged.narrow(0, 0, n).to(s.device, at::kFloat, true);
}

struct least {
    at::Tensor score, column; /* [n, 1 or 2], ascending */
};

/* Of as many centroids at a time as there is room for. */
least score(const struct scores &s, const at::Tensor &rows)
{
    int64_t k = s.centroids.size(0), width = std::max<int64_t>(2, CELLS_MAX / rows.size(0));
    std::vector<at::Tensor> score, column;
    for (int64_t first = 0; first < k; first += width) {
        int64_t columns = std::min(width, k - first);
        at::Tensor all =
            at::addmm(s.offset.narrow(0, first, columns), rows, s.centroids.narrow(0, first, columns).t());
        auto two = all.topk(std::min<int64_t>(2, columns), 1, false, true);
        score.push_back(std::get<0>(two));
        column.push_back(std::get<1>(two) + first);
    }
    if (score.size() == 1)
        return {score[0], column[0]};
    auto two = at::cat(score, 1).topk(2, 1, false, true);
    return {std::get<0>(two), at::cat(column, 1).gather(1, std::get<1>(two))};
}

} // namespace

int scores_open(enum net_device device, uint32_t gpu, unsigned workers, struct scores **out, struct err *e)
{
    *out = nullptr;
    return guard(e, "open a device for distances", [&] {
        auto s = std::make_unique<struct scores>();
        s->device = xdc::device_open(device, gpu);
        s->name = s->device.str();
        s->workers.resize(workers);
        for (worker &w : s->workers)
            if (s->device.is_cuda())
                w.stream =
                    c10::impl::VirtualGuardImpl(s->device.type()).getStreamFromGlobalPool(s->device, false);
        *out = s.release();
        return 0;
    });
}

void scores_close(struct scores *s)
{
    delete s;
}

const char *scores_device(const struct scores *s)
{
    return s->name.c_str();
}

int scores_centroids(struct scores *s, const float *centroids, const float *offset, uint32_t k, uint32_t d,
                     struct err *e)
{
    return guard(e, "centroids", [&] {
        at::NoGradGuard no_grad;
        at::Tensor c = at::empty({k, d}, at::kFloat), o = at::empty({k}, at::kFloat);
        float *to = c.data_ptr<float>();
        for (size_t i = 0; i < static_cast<size_t>(k) * d; i++)
            to[i] = -2.0f * centroids[i];
        std::memcpy(o.data_ptr<float>(), offset, k * sizeof *offset);
        /* Copies that block: every worker's stream sees what they wrote. */
        s->centroids = c.to(s->device);
        s->offset = o.to(s->device);
        return 0;
    });
}

int scores_rows(struct scores *s, unsigned worker, const float *x, const uint32_t *pick, uint32_t n,
                uint32_t *label, float *best, float *second, struct err *e)
{
    return guard(e, "distances", [&] {
        at::NoGradGuard no_grad;
        at::NoTF32Guard no_tf32;
        ::worker &w = s->workers.at(worker);
        c10::OptionalStreamGuard on(w.stream);
        least found = score(*s, stage(*s, w, x, pick, n));
        at::Tensor values = found.score.cpu().contiguous(), columns = found.column.cpu().contiguous();
        int64_t two = values.size(1);
        for (int64_t i = 0; i < n; i++) {
            label[i] = static_cast<uint32_t>(columns.data_ptr<int64_t>()[i * two]);
            best[i] = values.data_ptr<float>()[i * two];
            second[i] =
                two > 1 ? values.data_ptr<float>()[i * two + 1] : std::numeric_limits<float>::infinity();
        }
        return 0;
    });
}
