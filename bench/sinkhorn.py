#!/usr/bin/env python3
"""Seconds of an iteration of Sinkhorn-Knopp: ours, and the published recursion (two products of the matrix of powers with vectors, f64)
in NumPy and, where there is one, in PyTorch, in turns in one run; medians and ratios as Markdown.
usage: sinkhorn.py BIN_DIR [N [K [ITERATIONS [ROUNDS [THREADS]]]]]"""
import os
import re
import statistics
import subprocess
import sys
import time

PEER = r"""
import sys, time
import numpy as np
kind, n, k, iterations, threads = sys.argv[1], *map(int, sys.argv[2:])
ps = np.exp(20 * (np.random.default_rng(1).random((n, k)) - 1))
r, b = np.full(k, 1 / k), np.full(n, 1 / n)
if kind == "torch":
    import torch
    torch.set_num_threads(threads)
    ps, r, b = map(torch.from_numpy, (ps, r, b))
at = 0
for i in range(iterations + 1):
    if i == 1:
        at = time.monotonic()
    a = r / (ps.T @ b)
    b = (1 / n) / (ps @ a)
print((time.monotonic() - at) / iterations)
"""


def ours(bin_dir, n, k, iterations, threads):
    out = subprocess.run([os.path.join(bin_dir, "bench_sinkhorn"), *map(str, (n, k, iterations, threads))], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return float(re.match(r"([\d.]+) s an iteration", out)[1])


def peer(kind, n, k, iterations, threads):
    env = dict(os.environ, OPENBLAS_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
    r = subprocess.run([sys.executable, "-c", PEER, kind, *map(str, (n, k, iterations, threads))], env=env, text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return float(r.stdout) if r.returncode == 0 else None


def main():
    bin_dir = sys.argv[1]
    n, k, iterations, rounds, threads = [int(a) for a in sys.argv[2:]] + [230976, 400, 10, 5, 2][len(sys.argv) - 2:]
    seen = {"ours": [], "numpy": [], "torch": []}
    for _ in range(rounds):
        for name, times in seen.items():
            t = ours(bin_dir, n, k, iterations, threads) if name == "ours" else peer(name, n, k, iterations, threads)
            if t:
                times.append(t)
    first = statistics.median(seen["ours"])
    print(f"{n} x {k}, {iterations} iterations, {threads} threads, {rounds} rounds, {time.strftime('%Y-%m-%d')}\n")
    print("| | s an iteration | lowest | over ours |\n|---|---|---|---|")
    for name, times in seen.items():
        if times:
            m = statistics.median(times)
            print(f"| {name} | {m:.3f} | {min(times):.3f} | {m / first:.2f} |")


main()
