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


def both(kind, command):
    """Starts two ranks; the first one's figures. Ours takes its place on the command line, the peer from the environment."""
    port = str(free_port())
    jobs = [subprocess.Popen(command + ([str(rank), "2", port] if kind == "ours" else []), stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2",
                                                             "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}) for rank in range(2)]
    texts = [j.communicate()[0] for j in jobs]
    if any(j.returncode for j in jobs):
        raise SystemExit(f"{jobs[0].args} failed")
    return json.loads(texts[0])


def case(bin_dir, pythons, folder, name, depth, video, audio, frames, crop, batch, steps, rounds):
    seen = net_step.in_turns(bin_dir, folder, pythons, both, depth, video, audio, (frames, crop, batch, 1, steps), rounds)
    print(f"\n{name}, 2 x batch {batch}: clips/s of both ranks\n\n| | torch | video | audio | both | ours over it |\n|---|---|---|---|---|---|")
    rates = {k: [2 * statistics.median(r[e]["train"] for r in seen[k]) for e in ("video", "audio")] for k in seen}
    total = {k: 1 / (1 / v + 1 / a) for k, (v, a) in rates.items()}
    for k in seen:
        print(f"| {k} | {seen[k][0]['torch']} | {rates[k][0]:.2f} | {rates[k][1]:.2f} | {total[k]:.2f} | {total['ours'] / total[k]:.2f} |",
              flush=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        for c in CASES:
            case(sys.argv[1], sys.argv[2:], folder, *c)


if __name__ == "__main__":
    main()
