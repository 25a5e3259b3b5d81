#!/usr/bin/env python3
"""Two trainer processes train as one: equal losses with batch-norm over both; a rank that is killed or hangs is named within seconds
and the group goes on from its checkpoint to the same end; stopped runs go on, with another number of ranks where an epoch begins.
usage: test_ranks.py BIN_DIR"""
import json
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (Place, check_ledger, descendants, last_state, log_of, make_manifest, outcome_differs, read_ledger,  # noqa: E402
                     write_config)

NAMED_S = 15.0  # 3 to 4 s where this machine is not short of CPU


def losses(run):
    events = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    return [[e["loss"][k] for k in ("video", "audio")] for e in events if e["event"] == "epoch"]


def run_with(place, manifest, name, *sets):
    run = place.path(name)
    args = [a for s in sets for a in ("--set", s)]
    place.xdc("run", "-c", write_config(place, manifest, run, name + ".yaml"), *args)
    return run


def pid_of(run, rank):
    """The live trainer of that rank, or None."""
    for pid in descendants(run.pid):
        try:
            args = open(f"/proc/{pid}/cmdline").read().split("\0")
        except OSError:
            continue
        if args[0].endswith("xdc-trainer") and args[args.index("--rank") + 1] == str(rank):
            return pid
    return None


def check_two_are_one(place, manifest):
    """The same batches over one rank and over two: what every position became is the same, and so are the losses. The steps are small:
    otherwise two runs of one rank with one and two threads differ as much, by ReLUs that turn over on a last bit."""
    sets = ["method=supervised", "train.sync_norm=true", "train.rounds=1", "train.epochs=2", "train.lr=0.0005",
            "video.resize=64", "video.crop=64"]
    one = run_with(place, manifest, "one", *sets)
    two = run_with(place, manifest, "two", *sets, "run.ranks=2")
    assert check_ledger(one, 2, 1) == check_ledger(two, 2, 1)
    for epoch, records in read_ledger(one).items():
        assert sorted(records) == sorted(read_ledger(two)[epoch]), f"epoch {epoch}: other samples, clips or steps"
    pairs = [(a, b) for x, y in zip(losses(one), losses(two)) for a, b in zip(x, y)]
    apart = max(abs(a - b) for a, b in pairs)
    print(f"losses over two ranks: {apart:.2g} from one rank's, {pairs}", flush=True)
    assert len(pairs) == 4 and apart < 1e-4, pairs
    return one


def disturb(place, manifest, calm, name, when, how, rank):
    """One run in which something happens to a rank; it ends like the undisturbed one."""
    run_dir = place.path(name)
    run = place.start("xdc", "run", "-c", write_config(place, manifest, run_dir, name + ".yaml"), "--set", "run.ranks=2")
    place.wait(name, lambda: when(place.status("trainer-0")) or run.poll() is not None, 120)
    pid = pid_of(run, rank)
    assert run.poll() is None and pid, run.stdout.read()
    os.kill(pid, how)
    begun = time.monotonic()
    other = f"trainer-{1 - rank}"
    place.wait(f"{name}: {other} names rank {rank}",
               lambda: re.search(f"rank {rank} of 2 is lost", log_of(run_dir, other)), 60)
    named = time.monotonic() - begun
    assert named <= NAMED_S, f"{name}: named after {named:.1f} s"
    if how == signal.SIGSTOP:
        time.sleep(1)
        os.kill(pid, signal.SIGCONT)
    place.wait(f"{name}: both ranks have met again",
               lambda: all(log_of(run_dir, f"trainer-{r}").count("all ranks have met") >= 2 for r in (0, 1)), 60)
    met = time.monotonic() - begun
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 0, out
    counts = check_ledger(run_dir, 4, 1)
    differs = outcome_differs(calm, run_dir)
    assert not differs, f"{name} is not equal to the undisturbed run: {differs}"
    print(f"{name}: named after {named:.1f} s, together again after {met:.1f} s, {counts}", flush=True)


def check_stop(place, manifest, calm):
    """SIGTERM ends all ranks at one step with one checkpoint; from the middle of an epoch only as many ranks go on."""
    run_dir = place.path("stopped")
    config = write_config(place, manifest, run_dir, "stopped.yaml")
    run = place.start("xdc", "run", "-c", config, "--set", "run.ranks=2")
    place.wait("some batches", lambda: (place.status("trainer-0") or {}).get("step", 0) >= 3, 120)
    status, out = place.stop(run, 120)
    assert status == 75, out
    for rank in (0, 1):
        assert "stopped at step" in log_of(run_dir, f"trainer-{rank}"), log_of(run_dir, f"trainer-{rank}")
    state = last_state(run_dir)
    assert len(state["ledgers"]) == 2 and all(m["size_bytes"] > 0 for m in state["ledgers"]), state
    if state["batch"]:
        refused = place.xdc("run", "-c", config, "--set", "run.ranks=1", expect=78)
        assert "middle of an epoch that 2 ranks train" in refused.stdout + refused.stderr, refused
    place.xdc("run", "-c", config, "--set", "run.ranks=2")
    differs = outcome_differs(calm, run_dir)
    assert not differs, differs
    print("stopped at step", state["step"], "and gone on with", flush=True)


def check_one_told(place, manifest, calm):
    """SIGTERM to one trainer alone stops both, with a checkpoint and without a word of a loss; started again they go on."""
    run_dir = place.path("told")
    run = place.start("xdc", "run", "-c", write_config(place, manifest, run_dir, "told.yaml"), "--set", "run.ranks=2")
    place.wait("some batches", lambda: (place.status("trainer-0") or {}).get("step", 0) >= 3, 120)
    os.kill(pid_of(run, 1), signal.SIGTERM)
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 0, out
    for rank in (0, 1):
        log = log_of(run_dir, f"trainer-{rank}")
        assert "stopped at step" in log and "is lost" not in log, log
    differs = outcome_differs(calm, run_dir)
    assert not differs, differs
    print("one was told to stop, both did", flush=True)


def check_other_ranks(place, manifest, one):
    """A finished run of one rank goes on for more rounds with two, and then with one again."""
    config = write_config(place, manifest, one, "one.yaml")
    common = ["-c", config, "--set", "method=supervised", "--set", "train.sync_norm=true", "--set", "train.epochs=2",
              "--set", "train.lr=0.0005", "--set", "video.resize=64", "--set", "video.crop=64"]
    place.xdc("run", *common, "--set", "train.rounds=2", "--set", "run.ranks=2")
    assert len(last_state(one)["ledgers"]) == 2
    place.xdc("run", *common, "--set", "train.rounds=3")
    assert len(last_state(one)["ledgers"]) == 1
    print("one rank, two, one again:", check_ledger(one, 6, 1), flush=True)


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=60)
    one = check_two_are_one(place, manifest)
    calm = run_with(place, manifest, "calm", "run.ranks=2")
    print("undisturbed, two ranks:", check_ledger(calm, 4, 1), flush=True)

    def trains(s):
        return s and s["phase"] == "train" and s["done"] >= 16

    def extracts(s):
        return s and s["phase"] == "extract" and s["round"] == 1
    disturb(place, manifest, calm, "killed-1", trains, signal.SIGKILL, 1)
    disturb(place, manifest, calm, "killed-0", trains, signal.SIGKILL, 0)
    disturb(place, manifest, calm, "killed-extract", extracts, signal.SIGKILL, 1)
    disturb(place, manifest, calm, "hung", trains, signal.SIGSTOP, 1)
    check_stop(place, manifest, calm)
    check_one_told(place, manifest, calm)
    check_other_ranks(place, manifest, one)
    place.close()


main()
