#!/usr/bin/env python3
"""Figure K1: seconds of an exact k-means pass (labels, sums, objective) of ours, of its matrix product alone, of faiss as shipped
and tuned, and of scikit-learn, in turns on the same rows and first centroids; medians as Markdown.
The ratios of CPU time stand where other work runs beside. usage: kmeans.py BIN_DIR PYTHON FILE [N [D [PASSES [ROUNDS [THREADS
[K,K,...]]]]]]   (FILE is made here and removed)"""
import json
import os
import statistics
import subprocess
import sys

import numpy as np

PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "kmeans.py")
# rows without structure, where bounds spare nothing, and rows around 1000 centres
DATA = {"noise": 0.0, "mixture": 0.3}


def make(path, n, d, spread):
    rng = np.random.default_rng(5)
    centres = spread * rng.standard_normal((1000, d), dtype=np.float32)
    with open(path, "wb") as f:
        for first in range(0, n, 10000):
            rows = min(10000, n - first)
            x = rng.standard_normal((rows, d), dtype=np.float32) + centres[rng.integers(0, 1000, rows)]
            x.tofile(f)


def measure(command, env=None):
    env = {**os.environ, **(env or {})}
    return json.loads(subprocess.run([str(a) for a in command], check=True, stdout=subprocess.PIPE, env=env).stdout)


def compare(bin_dir, python, path, n, d, k, passes, rounds, threads):
    shape = [path, n, d, k, passes, threads]
    jobs = {"ours": ([os.path.join(bin_dir, "bench_kmeans"), *shape, 1], None),
            "faiss": ([python, PEER, "faiss", *shape], None),
            "faiss tuned": ([python, PEER, "faiss", *shape], {"OPENBLAS_CORETYPE": "SkylakeX"}),
            "scikit-learn": ([python, PEER, "sklearn", *shape], None)}
    seen = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, (command, env) in jobs.items():
            seen[name].append(measure(command, env))
    return seen


def main():
    bin_dir, python, path = sys.argv[1:4]
    default = ["500000", "512", "10", "3", "2", "64,256,1024"]
    given = sys.argv[4:] + default[len(sys.argv) - 4:]
    n, d, passes, rounds, threads = (int(a) for a in given[:5])
    ks = [int(k) for k in given[5].split(",")]
    try:
        for data, spread in DATA.items():
            make(path, n, d, spread)
            print(f"\n{data}, {n} x {d}, {passes} passes, {threads} threads, median of {rounds}\n\n| k | who | s a pass | GFLOP/s | "
                  "of the product | ours over it | in CPU time | objective over ours - 1 |\n|---|---|---|---|---|---|---|---|")
            for k in ks:
                seen = compare(bin_dir, python, path, n, d, k, passes, rounds, threads)
                ours = seen["ours"]
                for name, results in seen.items():
                    s = statistics.median(r["pass_s"] for r in results)
                    over = statistics.median(r["pass_s"] / o["pass_s"] for r, o in zip(results, ours))
                    cpu = statistics.median(r["cpu_s"] / o["cpu_s"] for r, o in zip(results, ours))
                    product = f"{statistics.median(r['of_product'] for r in results):.2f}" if name == "ours" else ""
                    print(f"| {k} | {name} {results[0].get('version', '')} | {s:.3f} | {2e-9 * n * d * k / s:.0f} | {product} | {over:.2f} | {cpu:.2f} | "
                          f"{results[0]['objective'] / ours[0]['objective'] - 1:.1e} |", flush=True)
    finally:
        if os.path.exists(path):
            os.remove(path)


if __name__ == "__main__":
    main()
