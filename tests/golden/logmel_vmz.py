#!/usr/bin/env python3
"""Writes logmel_vmz.npy: the VMZ front end's picture of a test signal, [40, 100] float32.

Independent of the C code: numpy only, float64, filters and frames built from the definition, all frames of 10 ms
first and then every other one (nearest neighbour). Written with Python 3.11 and numpy 1.24. The signal is that of
logmel.py.
"""
import pathlib

import numpy as np

from logmel import RATE, signal

N, HOP, MELS = 256, 160, 40
GAIN = 1080674186.3482928


def filters():
    mel = lambda hz: 1127 * np.log(1 + hz / 700)
    hz = lambda m: 700 * (np.exp(m / 1127) - 1)
    dx, step, out = mel(8000) / (MELS + 1), 8000 / 129, np.zeros((MELS, 128))
    for f in range(MELS):
        left, centre, right = (hz((f + i) * dx) / step for i in range(3))
        left, right = min(left, centre - 1), max(right, centre + 1)
        out[f] = np.interp(np.arange(128), [left, centre, right], [0, 1, 0], left=0, right=0)
    return out / out.sum(axis=1, keepdims=True)


def main():
    x = signal()
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(N) / (N - 1)))
    frames = []
    for t in range(len(x) // HOP):
        part = x[t * HOP:t * HOP + N]
        frames.append(np.abs(np.fft.fft(part * window)) ** 2 if len(part) == N else np.zeros(N))
    power = np.array(frames)
    packed = power[:, :128].copy()
    packed[:, 0] += power[:, 128]  # of a packed real transform bin 0 holds DC and Nyquist
    mel = GAIN * packed @ filters().T
    log = np.where(mel > np.e, np.log(np.maximum(mel, 1e-300)), mel / np.e)
    picture = log[(np.arange(100) * len(log) / 100).astype(int)].T
    np.save(pathlib.Path(__file__).with_name("logmel_vmz.npy"), np.ascontiguousarray(picture, np.float32))


if __name__ == "__main__":
    main()
