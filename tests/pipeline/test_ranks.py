#!/usr/bin/env python3
"""Two trainer processes train as one: equal losses with batch-norm over both; a rank that is killed or hangs is named within seconds
and the group goes on from its checkpoint to the same end; stopped runs go on, with another number of ranks where an epoch begins.
With XDC_LONG=1 also each disturbance in a run of its own, over more rounds. usage: test_ranks.py BIN_DIR"""
import json
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (XDC_LONG, Place, check_ledger, descendants, last_state, log_of, make_manifest,  # noqa: E402
                     outcome_differs, read_ledger, sets, write_config)

NAMED_S = 15.0  # 3 to 4 s where this machine is not short of CPU
EPOCHS = 4
TWO = {"run.ranks": 2, "train.rounds": 2 if XDC_LONG else 1, "train.epochs": EPOCHS // 2 if XDC_LONG else EPOCHS}
SYNC = {"method": "supervised", "train.sync_norm": "true", "train.rounds": 1, "train.epochs": 2, "train.lr": 0.0005,
        "video.resize": 64, "video.crop": 64}


def losses(run):
    events = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    return [[e["loss"][k] for k in ("video", "audio")] for e in events if e["event"] == "epoch"]


def run_with(place, manifest, name, options):
    run = place.path(name)
    place.xdc("run", "-c", write_config(place, manifest, run, name + ".yaml"), *sets(options))
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
    one = run_with(place, manifest, "one", SYNC)
    two = run_with(place, manifest, "two", {**SYNC, "run.ranks": 2})
    assert check_ledger(one, 2, 1) == check_ledger(two, 2, 1)
    for epoch, records in read_ledger(one).items():
        assert sorted(records) == sorted(read_ledger(two)[epoch]), f"epoch {epoch}: other samples, clips or steps"
    pairs = [(a, b) for x, y in zip(losses(one), losses(two)) for a, b in zip(x, y)]
    apart = max(abs(a - b) for a, b in pairs)
    print(f"losses over two ranks: {apart:.2g} from one rank's, {pairs}", flush=True)
    assert len(pairs) == 4 and apart < 1e-4, pairs
    return one


def disturb(place, run, run_dir, name, when, how, rank):
    """Something happens to a rank of a live run: the other one names it, and they meet again."""
    def count(of, said):
        return len(re.findall(said, log_of(run_dir, f"trainer-{of}")))
    place.wait(name, lambda: when(place.status("trainer-0")) or run.poll() is not None, 120)
    pid = pid_of(run, rank)
    assert run.poll() is None and pid, f"{name}: the run ended too early"
    lost, met = f"rank {rank} of 2 is lost", "all ranks have met"
    losses_before, meetings = count(1 - rank, lost), max(count(r, met) for r in (0, 1))
    os.kill(pid, how)
    begun = time.monotonic()
    place.wait(f"{name}: rank {1 - rank} names rank {rank}", lambda: count(1 - rank, lost) > losses_before, 60)
    named = time.monotonic() - begun
    assert named <= NAMED_S, f"{name}: named after {named:.1f} s"
    if how == signal.SIGSTOP:
        time.sleep(1)
        os.kill(pid, signal.SIGCONT)
    place.wait(f"{name}: both ranks have met again", lambda: all(count(r, met) > meetings for r in (0, 1)), 60)
    print(f"{name}: named after {named:.1f} s, together again after {time.monotonic() - begun:.1f} s", flush=True)


def trains(s):
    return s and s["phase"] == "train" and s["done"] >= 16


def extracts(s):
    return s and s["phase"] == "extract" and s["round"] == 1


def disturbed(place, manifest, calm, name, disturbances):
    """A run in which things happen to ranks, one after the other; it ends like the undisturbed one."""
    run_dir = place.path(name)
    run = place.start("xdc", "run", "-c", write_config(place, manifest, run_dir, name + ".yaml"), *sets(TWO))
    for what in disturbances:
        disturb(place, run, run_dir, *what)
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 0, out
    counts = check_ledger(run_dir, EPOCHS, 1)
    differs = outcome_differs(calm, run_dir)
    assert not differs, f"{name} is not equal to the undisturbed run: {differs}"
    print(f"{name}: {counts}", flush=True)


def stopped(place, manifest, calm):
    """SIGTERM to one trainer alone stops both, without a word of a loss, and the run goes on with both. SIGTERM to the run ends all
    at one step with one checkpoint; from the middle of an epoch only as many ranks go on."""
    run_dir = place.path("stopped")
    config = write_config(place, manifest, run_dir, "stopped.yaml")
    run = place.start("xdc", "run", "-c", config, *sets(TWO))

    def said(what):
        return [log_of(run_dir, f"trainer-{rank}").count(what) for rank in (0, 1)]
    place.wait("some batches", lambda: trains(place.status("trainer-0")), 120)
    os.kill(pid_of(run, 1), signal.SIGTERM)
    place.wait("both have stopped and gone on", lambda: said("stopped at step") == said("resumed at step") == [1, 1], 60)
    assert said("is lost") == [0, 0], log_of(run_dir, "trainer-0")
    print("one was told to stop, both did", flush=True)
    place.wait("some batches", lambda: trains(place.status("trainer-0")), 120)
    status, out = place.stop(run, 120)
    assert status == 75, out
    assert said("stopped at step") == [2, 2], log_of(run_dir, "trainer-1")
    state = last_state(run_dir)
    assert len(state["ledgers"]) == 2 and all(m["size_bytes"] > 0 for m in state["ledgers"]), state
    if state["batch"]:
        refused = place.xdc("run", "-c", config, *sets({**TWO, "run.ranks": 1}), expect=78)
        assert "middle of an epoch that 2 ranks train" in refused.stdout + refused.stderr, refused
    place.xdc("run", "-c", config, *sets(TWO))
    check_ledger(run_dir, EPOCHS, 1)
    differs = outcome_differs(calm, run_dir)
    assert not differs, differs
    print("stopped at step", state["step"], "and gone on with", flush=True)


def other_ranks(place, manifest, one):
    """A finished run of one rank goes on for more rounds with two, and then with one again."""
    config = write_config(place, manifest, one, "one.yaml")
    place.xdc("run", "-c", config, *sets({**SYNC, "train.rounds": 2, "run.ranks": 2}))
    assert len(last_state(one)["ledgers"]) == 2
    place.xdc("run", "-c", config, *sets({**SYNC, "train.rounds": 3}))
    assert len(last_state(one)["ledgers"]) == 1
    print("one rank, two, one again:", check_ledger(one, 6, 1), flush=True)


DISTURBANCES = [("killed-1", trains, signal.SIGKILL, 1), ("killed-0", trains, signal.SIGKILL, 0), ("hung", trains, signal.SIGSTOP, 1),
                ("killed-extract", extracts, signal.SIGKILL, 1)]


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=60 if XDC_LONG else 28)
    one = check_two_are_one(place, manifest)
    calm = run_with(place, manifest, "calm", TWO)
    print("undisturbed, two ranks:", check_ledger(calm, EPOCHS, 1), flush=True)
    disturbed(place, manifest, calm, "disturbed", DISTURBANCES)
    for d in DISTURBANCES if XDC_LONG else []:
        disturbed(place, manifest, calm, d[0], [d])
    stopped(place, manifest, calm)
    other_ranks(place, manifest, one)
    assert not place.processes(), place.processes()
    place.close()


main()
