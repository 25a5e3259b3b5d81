#!/usr/bin/env python3
"""Figure E1: one whole run (decode, extract, cluster, train) of ours and of the same method as a tuned PyTorch program
(peers/whole_run.py), in turns, for three seeds, on the same two CPUs. Networks, rounds, epochs, batches and all else come from one
yaml; the programs' last features go through one k-means (peers/whole_run_score.py).

    bench/whole_run.py avmnist --bin build/release/bin --python PEER_PYTHON       ../shared/data/avmnist; deploy/examples/avmnist.yaml
    bench/whole_run.py gop250 --bin build/release/bin --python PEER_PYTHON        640x360, GOP 250, made here; quickstart.yaml
    bench/whole_run.py quickstart --bin build/release/bin --python PEER_PYTHON    the clips of deploy/quickstart.sh, without a bar
    ... --seeds 0 --rounds 1 --epochs 1 [--videos 60]                             a short try; it has no verdict

PEER_PYTHON: pip install torch torchaudio av faiss-cpu scikit-learn pyyaml. Every finished run is a line of RESULTS (--out), which are not
made again: the same command goes on where it was cut off. Timed is the program from its start to its end. Not timed: making the data,
`xdc index` and the peer's index (lengths and frame rates), scoring. CPU is user and system time of a program and its children."""
import argparse
import concurrent.futures
import csv
import json
import math
import os
import shlex
import shutil
import statistics
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
AVMNIST = os.path.join(ROOT, "..", "shared", "data", "avmnist")
WHOLE, CLASSES = 250, 8
# Per set: the yaml, the bar, and the peer's switches that were the fastest on two cores.
SETS = {"avmnist": ("avmnist.yaml", 1.5, "--threads 2 --workers 2 --compile --keep"),
        "gop250": ("quickstart.yaml", 2.0, "--threads 2 --workers 2 --keep"),
        "quickstart": ("quickstart.yaml", None, "--threads 2 --workers 2 --keep")}
OURS = {"train.threads": 2, "cluster.threads": 2, "decoder.workers": 2}
QUALITY = 0.05
ENCODERS = ("video", "audio")


def call(*command):
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)


def stretch(task):
    """A clip of `xdc synth` as the web has them: 10 s, 640x360, B-frames, a key frame every 250 frames."""
    source, path = task
    if not os.path.exists(path):
        call("ffmpeg", "-v", "error", "-nostdin", "-y", "-stream_loop", "-1", "-i", source, "-t", 10, "-vf", "scale=640:360,setsar=1",
             "-c:v", "libx264", "-preset", "medium", "-threads", 1, "-bf", 3, "-g", 250, "-keyint_min", 250, "-sc_threshold", 0,
             "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k", path + ".part.mp4")
        os.rename(path + ".part.mp4", path)


def data_of(name, o):
    """The folder of a set, with its labels.csv; made where it is missing."""
    if name == "avmnist":
        if not os.path.exists(AVMNIST):
            sys.exit(f"{AVMNIST} is not there: take the set quickstart or gop250, which are made here")
        return AVMNIST
    small, large = (os.path.join(o.work, f"{kind}-{o.videos}") for kind in ("synth", "gop250"))
    if not os.path.exists(os.path.join(small, "labels.csv")):
        call(os.path.join(o.bin, "xdc"), "synth", "--out", small, "--videos", o.videos, "--classes", CLASSES, "--seed", 0)
    if name == "quickstart":
        return small
    os.makedirs(os.path.join(large, "videos"), exist_ok=True)
    names = sorted(os.listdir(os.path.join(small, "videos")))
    files = [(os.path.join(small, "videos", f), os.path.join(large, "videos", f)) for f in names]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(stretch, files))
    shutil.copy(os.path.join(small, "labels.csv"), large)
    return large


class Case:
    """What both sides need of a set, and how each is started."""

    def __init__(self, o):
        self.o, (conf, self.bar, tuned) = o, SETS[o.set]
        self.conf = os.path.join(ROOT, "deploy", "examples", conf)
        self.tuned = tuned if o.peer is None else o.peer
        self.set = o.set if o.set == "avmnist" or o.videos == WHOLE else f"{o.set}-{o.videos}"
        self.folder = os.path.join(o.work, "run-" + self.set)
        self.manifest, self.videos = (os.path.join(o.work, self.set + e) for e in (".lmdb", ".json"))
        self.schedule = {k: v for k, v in (("rounds", o.rounds), ("epochs", o.epochs)) if v is not None}
        os.makedirs(o.work, exist_ok=True)
        labels = os.path.join(data_of(o.set, o), "labels.csv")
        if not os.path.exists(self.videos):
            call(self.xdc(), "index", os.path.dirname(labels), "--labels", labels, "--out", self.manifest, "--force")
            call(o.python, self.peer(), "index", labels, self.videos + ".part")
            os.rename(self.videos + ".part", self.videos)

    def xdc(self):
        return os.path.join(self.o.bin, "xdc")

    def peer(self, what=""):
        return os.path.join(HERE, "peers", f"whole_run{what}.py")

    def command(self, side, seed):
        if side == "peer":
            schedule = [f"--{k}={v}" for k, v in self.schedule.items()]
            return [self.o.python, self.peer(), "run", self.conf, self.videos, self.folder, f"--seed={seed}", *schedule,
                    *shlex.split(self.tuned)]
        values = {"data.manifest": self.manifest, "run.dir": self.folder, "run.seed": seed, **OURS,
                  **{"train." + k: v for k, v in self.schedule.items()}}
        return [self.xdc(), "run", "-c", self.conf, *(a for k, v in values.items() for a in ("--set", f"{k}={v}"))]

    def settings(self, side):
        fixed = self.tuned if side == "peer" else " ".join(f"{k}={v}" for k, v in OURS.items())
        return " ".join([fixed, *(f"{k}={v}" for k, v in self.schedule.items())])


def parameters(path):
    """Numbers that are learnt in an exported encoder."""
    with open(path, "rb") as f:
        tensors = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    return sum(math.prod(t["shape"]) for k, t in tensors.items() if k != "__metadata__" and "running_" not in k and "num_batches" not in k)


def facts_of_ours(case):
    """Seconds of each phase, the networks' sizes, and the files of the last features with the videos of their rows."""
    phases, files, folder = {}, {}, case.folder
    for line in open(os.path.join(folder, "events.jsonl")):
        event = json.loads(line)
        if event["event"] == "phase" and event.get("ended"):
            phases[event["name"]] = phases.get(event["name"], 0) + event["seconds"]
    phases["cluster"] = phases.pop("labels")
    for e in ENCODERS:
        files[e] = os.path.join(folder, e + ".npy")
        call(case.xdc(), "features", folder, "--round", "last", "--modality", e, "--out", files[e])
    table = os.path.join(folder, "last.csv")
    call(case.xdc(), "labels", folder, "--round", "last", "--out", table)
    with open(table) as f:
        names = [row["path"] for row in csv.DictReader(f)]
    version = subprocess.run([case.xdc(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    sizes = [parameters(os.path.join(folder, "export", e + ".safetensors")) for e in ENCODERS]
    return {"phases": phases, "parameters": sizes, "versions": {"xdc": version.split()[-1]}}, names, files


def facts_of_peer(case):
    with open(os.path.join(case.folder, "result.json")) as f:
        result = json.load(f)
    with open(case.videos) as f:
        names = [v["name"] for v in json.load(f)]
    return ({k: result[k] for k in ("phases", "parameters", "versions")}, names,
            {e: os.path.join(case.folder, e + ".npy") for e in ENCODERS})


def measure(case, side, seed):
    """One run, as a line of the results."""
    shutil.rmtree(case.folder, ignore_errors=True)
    load, env = os.getloadavg()[0], {**os.environ, "OPENBLAS_CORETYPE": "SkylakeX"} if side == "peer" else None
    with open(os.path.join(case.o.work, f"{case.set}-{side}.log"), "w") as log:
        since = time.monotonic()
        child = subprocess.Popen(["taskset", "-c", case.o.cpus, *map(str, case.command(side, seed))], env=env, stdout=log, stderr=log)
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.monotonic() - since
    if status:
        sys.exit(f"{side} failed on {case.set}, seed {seed}: see {log.name}")
    facts, names, files = facts_of_ours(case) if side == "ours" else facts_of_peer(case)
    listed = os.path.join(case.o.work, "names.json")
    with open(listed, "w") as f:
        json.dump(names, f)
    scored = subprocess.run([case.o.python, case.peer("_score"), case.conf, case.videos, listed, *(f"{k}={v}" for k, v in files.items())],
                            check=True, stdout=subprocess.PIPE)
    return {"set": case.set, "side": side, "seed": seed, "settings": case.settings(side), "seconds": seconds,
            "cpu_s": used.ru_utime + used.ru_stime, "load": load, "ami": json.loads(scored.stdout), **facts}


def results_of(case):
    """{(side, seed): line}: what the results file has, and what is made now, ours and the peer's in turns."""
    found = {}
    if os.path.exists(case.o.out):
        for line in map(json.loads, open(case.o.out)):
            if line["set"] == case.set and line["settings"] == case.settings(line["side"]):
                found[line["side"], line["seed"]] = line
    for seed in case.o.seeds:
        for side in ("ours", "peer"):
            if (side, seed) not in found:
                found[side, seed] = line = measure(case, side, seed)
                with open(case.o.out, "a") as f:
                    f.write(json.dumps(line) + "\n")
                print(f"{case.set} seed {seed} {side}: {line['seconds']:.1f} s", file=sys.stderr, flush=True)
    return found


def mean_ami(line):
    return statistics.mean(line["ami"][e] for e in ENCODERS)


def print_table(case, found):
    print(f"{case.set}, {os.path.basename(case.conf)}, CPUs {case.o.cpus}; ours: {case.settings('ours')}; peer: {case.settings('peer')}\n")
    print("| seed | ours, s | peer, s | ratio | CPU ratio | ours, AMI video / audio | peer, AMI video / audio | load before |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in case.o.seeds:
        a, b = found["ours", seed], found["peer", seed]
        ami = [" / ".join(f"{x['ami'][e]:.3f}" for e in ENCODERS) for x in (a, b)]
        print(f"| {seed} | {a['seconds']:.1f} | {b['seconds']:.1f} | {b['seconds'] / a['seconds']:.2f} | {b['cpu_s'] / a['cpu_s']:.2f} | "
              f"{ami[0]} | {ami[1]} | {a['load']:.1f}, {b['load']:.1f} |")
    print("\n| seconds of | stats | warm | extract | cluster | train | all else |\n|---|---|---|---|---|---|---|")
    names = ("stats", "warm", "extract", "cluster", "train")
    for side in ("ours", "peer"):
        lines = [found[side, s] for s in case.o.seeds]
        means = [statistics.mean(x["phases"].get(n, 0) for x in lines) for n in names]
        rest = statistics.mean(x["seconds"] for x in lines) - sum(means)
        print(f"| {side} | " + " | ".join(f"{m:.2f}" for m in (*means, rest)) + " |")
    for side in ("ours", "peer"):
        line = found[side, case.o.seeds[0]]
        print(f"\n{side}: " + ", ".join(f"{k} {v}" for k, v in line["versions"].items()) + f"; parameters {line['parameters']}")


def verdict(case, found):
    """Whether the bars hold; a short try shows no more than that both sides run."""
    ratio = (statistics.median(found["peer", s]["seconds"] for s in case.o.seeds) /
             statistics.median(found["ours", s]["seconds"] for s in case.o.seeds))
    apart = statistics.mean(mean_ami(found["ours", s]) - mean_ami(found["peer", s]) for s in case.o.seeds)
    print(f"\nmedian seconds, peer over ours: {ratio:.2f}; mean AMI, ours less the peer's: {apart:+.3f}")
    if case.schedule or case.set != case.o.set or len(case.o.seeds) < 3 or case.bar is None:
        return
    print(f"speed, at least {case.bar}: {'pass' if ratio >= case.bar else 'FAIL'}; "
          f"quality, within {QUALITY}: {'pass' if abs(apart) <= QUALITY else 'FAIL'}")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("set", choices=SETS)
    p.add_argument("--bin", required=True, help="folder of a release build's programs")
    p.add_argument("--python", required=True, help="the peer's Python")
    p.add_argument("--work", default=os.path.join(ROOT, "build", "whole_run"), help="folder for data and runs")
    p.add_argument("--out", help="results, a line a run (default WORK/results.jsonl)")
    p.add_argument("--seeds", default="0,1,2", type=lambda t: [int(s) for s in t.split(",")])
    p.add_argument("--cpus", default="0,1", help="as taskset has them")
    p.add_argument("--videos", type=int, default=WHOLE, help="of the sets that are made here")
    p.add_argument("--rounds", type=int)
    p.add_argument("--epochs", type=int)
    p.add_argument("--peer", help="other switches of peers/whole_run.py run, such as '--threads 2 --workers 1'")
    o = p.parse_args()
    o.bin, o.work = os.path.abspath(o.bin), os.path.abspath(o.work)
    o.out = o.out or os.path.join(o.work, "results.jsonl")
    return o


def main():
    case = Case(options())
    found = results_of(case)
    one, other = (found[s, case.o.seeds[0]]["parameters"] for s in ("ours", "peer"))
    if one != other:
        sys.exit(f"the networks differ: {one} parameters here, {other} in the peer")
    print_table(case, found)
    verdict(case, found)


if __name__ == "__main__":
    main()
