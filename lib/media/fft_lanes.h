/* fft_lanes: the power spectra of eight real signals at once, one in each lane of a vector.
 * Used by logmel. Pure, but for the plan; one thread per plan. Owns its twiddles and scratch. The arithmetic
 * is the same on every CPU, operation by operation, which a library's FFT is not: decoders on unlike hosts
 * must give equal bytes. */
#pragma once

#define FFT_LANES 8

struct fft_lanes;

/* n: 2^k, from 16 to 4096. 0 or -ENOMEM. */
int fft_lanes_create(struct fft_lanes **out, int n);
/* Accepts NULL. */
void fft_lanes_destroy(struct fft_lanes *f);
/* Where the signals go: [n][FFT_LANES]; overwritten by fft_lanes_power. */
float *fft_lanes_input(struct fft_lanes *f);
/* |X|^2 of bins 0 to n / 2: power [n / 2 + 1][FFT_LANES], aligned to 32 bytes. */
void fft_lanes_power(struct fft_lanes *f, float *power);
