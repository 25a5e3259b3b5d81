#!/usr/bin/env python3
"""The clusterer is killed at random points of a job: while it reads the sources, in k-means and as it writes its checkpoint, while it
writes the table. Whoever comes next, a new one or one that stands by, makes the table that an undisturbed one makes, byte for byte, and
leaves nothing else behind. usage: test_clusterer_kills.py BIN_DIR [SEED]"""
import glob
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import XDC_LONG, Place  # noqa: E402

CONFIG = """
run: {dir: RUN, seed: 3}
data: {manifest: MANIFEST}
method: xdc
cluster: {k: 24, restarts: 2, iterations: 8, interval_s: 0.05, tolerance: 0, threads: 1, memory_mib: 1, checkpoint_s: 0.05}
"""
KILLS = 200 if XDC_LONG else 20


def labels(run, what):
    return glob.glob(os.path.join(run, "labels", what))


def table_of(run):
    path = os.path.join(run, "labels", "round-0000.xdcl")
    return open(path, "rb").read() if os.path.exists(path) else None


def all_of(run):
    """{name: bytes} of all that the clusterer has made."""
    return {os.path.basename(p): open(p, "rb").read() for p in labels(run, "*") if not p.endswith(".tmp")}


def remove_all(run):
    for p in labels(run, "*"):
        os.remove(p)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def has_ended(process):
    if process.poll() is not None:
        raise AssertionError("a clusterer has ended: " + process.stdout.read())


def wait_for(process, seconds, condition):
    """True when it came; also the table's arrival ends the waiting."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        has_ended(process)
        time.sleep(0.0002)
    return False


def one_kill(start, run, rng, kind, seconds):
    """Starts a clusterer and kills it; returns what it was doing, or None when it was done before."""
    process = start()
    if kind == "checkpoint":
        before = {p: os.stat(p).st_mtime_ns for p in labels(run, "*.kmeans")}
        came = wait_for(process, 30, lambda: table_of(run) or any(
            os.stat(p).st_mtime_ns != before.get(p) for p in labels(run, "*.kmeans") if os.path.exists(p)))
        time.sleep(rng.uniform(0, 0.02))
    elif kind == "table":
        came = wait_for(process, 30, lambda: table_of(run) or labels(run, "*.xdcl.*tmp"))
    else:
        came = True
        time.sleep(rng.uniform(0.05, seconds))
    kill(process)
    assert came, f"{kind}: nothing in 30 s"
    if table_of(run):
        return None
    return "table" if labels(run, "*.xdcl.*tmp") else "k-means" if labels(run, "*.kmeans") else "sources"


def check(run, right, what):
    made = all_of(run)
    assert sorted(made) == sorted(right), f"{what}: {sorted(made)}"
    assert made == right, f"{what}: not the same bytes: {[n for n in made if made[n] != right[n]]}"
    left = labels(run, "*.tmp") + glob.glob(os.path.join(run, "rows-*"))
    assert not left, f"{what}: {left}"


def finish(start, run, right, what):
    process = start()
    assert wait_for(process, 60, lambda: table_of(run)), f"{what}: no table in a minute"
    kill(process)
    check(run, right, what)


def kill_often(place, start, run, right, seconds, rng):
    kinds = ["random"] * 3 + ["checkpoint", "table"]
    seen, kills = {}, 0
    while kills < KILLS:
        what = one_kill(start, run, rng, kinds[kills % len(kinds)], seconds)
        seen[what] = seen.get(what, 0) + 1
        kills += what is not None
        if what is None or kills % 5 == 0:
            finish(start, run, right, f"after {kills} kills")
            remove_all(run)
    print("killed in", seen, flush=True)
    assert seen.get("k-means") and seen.get("sources"), seen


def stand_by(place, start, run, right):
    """The second waits while the first has the lock, then finishes the round."""
    first = start()
    place.wait("the first is active", lambda: (place.status("clusterer") or {}).get("state") == "working")
    second = start()
    time.sleep(0.3)
    assert table_of(run) is None, "the job is too short for this test"
    kill(first)
    assert wait_for(second, 60, lambda: table_of(run)), "no table by the one that stood by"
    check(run, right, "the one that stood by")
    status, out = place.stop(second)
    assert status == 0 and "standing by: process" in out and "round 0: clustering" in out, out


def main():
    place = Place(sys.argv[1])
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    run, config = place.path("run"), place.path("xdc.yaml")
    with open(config, "w") as f:
        f.write(CONFIG.replace("RUN", run).replace("MANIFEST", place.path("m.lmdb")))
    for arguments in (("manifest", place.path("m.lmdb"), 6000), ("seal", config, 0, 0, 1, 64)):
        made = place.start("big_dump", *arguments)
        assert made.wait(60) == 0, made.stdout.read()

    def start():
        return place.start("xdc-clusterer", "-c", config)

    began = time.monotonic()
    process = start()
    assert wait_for(process, 60, lambda: table_of(run)), "no table in a minute"
    seconds = time.monotonic() - began
    kill(process)
    right = all_of(run)
    remove_all(run)
    print(f"undisturbed: {seconds:.2f} s", flush=True)
    stand_by(place, start, run, right)
    remove_all(run)
    kill_often(place, start, run, right, seconds, rng)
    place.close()


main()
