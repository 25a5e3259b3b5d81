#include "lib/media/logmel.h"

#include <errno.h>
#include <libavutil/mem.h>
#include <libavutil/tx.h>
#include <math.h>
#include <string.h>

#define N_FFT 512
#define BINS (N_FFT / 2 + 1)
#define WINDOW 400
#define HOP 320
#define F_MAX 8000.0

struct logmel {
    AVTXContext *tx; /* owned */
    av_tx_fn fft;
    float window[N_FFT]; /* the Hann window in the middle, zero around it */
    float filters[MEDIA_MELS][BINS];
    int first[MEDIA_MELS], end[MEDIA_MELS]; /* bins of a filter that are not 0 */
    float *frame;                           /* owned: N_FFT */
    AVComplexFloat *spectrum;               /* owned: BINS, and one spare */
};

static double mel_to_hz(double mel)
{
    return 700 * (pow(10, mel / 2595) - 1);
}

/* HTK triangles between 0 Hz and 8 kHz, peak 1, evaluated at the bins' frequencies. */
static void make_filters(struct logmel *l)
{
    double top = 2595 * log10(1 + F_MAX / 700), hz[MEDIA_MELS + 2];
    for (int i = 0; i < MEDIA_MELS + 2; i++)
        hz[i] = mel_to_hz(top * i / (MEDIA_MELS + 1));
    for (int m = 0; m < MEDIA_MELS; m++) {
        l->first[m] = BINS;
        for (int b = 0; b < BINS; b++) {
            double f = (double)LOGMEL_RATE / N_FFT * b;
            double up = (f - hz[m]) / (hz[m + 1] - hz[m]);
            double down = (hz[m + 2] - f) / (hz[m + 2] - hz[m + 1]);
            double w = fmax(0, fmin(up, down));
            l->filters[m][b] = (float)w;
            if (w > 0) {
                l->first[m] = l->first[m] < b ? l->first[m] : b;
                l->end[m] = b + 1;
            }
        }
    }
}

int logmel_create(struct logmel **out, struct err *e)
{
    *out = NULL;
    struct logmel *l = av_mallocz(sizeof *l);
    if (!l)
        return err_sys(e, ENOMEM, "log-mel tables");
    l->frame = av_mallocz(N_FFT * sizeof *l->frame);
    l->spectrum = av_mallocz((BINS + 1) * sizeof *l->spectrum);
    float scale = 1;
    if (!l->frame || !l->spectrum || av_tx_init(&l->tx, &l->fft, AV_TX_FLOAT_RDFT, 0, N_FFT, &scale, 0) < 0) {
        logmel_destroy(l);
        return err_sys(e, ENOMEM, "log-mel FFT");
    }
    for (int i = 0; i < WINDOW; i++)
        l->window[(N_FFT - WINDOW) / 2 + i] = (float)(0.5 - 0.5 * cos(2 * M_PI * i / WINDOW));
    make_filters(l);
    *out = l;
    return 0;
}

void logmel_destroy(struct logmel *l)
{
    if (!l)
        return;
    av_tx_uninit(&l->tx);
    av_free(l->frame);
    av_free(l->spectrum);
    av_free(l);
}

/* Index into the wave as if it were continued at both ends by reflection (the end sample not repeated). */
static int reflect(int i)
{
    if (i < 0)
        return -i;
    return i < LOGMEL_SAMPLES ? i : 2 * (LOGMEL_SAMPLES - 1) - i;
}

void logmel_power(struct logmel *l, const float *wave, float *out)
{
    for (int t = 0; t < MEDIA_MEL_FRAMES; t++) {
        int start = t * HOP - N_FFT / 2;
        for (int i = 0; i < N_FFT; i++)
            l->frame[i] = wave[reflect(start + i)] * l->window[i];
        l->fft(l->tx, l->spectrum, l->frame, sizeof(float));
        float power[BINS];
        for (int b = 0; b < BINS; b++)
            power[b] = l->spectrum[b].re * l->spectrum[b].re + l->spectrum[b].im * l->spectrum[b].im;
        for (int m = 0; m < MEDIA_MELS; m++) {
            float sum = 0;
            for (int b = l->first[m]; b < l->end[m]; b++)
                sum += l->filters[m][b] * power[b];
            out[m * MEDIA_MEL_FRAMES + t] = sum;
        }
    }
}

void logmel_compute(struct logmel *l, const float *wave, float *out)
{
    logmel_power(l, wave, out);
    for (int i = 0; i < MEDIA_AUDIO_FLOATS; i++)
        out[i] = logf(out[i] + 1e-6f);
}
