#!/usr/bin/env python3
"""Hostile media: whatever a file says, it costs one clip, its deadline and its share of memory, and reaches no other file.

FOLDER keeps the seed files between runs, and the files that ended a worker."""
import argparse
import collections
import ctypes
import os
import queue
import shutil
import struct
import subprocess
import sys
import tempfile
import threading

import make_seeds
import mutate

CPU_S, MEMORY_MIB, BATCH, SKIPPED = 5, 512, 100, 77
parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("hostile", help="the program that gives files to a media child")
parser.add_argument("worker", help="the media worker")
parser.add_argument("folder")
parser.add_argument("--mutations", type=int, default=2000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--slack-mib", type=int, default=0, help="what sanitizers add to a worker, whose memory is then not limited")
OPTIONS = parser.parse_args()
FOLDER, MUTATIONS, SEED = OPTIONS.folder, OPTIONS.mutations, OPTIONS.seed
MOST_KIB = MEMORY_MIB + OPTIONS.slack_mib << 10
Line = collections.namedtuple("Line", "probe examination clip cpu_s wall_s peak_kib ended canary path detail")


class Watch:
    """Counts how often a file is opened, by anyone."""

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if libc.inotify_add_watch(self.fd, path.encode(), 0x20) < 0:  # IN_OPEN
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def opened(self):
        try:
            return len(os.read(self.fd, 1 << 16)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0


def run(paths, canary):
    """Gives the files to the real media child; returns what it says of each."""
    env = dict(os.environ, XDC_MEDIA_WORKER=OPTIONS.worker)
    p = subprocess.run([OPTIONS.hostile, str(CPU_S), str(MEMORY_MIB), canary], input="\n".join(paths) + "\n", env=env, text=True, errors="replace",
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = [Line(*x[:3], float(x[3]), float(x[4]), int(x[5]), int(x[6]), int(x[7]), *x[8:]) for x in
             (line.split("\t", 9) for line in p.stdout.split("\n") if line)]
    if p.returncode != 0 or [x.path for x in lines] != paths:
        raise AssertionError(f"hostile: status {p.returncode} after {len(lines)} of {len(paths)} files\n{p.stderr}")
    return lines


def check(lines):
    faults = []
    for x in lines:
        reasons = {x.probe, x.examination, x.clip}
        for broken, what in ((x.cpu_s > CPU_S + 0.5, f"{x.cpu_s} s of CPU"), (x.peak_kib > MOST_KIB, f"{x.peak_kib} KiB"),
                             (x.canary, "bytes of the canary came back"), ("unknown" in reasons, "a reason without a name"),
                             (x.clip != "ok" and not x.detail, "a reason without a sentence"),
                             ("sandbox_violation" in reasons, "a system call that the sandbox does not know"),
                             (x.ended and not reasons & {"worker_died", "decode_timeout", "memory_limit"}, "a worker ended, for no reason")):
            if broken:
                faults.append(f"{x.path}: {what} ({x.probe}, {x.examination}, {x.clip}: {x.detail})")
    return faults


def mutations(seeds, names, canary, work):
    """Runs all mutations on two workers; returns their lines."""
    todo, done, failed = queue.Queue(), [], []
    for start in range(0, MUTATIONS, BATCH):
        todo.put(range(start, min(start + BATCH, MUTATIONS)))

    def serve():
        try:
            while not failed:
                paths = []
                for n in todo.get_nowait():
                    index, data = mutate.mutate(seeds, SEED, n)
                    paths.append(os.path.join(work, f"{SEED}-{n:06}-{names[index]}"))
                    with open(paths[-1], "wb") as f:
                        f.write(data)
                lines = run(paths, canary)
                done.extend(lines)
                for x in lines:
                    if x.ended or check([x]):
                        shutil.copy(x.path, os.path.join(FOLDER, "kept"))
                    os.unlink(x.path)
        except queue.Empty:
            pass
        except BaseException as e:  # the main thread raises it
            failed.append(e)
    threads = [threading.Thread(target=serve) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise failed[0]
    return done


def report(lines):
    for x in sorted(lines):
        if x.ended:
            print(f"  ended: {os.path.basename(x.path)}: {x.probe}, {x.examination}, {x.clip}: {x.detail}")
    counts = collections.Counter(x.clip for x in lines)
    print("  reasons:", ", ".join(f"{n} {reason}" for reason, n in counts.most_common()))
    slow, big = max(lines, key=lambda x: x.cpu_s), max(lines, key=lambda x: x.peak_kib)
    print(f"  most CPU {slow.cpu_s:.2f} s ({os.path.basename(slow.path)}), most memory {big.peak_kib >> 10} MiB "
          f"({os.path.basename(big.path)}), workers ended {sum(x.ended for x in lines)}")


def main():
    if not shutil.which("ffmpeg"):
        print("no ffmpeg to make files with")
        sys.exit(SKIPPED)
    os.makedirs(os.path.join(FOLDER, "kept"), exist_ok=True)
    target, known = os.path.join(FOLDER, "canary"), os.path.join(FOLDER, "canary.copy")
    for path, data in zip((target, known), [os.urandom(4096)] * 2):
        with open(path, "wb") as f:
            f.write(data)
    paths = make_seeds.make(os.path.join(FOLDER, "seeds"), target)
    assert len(paths) >= 60, f"only {len(paths)} seed files: ffmpeg lacks encoders"
    watch = Watch(target)
    # The watch sees a reader that does follow a reference.
    subprocess.run(["ffprobe", "-v", "quiet", "-safe", "0", "-f", "concat", "-i", os.path.join(FOLDER, "seeds", "list.ffconcat")])
    assert watch.opened() > 0, "ffprobe did not follow list.ffconcat: the test would see nothing"
    print(f"{len(paths)} seed files")
    lines = run(paths, known)
    report(lines)
    faults = check(lines)
    assert sum(x.clip == "ok" for x in lines) >= 30, "most of the sound seeds should decode"
    seeds = [open(p, "rb").read() for p in paths]
    print(f"{MUTATIONS} mutations, seed {SEED}")
    with tempfile.TemporaryDirectory(prefix="xdc-test-hostile-") as work:
        lines = mutations(seeds, [os.path.basename(p) for p in paths], known, work)
    report(lines)
    faults += check(lines)
    assert len(lines) == MUTATIONS
    assert watch.opened() == 0, "the canary was opened"
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
