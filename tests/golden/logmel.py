#!/usr/bin/env python3
"""Writes logmel_power.npy: power of the 40 mel filters of a test signal, [40, 100] float32, before the log.

Independent of the C code: numpy only, float64, a plain real FFT, frames taken from an explicitly padded signal.
Written with Python 3.11 and numpy 1.24. The signal is the one of tests/unit/media/test_logmel.c.
"""
import pathlib

import numpy as np

RATE, N_FFT, WIN, HOP, MELS, FRAMES = 16000, 512, 400, 320, 40, 100


def signal():
    n = np.arange(2 * RATE, dtype=np.float64)
    x = 0.4 * np.sin(2 * np.pi * 440 * n / RATE) + 0.2 * (n / len(n)) * np.sin(2 * np.pi * 3000 * n / RATE)
    state, noise = 12345, np.empty(len(n))
    for i in range(len(n)):
        state = (1664525 * state + 1013904223) % 2**32
        noise[i] = state / 2**32 - 0.5
    return (x + 0.1 * noise).astype(np.float32).astype(np.float64)


def filters():
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), MELS + 2)
    hz = 700 * (10 ** (mel / 2595) - 1)
    bins = np.linspace(0, RATE / 2, N_FFT // 2 + 1)
    return np.array([np.interp(bins, hz[m:m + 3], [0, 1, 0], left=0, right=0) for m in range(MELS)])


def main():
    x = np.pad(signal(), N_FFT // 2, mode="reflect")
    window = np.zeros(N_FFT)
    left = (N_FFT - WIN) // 2
    window[left:left + WIN] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WIN) / WIN)
    frames = np.stack([x[t * HOP:t * HOP + N_FFT] * window for t in range(FRAMES + 1)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    mel = filters() @ power[:FRAMES].T
    np.save(pathlib.Path(__file__).with_name("logmel_power.npy"), mel.astype(np.float32))


if __name__ == "__main__":
    main()
