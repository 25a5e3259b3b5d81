#!/usr/bin/env python3
"""Checkpoints within an epoch, and those that are kept for good: a run that writes one after every batch and is killed in the midst
ends as an undisturbed one does, bit for bit; the newest and the first of each stretch of steps are there, each with the label table
that it names; and from an old one the run goes on to the same end. usage: test_checkpoints.py BIN_DIR"""
import glob
import json
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, check_ledger, log_of, make_manifest, outcome_differs, write_config  # noqa: E402

EVERY = 4
OFTEN = ("--set", "train.checkpoint_s=0.001", "--set", "train.keep_checkpoints=2", "--set", f"train.keep_every={EVERY}")


def steps_of(run):
    return sorted(int(os.path.basename(p)[5:]) for p in glob.glob(os.path.join(run, "checkpoints", "step-*")))


def killed_in_training(place, config, args):
    """kill -9 of the trainer, which `xdc run` starts again."""
    run = place.start("xdc", "run", "-c", config, *args)
    place.training(run, epoch=1)
    pid = place.status("trainer-0")["pid"]
    os.kill(pid, signal.SIGKILL)
    place.wait("the trainer is back", lambda: (place.status("trainer-0") or {"pid": pid})["pid"] != pid, 60)
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out


def check_events(run, last_step):
    """One line a checkpoint, with the time that training stood still and the time that writing took."""
    events = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    written = [e for e in events if e["event"] == "checkpoint"]
    missing = set(range(last_step + 1)) - {e["step"] for e in written}
    assert len(missing) <= 1, missing  # the kill may have come between a checkpoint's end and its line
    assert all(e["stall_s"] >= 0 and e["write_s"] > 0 for e in written), written


def check_kept(run, last_step):
    """The newest two and the first of each stretch, all with the table that they were trained on."""
    kept = steps_of(run)
    assert kept == sorted({*range(0, last_step + 1, EVERY), last_step - 1, last_step}), kept
    named = 0
    for step in kept:
        state = json.load(open(os.path.join(run, "checkpoints", f"step-{step:012d}", "state.json")))
        if state["phase"] == "train":
            table = open(os.path.join(run, "labels", f"round-{state['round']:04d}.xdcl"), "rb").read()
            assert state["labels"] == f"{int.from_bytes(table[-8:], 'little'):016x}", state
            named += 1
    assert named >= 2, kept


def go_on_from(place, config, run, step, calm):
    """Whoever removes the newer ones goes back."""
    for other in steps_of(run):
        if other > step:
            shutil.rmtree(os.path.join(run, "checkpoints", f"step-{other:012d}"))
    os.unlink(os.path.join(run, "finished.json"))
    place.xdc("run", "-c", config)
    assert f"resumed at step {step}: train" in log_of(run, "trainer-0")
    check_ledger(run, 4, 1)
    differs = outcome_differs(calm, run)
    assert not differs, f"not equal to the undisturbed run: {differs}"


def main():
    place = Place(sys.argv[1])
    manifest, calm, run = make_manifest(place), place.path("calm"), place.path("often")
    place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"))
    last_step = steps_of(calm)[-1]
    assert len(steps_of(calm)) == 3 and last_step > 3 * EVERY, steps_of(calm)
    config = write_config(place, manifest, run, "often.yaml")
    killed_in_training(place, config, OFTEN)
    check_ledger(run, 4, 1)
    differs = outcome_differs(calm, run)
    assert not differs, f"not equal to the undisturbed run: {differs}"
    check_events(run, last_step)
    check_kept(run, last_step)
    print("a checkpoint after every batch is good", flush=True)
    go_on_from(place, config, run, EVERY, calm)
    print("going back to an old one is good", flush=True)
    assert not place.processes(), place.processes()
    place.close()


main()
