/* norm_generic, which GPUs compute, against the CPU's own norm_apply: alone, and over two ranks with the rows
 * of one batch. */
#include <cmath>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <unistd.h>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include "lib/torch/norm.hpp"
#include "lib/torch/ranks.hpp"

extern "C" {
#include <cmocka.h>
}

namespace
{

constexpr int64_t ROWS = 320, CHANNELS = 12;
constexpr double TOLERANCE = 2e-5, MOMENTUM = 0.1;

struct passed {
    at::Tensor y, dx, dw, db, dr, mean, var;
};

at::Tensor drawn(at::IntArrayRef shape, uint64_t seed)
{
    at::Generator g = at::detail::createCPUGenerator(seed);
    return at::randn(shape, g);
}

xdc::norm make_norm()
{
    xdc::norm n;
    n.weight = drawn({CHANNELS}, 1).add_(2).set_requires_grad(true);
    n.bias = drawn({CHANNELS}, 2).set_requires_grad(true);
    n.mean = drawn({CHANNELS}, 3);
    n.var = drawn({CHANNELS}, 4).abs_().add_(1);
    n.eps = 1e-3;
    return n;
}

using apply = at::Tensor (*)(const at::Tensor &, const xdc::norm &, const at::Tensor &, bool,
                             const xdc::norm_mode &);

/* Forward and backward pass of rows of x, the shortcut r and the gradient dy. */
passed pass(apply f, const at::Tensor &x, const at::Tensor &r, const at::Tensor &dy,
            const xdc::norm_mode &mode)
{
    xdc::norm n = make_norm();
    at::Tensor in = x.clone().set_requires_grad(true), shortcut = r.clone().set_requires_grad(true);
    at::Tensor y = f(in, n, shortcut, true, mode);
    auto g = torch::autograd::grad({y}, {in, n.weight, n.bias, shortcut}, {dy});
    return {y.detach(), g[0], g[1], g[2], g[3], n.mean, n.var};
}

void close_to(const char *what, const at::Tensor &is, const at::Tensor &want)
{
    double apart = (is - want).abs().max().item<double>();
    if (!(apart <= TOLERANCE * std::max(1.0, want.abs().max().item<double>())))
        fail_msg("%s is %g apart", what, apart);
}

void same(const passed &is, const passed &want)
{
    close_to("output", is.y, want.y);
    close_to("gradient of the input", is.dx, want.dx);
    close_to("gradient of the weight", is.dw, want.dw);
    close_to("gradient of the bias", is.db, want.db);
    close_to("gradient of the shortcut", is.dr, want.dr);
    close_to("running mean", is.mean, want.mean);
    close_to("running variance", is.var, want.var);
}

struct batch {
    at::Tensor x = drawn({ROWS, CHANNELS}, 5).mul_(3).add_(7), r = drawn({ROWS, CHANNELS}, 6),
               dy = drawn({ROWS, CHANNELS}, 7);

    batch rows(int64_t first, int64_t n) const
    {
        batch b;
        b.x = x.slice(0, first, first + n);
        b.r = r.slice(0, first, first + n);
        b.dy = dy.slice(0, first, first + n);
        return b;
    }
};

passed of(apply f, const batch &b, const xdc::norm_mode &mode)
{
    return pass(f, b.x, b.r, b.dy, mode);
}

void alone(void **)
{
    xdc::norm_mode train;
    train.train = true;
    same(of(xdc::norm_generic, {}, train), of(xdc::norm_apply, {}, train));
}

/* Rows that stand in for none move nothing, also where statistics are each rank's own. */
void a_ghost_moves_nothing(void **)
{
    xdc::norm_mode ghost;
    ghost.train = ghost.ghost = true;
    xdc::norm n = make_norm();
    passed p = of(xdc::norm_generic, batch().rows(0, 4), ghost);
    assert_true(at::equal(p.mean, n.mean));
    assert_true(at::equal(p.var, n.var));
}

/* Two ranks in two threads; rank 0 has the first `first` rows, and rank 1 the others, or a ghost. */
void two_ranks(int64_t first, passed out[2])
{
    auto rank = [&](int r, uint16_t port) {
        xdc::ranks_options o;
        o.meeting.rank = r;
        o.meeting.world = 2;
        o.meeting.address = "127.0.0.1";
        o.meeting.port = port;
        o.meeting.timeout_s = o.timeout_s = 60;
        o.meeting.waiting = [](const std::string &) { return true; };
        o.meeting.on_lost = [](int) {};
        o.sync_norm = true;
        xdc::ranks group(o);
        xdc::norm_mode mode;
        mode.train = true;
        mode.momentum = MOMENTUM;
        mode.group = &group;
        mode.ghost = r == 1 && first == ROWS;
        batch b = mode.ghost ? batch().rows(0, 1)
                  : r == 0   ? batch().rows(0, first)
                             : batch().rows(first, ROWS - first);
        if (mode.ghost)
            b.dy = at::zeros_like(b.dy);
        out[r] = of(xdc::norm_generic, b, mode);
        group.leave();
    };
    auto port = static_cast<uint16_t>(20000 + getpid() % 20000);
    std::thread other(rank, 1, port);
    rank(0, port);
    other.join();
}

void halves_are_the_whole(void **)
{
    xdc::norm_mode train;
    train.train = true;
    const passed whole = of(xdc::norm_apply, {}, train);
    for (int64_t first : {int64_t(100), ROWS}) {
        passed p[2];
        two_ranks(first, p);
        bool ghost = first == ROWS;
        if (!ghost)
            for (at::Tensor passed::*t : {&passed::y, &passed::dx, &passed::dr})
                p[0].*t = at::cat({p[0].*t, p[1].*t});
        p[0].dw = p[0].dw + p[1].dw;
        p[0].db = p[0].db + p[1].db;
        same(p[0], whole);
        assert_true(at::equal(p[0].mean, p[1].mean));
        assert_true(at::equal(p[0].var, p[1].var));
        if (ghost)
            assert_true(p[1].dx.abs().max().item<double>() == 0);
    }
}

} // namespace

int main()
{
    at::set_num_threads(1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(alone), cmocka_unit_test(a_ghost_moves_nothing),
                                       cmocka_unit_test(halves_are_the_whole)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
