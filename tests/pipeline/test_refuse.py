#!/usr/bin/env python3
"""What must be refused, by name: a faulty configuration, a run continued as another one, dumps and label tables of other runs and
manifests, an altered checkpoint. Each time what is there stays as it is, or is made anew from what is right. usage:
test_refuse.py BIN_DIR"""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (Place, check_ledger, last_checkpoint, last_state, log_of, make_manifest, outcome_differs,  # noqa: E402
                     snapshot, write_config)

EPOCHS = 8
ARGS = ("--set", "train.rounds=1", "--set", f"train.epochs={EPOCHS}")

# Each line's fault begins at the caret mark, which is taken out again.
FAULTY = """run: {dir: never, seed: ^many}
data:
  ^manifst: m.lmdb
  clips_per_video: ^0
method: ^xcd
net: ^[18, 64]
train:
  lr: ^-1
  rounds: 3
  ^rounds: 4
  threads: ^"1"
cluster: {k: ^1}
"""


def faulty_configuration(place):
    marks = [(n, line.index("^") + 1) for n, line in enumerate(FAULTY.splitlines(), 1) if "^" in line]
    path = place.path("faulty.yaml")
    with open(path, "w") as f:
        f.write(FAULTY.replace("^", ""))
    for program in (["xdc", "run"], ["xdc-trainer"], ["xdc-decoder"], ["xdc-clusterer"]):
        p = subprocess.run([os.path.join(place.bin, program[0]), *program[1:], "-c", path, "-n"], env=place.env, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert p.returncode == 78, (program, p.returncode, p.stderr)
        told = [(int(a), int(b)) for a, b in re.findall(re.escape(path) + r":(\d+):(\d+): ", p.stderr)]
        for mark in marks:
            assert told.count(mark) == 1, f"{program}: {mark} is not told once\n{p.stderr}"
        assert sorted(told) == sorted(marks + [(1, 1)]), (told, p.stderr)  # 1:1: data.manifest is missing
        for word in ("many", "data.manifest?", "xdc", "data.manifest is missing", "first in line 9"):
            assert word in p.stderr, (word, p.stderr)
    assert not os.path.exists(place.path("never")), "a check has made the run's directory"
    good = write_config(place, place.path("m.lmdb"), place.path("never"), "good.yaml")
    for program in (["xdc", "run"], ["xdc-trainer"], ["xdc-decoder"], ["xdc-clusterer"]):
        p = subprocess.run([os.path.join(place.bin, program[0]), *program[1:], "-c", good, "-n"], env=place.env, timeout=60,
                           stdout=subprocess.PIPE)
        assert p.returncode == 0, program
    assert not os.path.exists(place.path("never")), "a check has made the run's directory"


def missing_gpu(place, manifest):
    """A GPU that is demanded where there is none: status 78 with what to do; auto does without."""
    if os.path.exists("/dev/nvidia0"):
        return
    config = write_config(place, manifest, place.path("no-gpu"), "no-gpu.yaml")
    for program, key in (("xdc-clusterer", "cluster.device"), ("xdc-trainer", "train.device")):
        p = subprocess.run([os.path.join(place.bin, program), "-c", config, "--set", f"{key}=cuda"], env=place.env, text=True,
                           stderr=subprocess.PIPE, timeout=120)
        assert p.returncode == 78, (program, p.returncode, p.stderr)
        assert "cuda" in p.stderr and "install-deps.sh --libtorch" in p.stderr, p.stderr


def another_identity(place, config, run, other_manifest):
    """A key of the identity has changed: status 78, the key, both values, and the run is as it was."""
    before = snapshot(run)
    for key, old, new in (("train.lr", "0.05", "0.01"), ("method", "xdc", "cdc"), ("run.seed", "3", "4")):
        said = place.xdc("run", "-c", config, *ARGS, "--set", f"{key}={new}", expect=78).stderr
        assert f"{key} {old}, now {new}" in said and "run.json" in said, said
    said = place.xdc("run", "-c", config, *ARGS, "--set", f"data.manifest={other_manifest}", expect=78).stderr
    assert "manifest identity" in said, said
    assert snapshot(run) == before, "a refused start has changed the run"


def interrupted(place, manifest):
    """A run that stands in the middle of its first training."""
    run_dir = place.path("interrupted")
    config = write_config(place, manifest, run_dir, "interrupted.yaml")
    run = place.start("xdc", "run", "-c", config, *ARGS)
    place.training(run, epoch=2)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 75, out
    state = last_state(run_dir)
    assert state["phase"] == "train" and state["round"] == 0, state
    return run_dir


def copy_of(place, interrupted_run, name, manifest):
    run = place.path(name)
    shutil.copytree(interrupted_run, run)
    shutil.rmtree(os.path.join(run, "logs"))
    return run, write_config(place, manifest, run, name + ".yaml")


def finishes(place, config, run, calm):
    place.xdc("run", "-c", config, *ARGS)
    check_ledger(run, EPOCHS, 1)
    differs = outcome_differs(calm, run)
    assert not differs, f"not equal to the undisturbed run: {differs}"


def foreign_from_the_start(place, manifest, foreign, calm):
    """Dump and table of another run wait in a new run's directory: the clusterer says whose the dump is, and both are made anew."""
    run = place.path("seeded")
    config = write_config(place, manifest, run, "seeded.yaml")
    for part in ("features", "labels"):
        shutil.copytree(os.path.join(foreign, part), os.path.join(run, part))
    table = os.path.join(run, "labels", "round-0000.xdcl")
    before = open(table, "rb").read()
    clusterer = place.start("xdc-clusterer", "-c", config, *ARGS)
    place.wait("the clusterer has looked", lambda: (place.status("clusterer") or {}).get("failed"), 60)
    failed = place.status("clusterer")["failed"]
    assert "features/round-0000/rank-0 is of " in failed["0"], failed
    health = place.get("clusterer", "/healthz")
    assert health[0] == 503, health
    status, said = place.stop(clusterer)
    assert status == 0 and re.search(r"features/round-0000/rank-0 is of (manifest|run) [0-9a-f]{16}", said), (status, said)
    assert open(table, "rb").read() == before, "a foreign dump was clustered"
    finishes(place, config, run, calm)
    log = log_of(run, "trainer-0")
    assert "features/round-0000/rank-0 is not of these weights" in log, log


def foreign_table(place, manifest, base, foreign, calm):
    """The table of another run in the place of this one's: named and made again from the right dump."""
    run, config = copy_of(place, base, "table", manifest)
    shutil.copy(os.path.join(foreign, "labels", "round-0000.xdcl"), os.path.join(run, "labels", "round-0000.xdcl"))
    finishes(place, config, run, calm)
    log = log_of(run, "clusterer") + log_of(run, "trainer-0")  # whichever looks first
    assert re.search(r"labels/round-0000\.xdcl is (unsound, or )?of another run", log), log


def foreign_table_and_dump(place, manifest, base, foreign, calm):
    """Table and dump of another run: nothing is left that could be right, so the run ends, untouched, and says why."""
    run, config = copy_of(place, base, "both", manifest)
    dump, table = os.path.join(run, "features", "round-0000"), os.path.join(run, "labels", "round-0000.xdcl")
    own = place.path("own")
    shutil.move(dump, own)
    shutil.copytree(os.path.join(foreign, "features", "round-0000"), dump)
    shutil.copy(os.path.join(foreign, "labels", "round-0000.xdcl"), table)
    before = snapshot(run)
    said = place.xdc("run", "-c", config, *ARGS, expect=65).stderr
    assert re.search(r"features/round-0000/rank-0 is of (manifest|run) [0-9a-f]{16}", said), said
    assert snapshot(run) == before, "something was trained or written"
    shutil.rmtree(dump)
    shutil.move(own, dump)
    finishes(place, config, run, calm)


def altered_checkpoint(place, manifest, base, calm, name, alter):
    """The run goes on from the checkpoint before the altered one, and says so."""
    run, config = copy_of(place, base, "altered-" + name, manifest)
    newest = last_checkpoint(run)
    path = os.path.join(newest, name)
    before = open(path, "rb").read()
    after = alter(before)
    assert len(after) == len(before) and after != before
    with open(path, "wb") as f:
        f.write(after)
    assert len(glob.glob(os.path.join(run, "checkpoints", "step-*", "DONE"))) >= 2
    finishes(place, config, run, calm)
    log = log_of(run, "trainer-0")
    refused = re.findall(r"a checkpoint is refused: (.*)", log)
    assert len(refused) == 1 and newest in refused[0] and name in refused[0] and "altered" in refused[0], log
    resumed = int(re.search(r"resumed at step (\d+)", log).group(1))
    assert resumed < int(newest[-12:]), "it resumed from the altered one"


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place)
    faulty_configuration(place)
    print("faulty_configuration is good", flush=True)
    missing_gpu(place, manifest)
    print("missing_gpu is good", flush=True)
    files = sorted(glob.glob(place.path("clips", "videos", "*.mp4")))
    with open(place.path("some.txt"), "w") as f:
        f.write("\n".join(files[:20]) + "\n")
    other_manifest = place.path("other.lmdb")
    place.xdc("index", place.path("some.txt"), "--out", other_manifest)
    calm, other_run, other_data = place.path("calm"), place.path("other-run"), place.path("other-data")
    calm_config = write_config(place, manifest, calm, "calm.yaml")
    place.xdc("run", "-c", calm_config, *ARGS)
    short = ("--set", "train.rounds=1", "--set", "train.epochs=1")
    place.xdc("run", "-c", write_config(place, manifest, other_run, "other-run.yaml"), *short, "--set", "run.seed=9")
    place.xdc("run", "-c", write_config(place, other_manifest, other_data, "other-data.yaml"), *short)
    another_identity(place, calm_config, calm, other_manifest)
    print("another_identity is good", flush=True)
    base = interrupted(place, manifest)
    foreign_from_the_start(place, manifest, other_data, calm)
    print("foreign_from_the_start is good", flush=True)
    foreign_table(place, manifest, base, other_run, calm)
    print("foreign_table is good", flush=True)
    foreign_table_and_dump(place, manifest, base, other_run, calm)
    print("foreign_table_and_dump is good", flush=True)
    altered_checkpoint(place, manifest, base, calm, "weights.safetensors", lambda data: data[:-1000] + bytes(
        [data[-1000] ^ 1]) + data[-999:])
    altered_checkpoint(place, manifest, base, calm, "state.json", lambda data: data.replace(b'"round": 0', b'"round": 1'))
    print("altered_checkpoint is good", flush=True)
    assert not place.processes(), place.processes()
    place.close()


main()
