#!/usr/bin/env python3
"""Figure R3: the training step over two processes with one thread each (Gloo, batch-norm of each rank's own rows) against Python's
DistributedDataParallel, in turns. usage: ranks.py BIN_DIR PYTHON..."""
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile

import net_step

# name, depth, video width, audio width, frames, crop, batch of a rank, steps, rounds
CASES = [("small", 10, 16, 32, 8, 64, 16, 3, 3), ("R(2+1)D-18 8x112x112 and ResNet-18", 18, 64, 64, 8, 112, 4, 1, 1)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def both(command_of, **env):
    """Starts two ranks; the first one's figures."""
    port = free_port()
    jobs = [subprocess.Popen([str(a) for a in command_of(rank, port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             env={**os.environ, **env, "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                                  "MASTER_PORT": str(port)}) for rank in range(2)]
    texts = [j.communicate()[0] for j in jobs]
    if any(j.returncode for j in jobs):
        raise SystemExit(f"{jobs[0].args} failed")
    return json.loads(texts[0])


def case(bin_dir, pythons, folder, name, depth, video, audio, frames, crop, batch, steps, rounds):
    nets = [net_step.export(bin_dir, folder, f"r2plus1d_{depth}", "xdc", video),
            net_step.export(bin_dir, folder, f"resnet{depth}", "torchvision", audio)]
    sizes = [frames, crop, batch, 1, steps]
    ours = [os.path.join(bin_dir, "bench_net_step"), depth, video, audio, *sizes]
    jobs = {"ours": lambda: both(lambda rank, port: [*ours, rank, 2, port])}
    for python in pythons:
        for kind in ("plain", "tuned"):
            jobs[f"{python} {kind}"] = lambda p=python, k=kind: both(lambda rank, port: [p, net_step.PEER, *nets, *sizes, k])
    seen = {k: [] for k in jobs}
    for _ in range(rounds):
        for k, job in jobs.items():
            seen[k].append(job())
    print(f"\n{name}, 2 x batch {batch}: clips/s of both ranks\n\n| | torch | video | audio | both | ours over it |\n|---|---|---|---|---|---|")
    rates = {k: [2 * statistics.median(r[e]["train"] for r in seen[k]) for e in ("video", "audio")] for k in jobs}
    total = {k: 1 / (1 / v + 1 / a) for k, (v, a) in rates.items()}
    for k in jobs:
        print(f"| {k} | {seen[k][0]['torch']} | {rates[k][0]:.2f} | {rates[k][1]:.2f} | {total[k]:.2f} | {total['ours'] / total[k]:.2f} |",
              flush=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        for c in CASES:
            case(sys.argv[1], sys.argv[2:], folder, *c)


if __name__ == "__main__":
    main()
