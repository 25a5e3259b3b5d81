#include "lib/media/logmel.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lib/media/fft_lanes.h"

#define N_MAX 512
#define BINS_MAX (N_MAX / 2 + 1)
#define F_MAX 8000.0
#define PAD 256                        /* more than any frame begins before the wave */
#define HEAD (FFT_LANES * 320 + N_MAX) /* samples that the first frames take */
#define VMZ_GAIN 1080674186.3482928
#define VMZ_BINS 128
#define VMZ_STEP_HZ (F_MAX / 129)

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif

typedef float lanes __attribute__((vector_size(FFT_LANES * sizeof(float))));

/* What the two front ends differ in before the log. */
struct frontend {
    struct fft_lanes *fft;        /* owned */
    int window_length, hop, lead; /* samples; lead: by which frame 0 begins before the wave */
    float window[N_MAX];
    int first[MEDIA_MELS], end[MEDIA_MELS]; /* bins of a filter that are not 0 */
    float filters[MEDIA_MELS][BINS_MAX];
};

struct logmel {
    struct frontend frontends[2];
    float *power;  /* owned: [BINS_MAX][FFT_LANES] */
    float *padded; /* owned: the wave's beginning, continued to the left */
};

static void set_weight(struct frontend *f, int m, int bin, double w)
{
    f->filters[m][bin] = (float)w;
    if (w <= 0)
        return;
    f->first[m] = f->end[m] ? f->first[m] : bin;
    f->end[m] = bin + 1;
}

/* HTK triangles between 0 Hz and 8 kHz, peak 1, evaluated at the bins' frequencies. */
static void make_htk(struct frontend *f)
{
    double top = 2595 * log10(1 + F_MAX / 700), hz[MEDIA_MELS + 2];
    for (int i = 0; i < MEDIA_MELS + 2; i++)
        hz[i] = 700 * (pow(10, top * i / (MEDIA_MELS + 1) / 2595) - 1);
    for (int m = 0; m < MEDIA_MELS; m++) {
        for (int b = 0; b <= N_MAX / 2; b++) {
            double x = (double)LOGMEL_RATE / N_MAX * b;
            double up = (x - hz[m]) / (hz[m + 1] - hz[m]), down = (hz[m + 2] - x) / (hz[m + 2] - hz[m + 1]);
            set_weight(f, m, b, fmax(0, fmin(up, down)));
        }
    }
}

/* VMZ's triangles: at least one bin wide on both sides, of sum 1. */
static void make_vmz(struct frontend *f)
{
    double dx = 1127 * log(1 + F_MAX / 700) / (MEDIA_MELS + 1);
    for (int m = 0; m < MEDIA_MELS; m++) {
        double bin[3], w[VMZ_BINS], sum = 0;
        for (int i = 0; i < 3; i++)
            bin[i] = 700 * (exp((m + i) * dx / 1127) - 1) / VMZ_STEP_HZ;
        double left = fmax(1, bin[1] - bin[0]), right = fmax(1, bin[2] - bin[1]);
        for (int b = 0; b < VMZ_BINS; b++) {
            double away = b < bin[1] ? (bin[1] - b) / left : (b - bin[1]) / right;
            w[b] = fmax(0, 1 - away);
            sum += w[b];
        }
        for (int b = 0; b < VMZ_BINS; b++)
            set_weight(f, m, b, w[b] / sum);
    }
}

int logmel_create(struct logmel **out, struct err *e)
{
    struct logmel *l = calloc(1, sizeof *l);
    *out = l;
    if (!l)
        return err_sys(e, ENOMEM, "log-mel tables");
    struct frontend *htk = &l->frontends[MEDIA_FRONTEND_LOGMEL], *vmz = &l->frontends[MEDIA_FRONTEND_VMZ];
    l->power = aligned_alloc(32, BINS_MAX * FFT_LANES * sizeof *l->power);
    l->padded = malloc((PAD + HEAD) * sizeof *l->padded);
    if (!l->power || !l->padded || fft_lanes_create(&htk->fft, 512) < 0 ||
        fft_lanes_create(&vmz->fft, 256) < 0) {
        logmel_destroy(l);
        *out = NULL;
        return err_sys(e, ENOMEM, "log-mel tables");
    }
    htk->window_length = 400; /* in the middle of 512: the power does not depend on where the rest is zero */
    htk->hop = 320;
    htk->lead = 200;
    for (int i = 0; i < 400; i++)
        htk->window[i] = (float)(0.5 - 0.5 * cos(2 * M_PI * i / 400));
    vmz->window_length = 256;
    vmz->hop = 320;
    for (int i = 0; i < 256; i++)
        vmz->window[i] = (float)(0.5 * (1 - cos(2 * M_PI * i / 255)));
    make_htk(htk);
    make_vmz(vmz);
    return 0;
}

void logmel_destroy(struct logmel *l)
{
    if (!l)
        return;
    fft_lanes_destroy(l->frontends[0].fft);
    fft_lanes_destroy(l->frontends[1].fft);
    free(l->power);
    free(l->padded);
    free(l);
}

/* The first samples, continued to the left by reflection (the end sample not repeated). No frame reaches over
 * the other end. */
static void pad(float *padded, const float *wave)
{
    memcpy(padded + PAD, wave, HEAD * sizeof *wave);
    for (int i = 1; i <= PAD; i++)
        padded[PAD - i] = wave[i];
}

/* Windows of FFT_LANES frames side by side, then zeros. */
VECTORISED static void load_frames(const struct frontend *f, const float *restrict x, lanes *restrict out,
                                   int n)
{
    const int h = f->hop;
    for (int i = 0; i < f->window_length; i++, x++) {
        lanes v = {x[0], x[h], x[2 * h], x[3 * h], x[4 * h], x[5 * h], x[6 * h], x[7 * h]};
        out[i] = v * f->window[i];
    }
    memset(out + f->window_length, 0, (size_t)(n - f->window_length) * sizeof *out);
}

VECTORISED static void apply_filters(const struct frontend *f, const lanes *restrict power,
                                     float *restrict out)
{
    for (int m = 0; m < MEDIA_MELS; m++) {
        lanes sum = {0};
        for (int b = f->first[m]; b < f->end[m]; b++)
            sum += f->filters[m][b] * power[b];
        memcpy(out + m * MEDIA_MEL_FRAMES, &sum, sizeof sum);
    }
}

void logmel_power(struct logmel *l, enum media_frontend frontend, const float *wave, float *out)
{
    const struct frontend *f = &l->frontends[frontend];
    bool vmz = frontend == MEDIA_FRONTEND_VMZ;
    pad(l->padded, wave);
    for (int t = 0; t < MEDIA_MEL_FRAMES; t += FFT_LANES) {
        /* the last group begins earlier, so as to end with the last frame */
        int first = t < MEDIA_MEL_FRAMES - FFT_LANES ? t : MEDIA_MEL_FRAMES - FFT_LANES;
        const float *from = (t ? wave : l->padded + PAD) + first * f->hop - f->lead;
        load_frames(f, from, (lanes *)(void *)fft_lanes_input(f->fft), vmz ? 256 : 512);
        fft_lanes_power(f->fft, l->power);
        if (vmz) /* the packed form of a real transform keeps Nyquist's part beside that of bin 0 */
            for (int i = 0; i < FFT_LANES; i++)
                l->power[i] += l->power[128 * FFT_LANES + i];
        apply_filters(f, (const lanes *)(const void *)l->power, out + first);
    }
}

/* ln x for finite x >= 2^-126, within 2e-7 of itself or of 1, the same on every CPU: x = 2^k (1 + f), f in
 * [sqrt(1/2) - 1, sqrt(2) - 1), and the series of atanh(f / (2 + f)). */
static inline float ln(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t shifted = bits - 0x3f3504f3; /* sqrt(1/2) */
    float k = (float)((int32_t)shifted >> 23);
    bits = (shifted & 0x007fffff) + 0x3f3504f3;
    float m;
    memcpy(&m, &bits, sizeof m);
    float f = m - 1, s = f / (2 + f), z = s * s;
    float r = z * (0.66666667f + z * (0.4f + z * (0.28571429f + z * (0.22222222f + z * 0.18181818f))));
    return k * 0.69314718f + (s * r + 2 * s);
}

VECTORISED static void log_all(float *x)
{
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++)
        x[i] = ln(x[i] + 1e-6f);
}

VECTORISED static void log_vmz(float *x)
{
    const float e = 2.7182818f;
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++) {
        float v = x[i] * (float)VMZ_GAIN;
        float large = ln(v > e ? v : e);
        x[i] = v > e ? large : v / e;
    }
}

void logmel_compute(struct logmel *l, enum media_frontend frontend, const float *wave, float *out)
{
    logmel_power(l, frontend, wave, out);
    if (frontend == MEDIA_FRONTEND_VMZ)
        log_vmz(out);
    else
        log_all(out);
}
