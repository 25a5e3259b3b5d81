#!/usr/bin/env python3
"""Clips per second and core, ours and the peers', in turns on the same clips: figures D1, D2 and D3.
usage: decode.py BIN_DIR PEER_PYTHON CORPUS_DIR [ROUNDS]
PEER_PYTHON has av, torch, torchaudio, torchvision, torchcodec and decord; a peer that does not run is reported and left out.
CORPUS_DIR is filled with H.264 of 340x256 and 640x360, 30 frames/s, B-frames, GOP 12 to 250, from ../shared/data/media where it
is there, else from generated pictures."""
import concurrent.futures
import json
import os
import random
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MEDIA = os.path.join(HERE, "..", "..", "shared", "data", "media")
SIZES, GOPS, SECONDS = ("340x256", "640x360"), (12, 30, 60, 120, 250), 12
OURS = ("fast", "exact", "fast+audio", "child", "floor")
PEERS = ("pyav", "pyav-nonref", "torchcodec", "decord", "torchvision", "pyav+torchaudio")
GENERATED = {"tests": "testsrc2=size=1280x720:rate=30", "zoom": "mandelbrot=size=1280x720:rate=30"}


def sources():
    real = {"sport": "v_GGSY1Qvo990.mp4", "earth": "nasa_13013.mp4"}
    found = {k: ["-stream_loop", "3", "-i", os.path.join(MEDIA, v)] for k, v in real.items() if os.path.exists(os.path.join(MEDIA, v))}
    return {**found, "tests": ["-f", "lavfi", "-i", GENERATED["tests"]], **({} if found else {"zoom": ["-f", "lavfi", "-i", GENERATED["zoom"]]})}


def make(task):
    path, source, size, gop = task
    if not os.path.exists(path):
        w, h = size.split("x")
        subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *source, "-f", "lavfi", "-i", "anoisesrc=r=48000:a=0.1,aformat=channel_layouts=stereo",
                        "-map", "0:v:0", "-map", "1:a:0", "-t", str(SECONDS), "-vf", f"fps=30,scale={w}:{h},setsar=1", "-c:v", "libx264",
                        "-preset", "medium", "-threads", "1", "-bf", "3", "-g", str(gop), "-keyint_min", str(gop), "-sc_threshold", "0",
                        "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k", path + ".part.mp4"], check=True)
        os.rename(path + ".part.mp4", path)


def corpus(folder):
    os.makedirs(folder, exist_ok=True)
    classes, tasks = {}, []
    for size in SIZES:
        for gop in GOPS:
            files = [(os.path.join(folder, f"{name}-{size}-{gop}.mp4"), source, size, gop) for name, source in sources().items()]
            tasks += files
            rng = random.Random(f"{size}{gop}")
            clips = [(f[0], round(rng.uniform(0, SECONDS - 1), 4)) for f in files for _ in range(6)]
            rng.shuffle(clips)
            classes[size, gop] = os.path.join(folder, f"list-{size}-{gop}.txt")
            with open(classes[size, gop], "w") as f:
                f.writelines(f"{p} {s}\n" for p, s in clips)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, tasks))
    return classes


def one(bin_dir, python, name, clips):
    own = name in OURS
    command = [os.path.join(bin_dir, "bench_decode")] if own else [python, os.path.join(HERE, "peers", "decode_peers.py")]
    run = subprocess.run(["taskset", "-c", "1", *command, name, clips], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return json.loads(run.stdout)["ms"] if run.returncode == 0 else None


def main():
    bin_dir, python, folder = sys.argv[1:4]
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    classes = corpus(folder)
    print("CPU ms a clip, median of", rounds, "rounds in turns", flush=True)
    absent = set()
    print("| size | GOP | " + " | ".join(OURS + PEERS) + " | D1 exact | D1 fast | D1 without NONREF | D2 | D3 | pair |")
    print("|" + "---|" * (len(OURS + PEERS) + 8), flush=True)
    for (size, gop), clips in classes.items():
        times = {name: [] for name in OURS + PEERS}
        for _ in range(rounds):
            for name in times:
                ms = None if name in absent else one(bin_dir, python, name, clips)
                if ms is None:
                    absent.add(name)
                else:
                    times[name].append(ms)
        t = {name: statistics.median(v) if v else float("nan") for name, v in times.items()}
        video = [t[p] for p in PEERS if p != "pyav+torchaudio" and times[p]]
        plain = [t[p] for p in PEERS if p not in ("pyav+torchaudio", "pyav-nonref") and times[p]]
        ratios = (min(video) / t["exact"], min(video) / t["fast"], min(plain) / t["fast"], t["floor"] / t["fast"],
                  t["fast+audio"] / t["fast"], t["pyav+torchaudio"] / t["fast+audio"])
        print(f"| {size} | {gop} | " + " | ".join(f"{t[n]:.2f}" for n in OURS + PEERS) + " | " + " | ".join(f"{r:.2f}" for r in ratios) + " |", flush=True)
    print("did not run:", ", ".join(sorted(absent)) or "none")


if __name__ == "__main__":
    main()
