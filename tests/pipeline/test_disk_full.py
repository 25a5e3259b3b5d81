#!/usr/bin/env python3
"""A full disk: a run whose directory's disk fills up ends with status 74 and one line that names what could not be written; its last
checkpoint is whole; after making room the same command finishes as an undisturbed run does, bit for bit. Below the
reserve an extraction pauses, and goes on by itself when there is room. Needs to mount a small
tmpfs: without that right it is skipped (status 77). usage: test_disk_full.py BIN_DIR"""
import glob
import json
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, check_ledger, last_checkpoint, log_of, make_manifest, outcome_differs, write_config  # noqa: E402

EPOCHS = 8
ARGS = ("--set", "train.rounds=1", "--set", f"train.epochs={EPOCHS}", "--set", "limits.disk_reserve_mib=0")
DISK_MIB = 24


def mount(path):
    os.mkdir(path)
    p = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "xdc-test", path], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    if p.returncode:
        print("skipped: cannot mount a tmpfs:", p.stdout.strip())
        sys.exit(77)


def fill(disk):
    """Takes all the room that is left, to the last page."""
    with open(os.path.join(disk, "filler"), "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass


def one_line(said):
    """What the run says in the end: one line, which names the disk's lack of space."""
    lines = [line for line in said.splitlines() if "space" in line.lower()]
    assert len(lines) == 1 and lines[0].startswith("xdc run: "), said
    return lines[0]


def check_whole(run):
    """The last checkpoint can be read: every tensor lies in the file, and the state is JSON."""
    folder = last_checkpoint(run)
    data = open(os.path.join(folder, "weights.safetensors"), "rb").read()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
    assert len(ends) > 20 and max(ends) == len(data) - 8 - size, "the weights are cut off"
    state = json.load(open(os.path.join(folder, "state.json")))
    assert state["step"] == int(folder[-12:]), state
    assert not glob.glob(os.path.join(run, "checkpoints", "tmp-*")), "a torn checkpoint is left"


def goes_on(place, disk, config, run, calm):
    os.unlink(os.path.join(disk, "filler"))
    place.xdc("run", "-c", config, *ARGS)
    check_ledger(run, EPOCHS, 1)
    differs = outcome_differs(calm, run)
    assert not differs, f"not equal to the undisturbed run: {differs}"
    for line in open(os.path.join(run, "events.jsonl")):
        json.loads(line)


def ends_full(run_dir, run, seconds=60):
    out, _ = run.communicate(timeout=seconds)
    assert run.returncode == 74, (run.returncode, out)
    print(one_line(out), flush=True)
    check_whole(run_dir)


def in_training(place, disk, manifest, calm):
    run_dir = os.path.join(disk, "training")
    config = write_config(place, manifest, run_dir, "training.yaml")
    run = place.start("xdc", "run", "-c", config, *ARGS)
    place.training(run, epoch=1)
    fill(disk)
    ends_full(run_dir, run)
    goes_on(place, disk, config, run_dir, calm)


def in_the_last_checkpoint(place, disk, manifest, calm):
    """Ctrl-C on a full disk: the checkpoint cannot be written, and the run does not say that it was."""
    run_dir = os.path.join(disk, "interrupted")
    config = write_config(place, manifest, run_dir, "interrupted.yaml")
    run = place.start("xdc", "run", "-c", config, *ARGS)
    place.training(run, epoch=1)
    trainer = place.status("trainer-0")["pid"]
    os.kill(trainer, signal.SIGSTOP)
    fill(disk)
    run.send_signal(signal.SIGINT)
    os.kill(trainer, signal.SIGCONT)
    ends_full(run_dir, run)
    goes_on(place, disk, config, run_dir, calm)


def in_clustering(place, disk, manifest, calm):
    """The label table finds no room: the trainer ends as for its own writes, not as for a faulty dump."""
    run_dir = os.path.join(disk, "clustering")
    config = write_config(place, manifest, run_dir, "clustering.yaml")
    run = place.start("xdc", "run", "-c", config, *ARGS)
    clusterer = place.wait("the clusterer answers", lambda: place.status("clusterer"), 60)["pid"]
    os.kill(clusterer, signal.SIGSTOP)
    place.wait("the trainer waits for labels", lambda: (place.status("trainer-0") or {}).get("phase") == "labels", 60)
    fill(disk)
    os.kill(clusterer, signal.SIGCONT)
    ends_full(run_dir, run)
    assert not glob.glob(os.path.join(run_dir, "labels", "*.xdcl"))
    goes_on(place, disk, config, run_dir, calm)


def paused(place, said):
    """Waits until the trainer says in /status and /healthz that it has no room, and that it alone says it."""
    def there():
        text = (place.status("trainer-0") or {}).get("paused")
        return text if text and said in text else None
    text = place.wait("the trainer pauses", there, 60)
    status, health = place.get("trainer-0", "/healthz")
    assert status == 503 and text in health, (status, health)
    return text


def told_once(run_dir, goes_on):
    log = log_of(run_dir, "trainer-0")
    assert log.count("paused until there is room") == 1 and " error " not in log, log
    assert log.count("there is room again: the extraction goes on") == goes_on, log


def below_the_reserve(place, disk, manifest, calm):
    """With the usual reserve no dump is begun on so small a disk: the trainer pauses before a byte is written, can be stopped, and
    with a smaller reserve the run goes on."""
    run_dir = os.path.join(disk, "reserve")
    config = write_config(place, manifest, run_dir, "reserve.yaml")
    run = place.start("xdc", "run", "-c", config, *ARGS, "--set", "limits.disk_reserve_mib=64")
    said = paused(place, "the dump of round 0 needs")
    assert "MiB are free in " + run_dir in said and "make room" in said, said
    assert not glob.glob(os.path.join(run_dir, "features", "*", "*")), "a dump was begun"
    assert run.poll() is None
    status, out = place.stop(run)
    assert status == 75, (status, out)
    told_once(run_dir, 1)
    place.xdc("run", "-c", config, *ARGS)
    differs = outcome_differs(calm, run_dir)
    assert not differs, differs


def below_the_reserve_for_a_while(place, disk, manifest, calm):
    """When there is room again, a run that had less than its reserve goes on by itself."""
    run_dir = os.path.join(disk, "while")
    config = write_config(place, manifest, run_dir, "while.yaml")
    filler = os.path.join(disk, "filler")
    run = place.start("xdc", "run", "-c", config, *ARGS, "--set", "limits.disk_reserve_mib=6")
    place.wait("the trainer answers", lambda: place.status("trainer-0"), 60)
    fill(disk)
    os.truncate(filler, os.path.getsize(filler) - (3 << 20))
    paused(place, "dump of round 0 needs")
    os.unlink(filler)
    assert run.wait(timeout=120) == 0, run.stdout.read()
    told_once(run_dir, 1)
    differs = outcome_differs(calm, run_dir)
    assert not differs, differs


def main():
    place = Place(sys.argv[1])
    disk = place.path("disk")
    mount(disk)
    try:
        manifest, calm = make_manifest(place), place.path("calm")
        place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"), *ARGS)
        for part in (in_training, in_the_last_checkpoint, in_clustering, below_the_reserve, below_the_reserve_for_a_while):
            part(place, disk, manifest, calm)
            print(part.__name__, "is good", flush=True)
            for folder in glob.glob(os.path.join(disk, "*")):
                shutil.rmtree(folder)
        assert not place.processes(), place.processes()
    finally:
        place.end_started()
        subprocess.run(["umount", "-l", disk], check=True)
    place.close()


main()
