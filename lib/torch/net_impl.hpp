/* net_impl: what net.cpp and net_file.cpp share: the struct behind net.h and the guard around every C entry.
 * One thread at a time per net. No exception leaves the guard. */
#pragma once
#include <exception>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include "lib/torch/encoder.hpp"
#include "lib/torch/net.h"

struct net {
    struct net_spec spec;
    at::Device device = at::kCPU;
    xdc::encoder encoder[NET_ENCODERS];
    std::vector<xdc::entry> heads[NET_ENCODERS]; /* weight, bias, weight, bias, ... */
    double audio_mean = 0, audio_deviation = 1;
    std::vector<float> pixel; /* [256, 3]: a normalised value per byte and channel */
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

/* Two entries, "heads.<h>.weight" [classes, dim] and "heads.<h>.bias" [classes], zero. */
void heads_append(std::vector<entry> &heads, int64_t classes, int64_t dim, const at::Device &device);

inline const char *encoder_name(int enc)
{
    return enc == NET_VIDEO ? "video" : "audio";
}

} // namespace xdc
