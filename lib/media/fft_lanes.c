#include "lib/media/fft_lanes.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif

typedef float lanes __attribute__((vector_size(FFT_LANES * sizeof(float))));

struct twiddle {
    float re, im;
};

/* A complex value a lane. */
struct point {
    lanes re, im;
};

struct fft_lanes {
    int n;                   /* of the real signals */
    struct point *a, *b;     /* owned: [n / 2] each */
    struct twiddle *twiddle; /* owned: exp(-2 pi i k / n), k < n */
};

int fft_lanes_create(struct fft_lanes **out, int n)
{
    struct fft_lanes *f = calloc(1, sizeof *f);
    *out = f;
    if (!f)
        return -ENOMEM;
    size_t bytes = (size_t)n / 2 * sizeof *f->a;
    f->n = n;
    f->a = aligned_alloc(sizeof(lanes), bytes);
    f->b = aligned_alloc(sizeof(lanes), bytes);
    f->twiddle = malloc((size_t)n * sizeof *f->twiddle);
    if (!f->a || !f->b || !f->twiddle) {
        fft_lanes_destroy(f);
        *out = NULL;
        return -ENOMEM;
    }
    for (int k = 0; k < n; k++) {
        double angle = -2 * M_PI * k / n;
        f->twiddle[k] = (struct twiddle){(float)cos(angle), (float)sin(angle)};
    }
    return 0;
}

void fft_lanes_destroy(struct fft_lanes *f)
{
    if (!f)
        return;
    free(f->a);
    free(f->b);
    free(f->twiddle);
    free(f);
}

/* Even samples are real, odd ones imaginary parts: [n][lanes] is [n / 2] points as it lies. */
float *fft_lanes_input(struct fft_lanes *f)
{
    return (float *)f->a;
}

#define MULTIPLY(out, x, w)                           \
    do {                                              \
        (out).re = (x).re * (w).re - (x).im * (w).im; \
        (out).im = (x).re * (w).im + (x).im * (w).re; \
    } while (0)

/* Sums and differences of four points. */
#define BUTTERFLY(o0, t1, t2, t3, a, b, c, d)                         \
    do {                                                              \
        lanes apc_re = (a)->re + (c)->re, apc_im = (a)->im + (c)->im; \
        lanes amc_re = (a)->re - (c)->re, amc_im = (a)->im - (c)->im; \
        lanes bpd_re = (b)->re + (d)->re, bpd_im = (b)->im + (d)->im; \
        lanes bmd_re = (b)->re - (d)->re, bmd_im = (b)->im - (d)->im; \
        (o0).re = apc_re + bpd_re;                                    \
        (o0).im = apc_im + bpd_im;                                    \
        (t1).re = amc_re + bmd_im;                                    \
        (t1).im = amc_im - bmd_re;                                    \
        (t2).re = apc_re - bpd_re;                                    \
        (t2).im = apc_im - bpd_im;                                    \
        (t3).re = amc_re - bmd_im;                                    \
        (t3).im = amc_im + bmd_re;                                    \
    } while (0)

/* One pass of a self-sorting (Stockham) transform: n points, in `s` interleaved groups; step: of the twiddles
 * (of the real length) that the n-th root of unity is. */
VECTORISED static void pass_4(struct point *restrict y, const struct point *restrict x, int n, int s,
                              const struct twiddle *w, int step)
{
    int q = n / 4;
    for (int i = 0; i < s; i++) { /* p = 0: every twiddle is 1 */
        const struct point *a = x + i, *b = a + s * q, *c = b + s * q, *d = c + s * q;
        struct point *o = y + i;
        BUTTERFLY(o[0], o[s], o[2 * s], o[3 * s], a, b, c, d);
    }
    for (int p = 1; p < q; p++) {
        struct twiddle w1 = w[p * step], w2 = w[2 * p * step], w3 = w[3 * p * step];
        for (int i = 0; i < s; i++) {
            const struct point *a = x + i + s * p, *b = a + s * q, *c = b + s * q, *d = c + s * q;
            struct point *o = y + i + s * 4 * p, t1, t2, t3;
            BUTTERFLY(o[0], t1, t2, t3, a, b, c, d);
            MULTIPLY(o[s], t1, w1);
            MULTIPLY(o[2 * s], t2, w2);
            MULTIPLY(o[3 * s], t3, w3);
        }
    }
}

VECTORISED static void pass_2(struct point *restrict y, const struct point *restrict x, int s)
{
    for (int i = 0; i < s; i++) {
        y[i].re = x[i].re + x[i + s].re;
        y[i].im = x[i].im + x[i + s].im;
        y[i + s].re = x[i].re - x[i + s].re;
        y[i + s].im = x[i].im - x[i + s].im;
    }
}

/* Powers of a real signal's bins k and n / 2 - k from the transform of its even and odd samples. */
VECTORISED static void split(const struct point *restrict z, int half, const struct twiddle *w,
                             lanes *restrict power)
{
    lanes sum = z[0].re + z[0].im, difference = z[0].re - z[0].im;
    power[0] = sum * sum;
    power[half] = difference * difference;
    for (int k = 1; k <= half / 2; k++) {
        const struct point *a = &z[k], *b = &z[half - k];
        lanes even_re = (a->re + b->re) * 0.5f, even_im = (a->im - b->im) * 0.5f;
        struct point odd = {(a->im + b->im) * 0.5f, (b->re - a->re) * 0.5f}, turned;
        MULTIPLY(turned, odd, w[k]);
        lanes re = even_re + turned.re, im = even_im + turned.im;
        power[k] = re * re + im * im;
        re = even_re - turned.re;
        im = even_im - turned.im;
        power[half - k] = re * re + im * im;
    }
}

void fft_lanes_power(struct fft_lanes *f, float *power)
{
    struct point *x = f->a, *y = f->b, *t;
    int n = f->n / 2, s = 1;
    for (; n >= 4; n /= 4, s *= 4) {
        pass_4(y, x, n, s, f->twiddle, f->n / n);
        t = x;
        x = y;
        y = t;
    }
    if (n == 2) {
        pass_2(y, x, s);
        x = y;
    }
    split(x, f->n / 2, f->twiddle, (lanes *)(void *)power);
}
