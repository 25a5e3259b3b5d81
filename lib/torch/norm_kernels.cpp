#include "lib/torch/norm_kernels.hpp"

#include <algorithm>
#include <vector>

/* One body, several instruction sets: the body is inlined into a wrapper per set. */
#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__)
#define FOR_EACH_TARGET(name, params, args)                                                              \
    __attribute__((target(                                                                               \
        "avx512f,avx512vl,avx512bw,avx512dq,prefer-vector-width=512"))) static void name##_avx512 params \
    {                                                                                                    \
        name##_body args;                                                                                \
    }                                                                                                    \
    __attribute__((target("avx2"))) static void name##_avx2 params                                       \
    {                                                                                                    \
        name##_body args;                                                                                \
    }                                                                                                    \
    static void name params                                                                              \
    {                                                                                                    \
        if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&                  \
            __builtin_cpu_supports("avx512vl"))                                                          \
            name##_avx512 args;                                                                          \
        else if (__builtin_cpu_supports("avx2"))                                                         \
            name##_avx2 args;                                                                            \
        else                                                                                             \
            name##_body args;                                                                            \
    }
#else
#define FOR_EACH_TARGET(name, params, args) \
    static void name params                 \
    {                                       \
        name##_body args;                   \
    }
#endif

namespace xdc
{
namespace
{

/* Few channels would leave most of a vector empty: `fold` rows are taken as one row of fold * c channels. */
struct folded {
    int64_t fold, width, wide_rows, rest;
    folded(int64_t rows, int64_t c)
        : fold(c < 128 ? 16 : 1), width(fold * c), wide_rows(rows / fold), rest(rows % fold)
    {
    }
    std::vector<float> repeat(const float *v, int64_t c) const
    {
        std::vector<float> out(static_cast<size_t>(width));
        for (int64_t i = 0; i < width; i++)
            out[static_cast<size_t>(i)] = v[i % c];
        return out;
    }
};

/* f32 sums of at most this many rows are added up in double. */
constexpr int64_t BLOCK_ROWS = 128;

struct view {
    const float *__restrict__ x, *__restrict__ dy, *__restrict__ y;
};

struct coeffs {
    const float *__restrict__ scale, *__restrict__ shift, *__restrict__ mean, *__restrict__ b,
                                                                                  *__restrict__ d;
};

template <bool RELU, bool RESIDUAL>
INLINE void transform_rows(const float *x, const float *r, float *y, const coeffs &k, int64_t rows,
                           int64_t width)
{
    const float *__restrict__ scale = k.scale, *__restrict__ shift = k.shift;
    for (int64_t row = 0; row < rows; row++, x += width, y += width) {
#pragma GCC ivdep
        for (int64_t i = 0; i < width; i++) {
            float v = x[i] * scale[i] + shift[i];
            if (RESIDUAL)
                v += r[i];
            y[i] = RELU && v < 0 ? 0.0f : v; /* NaN stays NaN */
        }
        if (RESIDUAL)
            r += width;
    }
}

INLINE void transform_body(const float *x, const float *r, float *y, const coeffs &k, int64_t rows,
                           int64_t width, bool relu)
{
    if (relu && r)
        transform_rows<true, true>(x, r, y, k, rows, width);
    else if (relu)
        transform_rows<true, false>(x, r, y, k, rows, width);
    else if (r)
        transform_rows<false, true>(x, r, y, k, rows, width);
    else
        transform_rows<false, false>(x, r, y, k, rows, width);
}
FOR_EACH_TARGET(transform,
                (const float *x, const float *r, float *y, const coeffs &k, int64_t rows, int64_t width,
                 bool relu),
                (x, r, y, k, rows, width, relu))

INLINE void moments_body(const float *__restrict__ x, const float *__restrict__ pivot, int64_t rows,
                         int64_t width, float *__restrict__ s, float *__restrict__ q)
{
    for (int64_t row = 0; row < rows; row++, x += width)
        for (int64_t i = 0; i < width; i++) {
            float v = x[i] - pivot[i];
            s[i] += v;
            q[i] += v * v;
        }
}
FOR_EACH_TARGET(moments,
                (const float *__restrict__ x, const float *__restrict__ pivot, int64_t rows, int64_t width,
                 float *__restrict__ s, float *__restrict__ q),
                (x, pivot, rows, width, s, q))

template <norm_mask MASK> INLINE float open_gradient(const view &v, const coeffs &k, int64_t i)
{
    float g = v.dy[i];
    if (MASK == norm_mask::input)
        return v.x[i] * k.scale[i] + k.shift[i] > 0 ? g : 0.0f;
    if (MASK == norm_mask::output)
        return v.y[i] > 0 ? g : 0.0f;
    return g;
}

template <norm_mask MASK>
INLINE void sums_rows(view v, const coeffs &k, int64_t rows, int64_t width, float *__restrict__ s,
                      float *__restrict__ q)
{
    for (int64_t row = 0; row < rows; row++, v.x += width, v.dy += width) {
        for (int64_t i = 0; i < width; i++) {
            float g = open_gradient<MASK>(v, k, i);
            s[i] += g;
            q[i] += g * (v.x[i] - k.mean[i]);
        }
        if (MASK == norm_mask::output)
            v.y += width;
    }
}

INLINE void sums_body(const view &v, const coeffs &k, int64_t rows, int64_t width, norm_mask mask, float *s,
                      float *q)
{
    if (mask == norm_mask::none)
        sums_rows<norm_mask::none>(v, k, rows, width, s, q);
    else if (mask == norm_mask::input)
        sums_rows<norm_mask::input>(v, k, rows, width, s, q);
    else
        sums_rows<norm_mask::output>(v, k, rows, width, s, q);
}
FOR_EACH_TARGET(sums,
                (const view &v, const coeffs &k, int64_t rows, int64_t width, norm_mask mask, float *s,
                 float *q),
                (v, k, rows, width, mask, s, q))

template <norm_mask MASK, bool RESIDUAL>
INLINE void gradient_rows(view v, const coeffs &k, float *__restrict__ dx, float *__restrict__ dr,
                          int64_t rows, int64_t width)
{
    for (int64_t row = 0; row < rows; row++, v.x += width, v.dy += width, dx += width) {
        for (int64_t i = 0; i < width; i++) {
            float g = open_gradient<MASK>(v, k, i);
            dx[i] = k.scale[i] * g + k.b[i] * v.x[i] + k.d[i];
            if (RESIDUAL)
                dr[i] = g;
        }
        if (MASK == norm_mask::output)
            v.y += width;
        if (RESIDUAL)
            dr += width;
    }
}

INLINE void gradient_body(const view &v, const coeffs &k, float *dx, float *dr, int64_t rows, int64_t width,
                          norm_mask mask)
{
    if (mask == norm_mask::none)
        gradient_rows<norm_mask::none, false>(v, k, dx, dr, rows, width);
    else if (mask == norm_mask::input)
        gradient_rows<norm_mask::input, false>(v, k, dx, dr, rows, width);
    else
        gradient_rows<norm_mask::output, true>(v, k, dx, dr, rows, width);
}
FOR_EACH_TARGET(gradient,
                (const view &v, const coeffs &k, float *dx, float *dr, int64_t rows, int64_t width,
                 norm_mask mask),
                (v, k, dx, dr, rows, width, mask))

/* Runs `body(offset, rows, width, s, q)` over blocks of rows and adds its f32 sums to `sums`. */
template <class F> void blockwise(int64_t rows, int64_t c, double *sums, F body)
{
    folded f(rows, c);
    std::vector<float> s(static_cast<size_t>(f.width)), q(static_cast<size_t>(f.width));
    auto flush = [&](int64_t width) {
        for (int64_t first = 0; first < width; first += c)
            for (int64_t i = 0; i < c; i++) {
                sums[i] += static_cast<double>(s[static_cast<size_t>(first + i)]);
                sums[c + i] += static_cast<double>(q[static_cast<size_t>(first + i)]);
            }
        std::fill(s.begin(), s.end(), 0.0f);
        std::fill(q.begin(), q.end(), 0.0f);
    };
    for (int64_t row = 0; row < f.wide_rows; row += BLOCK_ROWS) {
        body(row * f.width, std::min(BLOCK_ROWS, f.wide_rows - row), f.width, s.data(), q.data());
        flush(f.width);
    }
    body(f.wide_rows * f.width, f.rest, c, s.data(), q.data());
    flush(c);
}

} // namespace

void norm_kernel_transform(const float *x, const float *r, float *y, const float *scale, const float *shift,
                           int64_t rows, int64_t c, bool relu)
{
    folded f(rows, c);
    std::vector<float> wide_scale = f.repeat(scale, c), wide_shift = f.repeat(shift, c);
    coeffs k = {wide_scale.data(), wide_shift.data(), nullptr, nullptr, nullptr};
    transform(x, r, y, k, f.wide_rows, f.width, relu);
    int64_t done = f.wide_rows * f.width;
    transform(x + done, r ? r + done : nullptr, y + done, k, f.rest, c, relu);
}

void norm_kernel_moments(const float *x, const float *pivot, int64_t rows, int64_t c, double *out)
{
    std::vector<float> wide = folded(rows, c).repeat(pivot, c);
    blockwise(rows, c, out, [&](int64_t at, int64_t n, int64_t width, float *s, float *q) {
        moments(x + at, wide.data(), n, width, s, q);
    });
}

void norm_kernel_sums(const float *x, const float *dy, const float *y, const float *mean, const float *scale,
                      const float *shift, int64_t rows, int64_t c, norm_mask mask, double *out)
{
    folded f(rows, c);
    std::vector<float> wm = f.repeat(mean, c), ws = f.repeat(scale, c), wh = f.repeat(shift, c);
    coeffs k = {ws.data(), wh.data(), wm.data(), nullptr, nullptr};
    blockwise(rows, c, out, [&](int64_t at, int64_t n, int64_t width, float *s, float *q) {
        sums({x + at, dy + at, y ? y + at : nullptr}, k, n, width, mask, s, q);
    });
}

void norm_kernel_gradient(const float *x, const float *dy, const float *y, const float *scale,
                          const float *shift, const float *b, const float *d, float *dx, float *dr,
                          int64_t rows, int64_t c, norm_mask mask)
{
    folded f(rows, c);
    std::vector<float> ws = f.repeat(scale, c), wh = f.repeat(shift, c), wb = f.repeat(b, c),
                       wd = f.repeat(d, c);
    coeffs k = {ws.data(), wh.data(), nullptr, wb.data(), wd.data()};
    gradient({x, dy, y}, k, dx, dr, f.wide_rows, f.width, mask);
    int64_t at = f.wide_rows * f.width;
    gradient({x + at, dy + at, y ? y + at : nullptr}, k, dx + at, dr ? dr + at : nullptr, f.rest, c, mask);
}

} // namespace xdc
