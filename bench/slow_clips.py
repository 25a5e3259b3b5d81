#!/usr/bin/env python3
"""Figure T4: training with one clip in a hundred some fifty times as slow to decode, in strict order, against the same run without
them: whole runs of the real programs in turns, the clips per second of their training epochs.
usage: slow_clips.py BIN_DIR [ROUNDS]"""
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

VIDEOS, SLOW = 400, 4
CONFIG = """
run: {dir: RUN, seed: 1}
data: {manifest: MANIFEST}
video: {frames: 8, fps: 10, resize: 64, crop: 64}
net: {video_depth: 10, video_width: 16, audio_depth: 10, audio_width: 32}
cluster: {k: 8, restarts: 1, interval_s: 0.2, threads: 1}
train: {rounds: 1, epochs: 3, batch: 16, lr: 0.05, threads: 1}
stats: {clips: 64, batches: 4}
decoder: {workers: 1, hedge: HEDGE}
"""


def xdc(bin_dir, *args):
    return subprocess.run([os.path.join(bin_dir, "xdc"), *args], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()


def cpu_ms(bin_dir, path):
    """Of one clip, by our own decoder."""
    listing = path + ".txt"
    with open(listing, "w") as f:
        f.write(f"{path} 1.0\n" * 5)
    return json.loads(subprocess.run([os.path.join(bin_dir, "bench_decode"), "fast+audio", listing], check=True, stdout=subprocess.PIPE).stdout)["ms"]


def make(bin_dir, place):
    plain, mixed = os.path.join(place, "plain"), os.path.join(place, "mixed")
    xdc(bin_dir, "synth", "--out", plain, "--videos", str(VIDEOS), "--classes", "8", "--seed", "0")
    shutil.copytree(plain, mixed)
    names = sorted(os.path.relpath(p, mixed) for p in glob.glob(os.path.join(mixed, "**", "*.mp4"), recursive=True))
    slow = os.path.join(place, "slow.mp4")
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", "testsrc2=size=1792x1008:rate=30:duration=3", "-f", "lavfi", "-i",
                    "sine=f=400:d=3", "-c:v", "libx264", "-preset", "fast", "-g", "250", "-pix_fmt", "yuv420p", "-c:a", "aac", slow], check=True)
    for n in names[::len(names) // SLOW][:SLOW]:
        shutil.copy(slow, os.path.join(mixed, n))
    print(f"a clip: {cpu_ms(bin_dir, os.path.join(plain, names[0])):.2f} ms; a slow one: {cpu_ms(bin_dir, slow):.2f} ms", flush=True)
    for d in (plain, mixed):
        xdc(bin_dir, "index", d, "--out", d + ".lmdb")
    return plain + ".lmdb", mixed + ".lmdb"


def rate(bin_dir, place, manifest, hedge):
    run, config = os.path.join(place, "run"), os.path.join(place, "c.yaml")
    shutil.rmtree(run, ignore_errors=True)
    with open(config, "w") as f:
        f.write(CONFIG.replace("RUN", run).replace("MANIFEST", manifest).replace("HEDGE", str(hedge)))
    xdc(bin_dir, "run", "-c", config)
    epochs = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    return statistics.mean(e["clips_per_s"] for e in epochs if e["event"] == "epoch")


def main():
    bin_dir, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as place:
        plain, mixed = make(bin_dir, place)
        rates = {"plain": [], "mixed": [], "mixed, never hedged": []}
        for _ in range(rounds):
            rates["plain"].append(rate(bin_dir, place, plain, 4))
            rates["mixed"].append(rate(bin_dir, place, mixed, 4))
            rates["mixed, never hedged"].append(rate(bin_dir, place, mixed, 0))
        median = {k: statistics.median(v) for k, v in rates.items()}
        for k, v in median.items():
            print(f"{k}: {v:.1f} clips/s, {v / median['plain']:.3f}")


if __name__ == "__main__":
    main()
