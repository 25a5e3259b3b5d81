#!/usr/bin/env python3
"""Figure R1: our training step against the same networks in PyTorch, as shipped and tuned, in turns; the last column is the
share of the step that the tuned peer needs. usage: net_step.py BIN_DIR PYTHON... (one or more interpreters with torch)"""
import json
import os
import statistics
import subprocess
import sys
import tempfile

PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "net_step.py")
# name, depth, video width, audio width, frames, crop, batch, threads, steps, rounds
CASES = [("small, 2 threads", 10, 16, 32, 8, 64, 32, 2, 3, 3), ("small, 1 thread", 10, 16, 32, 8, 64, 32, 1, 3, 2),
         ("R(2+1)D-18 8x112x112 and ResNet-18, 2 threads", 18, 64, 64, 8, 112, 8, 2, 1, 2)]


def measure(kind, command):
    env = {**os.environ, "OPENBLAS_CORETYPE": "SkylakeX"} if kind == "tuned" else None
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env).stdout)


def export(bin_dir, folder, net, flavour, width):
    path = os.path.join(folder, net + ".safetensors")
    subprocess.run([os.path.join(bin_dir, "xdc"), "export", "--init", net, "--flavour", flavour, "--width", str(width), "--out", path],
                   check=True, stdout=subprocess.DEVNULL)
    return path


def in_turns(bin_dir, folder, pythons, measure, depth, video, audio, sizes, rounds):
    """What `measure` gives for our program and for the peer's in each Python, plain and tuned: {name: [result, ...]}."""
    nets = [export(bin_dir, folder, f"r2plus1d_{depth}", "xdc", video), export(bin_dir, folder, f"resnet{depth}", "torchvision", audio)]
    jobs = {"ours": ("ours", [os.path.join(bin_dir, "bench_net_step"), depth, video, audio, *sizes])}
    for python in pythons:
        for kind in ("plain", "tuned"):
            jobs[f"{python} {kind}"] = (kind, [python, PEER, *nets, *sizes, kind])
    seen = {k: [] for k in jobs}
    for _ in range(rounds):
        for k, (kind, command) in jobs.items():
            seen[k].append(measure(kind, [str(a) for a in command]))
    return seen


def case(bin_dir, pythons, folder, name, depth, video, audio, frames, crop, batch, threads, steps, rounds):
    seen = in_turns(bin_dir, folder, pythons, measure, depth, video, audio, (frames, crop, batch, threads, steps), rounds)
    print(f"\n{name}, batch {batch}: clips/s\n\n| | torch | video train | audio train | both | ours over it | features, both | ours over it |")
    print("|---|---|---|---|---|---|---|---|")

    def rate(k, what):
        v, a = (statistics.median(r[e][what] for r in seen[k]) for e in ("video", "audio"))
        return v, a, 1 / (1 / v + 1 / a)

    for k in seen:
        (v, a, both), (_, _, features) = rate(k, "train"), rate(k, "features")
        print(f"| {k} | {seen[k][0]['torch']} | {v:.2f} | {a:.2f} | {both:.2f} | {rate('ours', 'train')[2] / both:.2f} | {features:.2f} | "
              f"{rate('ours', 'features')[2] / features:.2f} |", flush=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        for c in CASES:
            case(sys.argv[1], sys.argv[2:], folder, *c)


if __name__ == "__main__":
    main()
