#!/usr/bin/env python3
"""Stopping a run and going on: Ctrl-C once and twice, a second `xdc run` on a live one, and kill -9 of `xdc run` itself. The same
command always goes on and ends as an undisturbed run does, bit for bit. usage: test_stop.py BIN_DIR"""
import contextlib
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (Place, check_ledger, descendants, is_alive, last_state, log_of, make_manifest,  # noqa: E402
                     outcome_differs, write_config)

EPOCHS = 8
PHASES = ["stats", "warm", "extract", "labels"]
ARGS = ("--set", "train.rounds=1", "--set", f"train.epochs={EPOCHS}")


def goes_on(place, config, run, calm):
    """The same command finishes the run; returns what it said."""
    out = place.xdc("run", "-c", config, *ARGS)
    check_ledger(run, EPOCHS, 1)
    differs = outcome_differs(calm, run)
    assert not differs, f"not equal to the undisturbed run: {differs}"
    return out


def nothing_left(place, family, seconds):
    place.wait("all processes of the run are gone", lambda: not [p for p in family if is_alive(p)], seconds)
    assert not place.processes(), place.processes()


def gives_way(family):
    """Where the kernel schedules by session, a decoder's session yields to the trainer's."""
    seen = {}
    for pid in family:
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/autogroup") as group:
            seen[comm.read().strip()] = group.read().split()[1:]
    if any(seen.values()):  # empty where grouping is off
        assert seen["xdc-decoder"] == ["nice", "10"] and seen["xdc-trainer"] == ["nice", "0"], seen


def interrupt_once(place, manifest, calm):
    run_dir = place.path("once")
    config = write_config(place, manifest, run_dir, "once.yaml")
    run = place.start("xdc", "run", "-c", config, *ARGS)
    place.training(run, epoch=1)
    family = descendants(run.pid)
    assert len(family) >= 5, "a clusterer, a trainer, a decoder and two media workers are expected"
    gives_way(family)
    run.send_signal(signal.SIGINT)
    start = time.monotonic()
    out, _ = run.communicate(timeout=25)
    assert run.returncode == 75, (run.returncode, out)
    assert "xdc run: stopped; the same command goes on" in out, out
    print(f"SIGINT: stopped after {time.monotonic() - start:.1f} s", flush=True)
    nothing_left(place, family, 5)
    state = last_state(run_dir)
    assert state["phase"] == "train" and state["round"] == 0 and state["step"] > 0, state
    assert f"stopped at step {state['step']} with a checkpoint" in log_of(run_dir, "trainer-0")
    assert not os.path.exists(os.path.join(run_dir, "finished.json"))
    goes_on(place, config, run_dir, calm)
    assert f"resumed at step {state['step']}: train" in log_of(run_dir, "trainer-0")
    out = place.xdc("run", "-c", config, *ARGS).stdout
    assert "is finished" in out and "train.rounds" in out, out
    assert not place.processes()


def interrupt_early(place, manifest, calm, phase):
    """Before there is anything to store, and while the trainer waits for labels."""
    run_dir = place.path("early-" + phase)
    config = write_config(place, manifest, run_dir, phase + ".yaml")
    run = place.start("xdc", "run", "-c", config, *ARGS)
    clusterer = place.wait("the clusterer answers", lambda: place.status("clusterer"), 60)["pid"]
    os.kill(clusterer, signal.SIGSTOP)  # no labels come: the phase lasts
    phases = PHASES[PHASES.index(phase):]
    place.wait(f"phase {phase}", lambda: (place.status("trainer-0") or {}).get("phase") in phases, 60)
    run.send_signal(signal.SIGINT)
    os.kill(clusterer, signal.SIGCONT)
    out, _ = run.communicate(timeout=25)
    assert run.returncode == 75 and "xdc run: stopped; the same command goes on" in out, (run.returncode, out)
    assert not place.processes(), place.processes()
    goes_on(place, config, run_dir, calm)


def interrupt_twice(place, manifest, calm):
    """The trainer is held, so that the first Ctrl-C cannot end; the second one ends all the same."""
    run_dir = place.path("twice")
    config = write_config(place, manifest, run_dir, "twice.yaml")
    run = place.start("xdc", "run", "-c", config, *ARGS)
    place.training(run, epoch=1)
    trainer = place.status("trainer-0")["pid"]
    os.kill(trainer, signal.SIGSTOP)
    family = descendants(run.pid)

    refused = place.xdc("run", "-c", config, *ARGS, expect=75).stderr
    assert f"pid {run.pid})" in refused and run_dir in refused, refused

    def is_pending():
        masks = [int(line.split()[1], 16) for line in open(f"/proc/{trainer}/status") if line[:6] in ("SigPnd", "ShdPnd")]
        return any(m >> (signal.SIGTERM - 1) & 1 for m in masks)

    run.send_signal(signal.SIGINT)
    place.wait("the trainer is asked to stop", is_pending, 20)
    assert run.poll() is None, "it does not wait for the checkpoint"
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=8)
    assert run.returncode == 75, (run.returncode, out)
    assert "stopping now" in out and "xdc run: stopped at once" in out, out
    nothing_left(place, family, 5)
    goes_on(place, config, run_dir, calm)


def kill_supervisor(place, manifest, calm):
    run_dir = place.path("killed")
    config = write_config(place, manifest, run_dir, "killed.yaml")
    run = place.start("xdc", "run", "-c", config, *ARGS)
    place.training(run, epoch=1)
    family = descendants(run.pid)
    run.kill()
    run.wait()
    nothing_left(place, family, 10)
    goes_on(place, config, run_dir, calm)


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place)
    calm = place.path("calm")
    place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"), *ARGS)
    for phase in ("stats", "labels"):
        interrupt_early(place, manifest, calm, phase)
    print("interrupt_early is good", flush=True)
    for part in (interrupt_once, interrupt_twice, kill_supervisor):
        part(place, manifest, calm)
        print(part.__name__, "is good", flush=True)
    place.close()


main()
