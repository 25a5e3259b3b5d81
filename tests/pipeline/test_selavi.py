#!/usr/bin/env python3
"""A run of the method selavi: its rounds divide the training into stretches that grow, its heads go on from round to round, its dumps
hold a pair of encoders for each group and the heads; killed in the middle of everything, it ends with the same tables and weights, bit
for bit. What does not fit the method is refused. usage: test_selavi.py BIN_DIR"""
import contextlib
import json
import os
import signal
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, last_checkpoint, make_manifest, outcome_differs, read_ledger, read_safetensors, sets, write_config  # noqa: E402

ROUNDS, EPOCHS, BATCH, HEADS, GROUPS, K = 4, 2, 8, 3, 2, 4
SELAVI = {"method": "selavi", "cluster.k": K, "train.rounds": ROUNDS, "train.epochs": EPOCHS, "selavi.heads": HEADS, "selavi.groups": GROUPS,
          "train.checkpoint_s": 0.2, "features.keep_rounds": 0}


def check_stretches(run, clips):
    """Round j begins at step round(all (j / rounds)^1.5); one order of clips goes through them all."""
    ledger = read_ledger(run)
    per_epoch = -(-len(clips) // BATCH)
    total = ROUNDS * EPOCHS * per_epoch
    starts = [int(total * (j / ROUNDS) ** 1.5 + 0.5) for j in range(ROUNDS + 1)]
    assert sorted(ledger) == list(range(ROUNDS)), sorted(ledger)
    order = []
    for j in range(ROUNDS):
        steps = sorted({r[0] for r in ledger[j]})
        assert steps == list(range(starts[j], starts[j + 1])), (j, steps, starts)
        order += [r[2] for r in sorted(ledger[j], key=lambda r: r[1])]
    for first in range(0, len(order) - len(clips), len(clips)):  # every clip once in each pass over the set
        assert set(order[first:first + len(clips)]) == clips, first
    assert order[:len(clips)] != order[len(clips):2 * len(clips)], "every pass has the same order"


def check_dump(place, run, round_no):
    folder = os.path.join(run, "features", f"round-{round_no:04}", "rank-0")
    heads = read_safetensors(os.path.join(folder, "heads.safetensors"))
    wanted = {f"{e}.heads.{h}.{key}" for e in ("video", "audio") for h in range(HEADS)
              for key in ("1.weight", "2.weight", "2.bias", "2.running_mean", "2.running_var", "5.weight", "5.bias")}
    assert set(heads) == wanted, set(heads) ^ wanted
    assert all(np.abs(heads[f"video.heads.{h}.2.running_mean"]).sum() > 0 for h in range(HEADS)), "statistics are not warmed"
    assert heads["audio.heads.0.5.weight"].shape[0] == K
    return heads


def check_tables(place, run):
    events = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    for e in (e for e in events if e["event"] == "labels"):
        assert sorted(e["quality"]["sources"]) == [f"joint-h{h}" for h in range(HEADS)], e
        assert "alignment" not in e["quality"], "the alignment is not for the record of events"
    kinds = [e["event"] for e in events]
    assert kinds.count("labels") == kinds.count("extract") == ROUNDS + 1 and kinds[-1] == "finished", kinds


def kill_all(place, run, config):
    """Each daemon in each phase; the run must end by itself."""
    proc = place.start("xdc", "run", "-c", config, *sets(SELAVI))
    phases = [(phase, name) for name in ("trainer-0", "decoder-0", "clusterer") for phase in ("extract", "labels", "train")]

    def in_phase(wanted):
        assert proc.poll() is None, f"ended before {wanted}: " + proc.stdout.read()
        s = place.status("trainer-0")
        return s and s["phase"] == wanted

    killed = 0
    for phase, name in phases:
        try:
            place.wait(phase, lambda: in_phase(phase) if proc.poll() is None else True, 2 if phase == "labels" else 60)
        except AssertionError:
            if phase != "labels":  # which may be over too soon to be seen
                raise
        s = place.status(name)
        if proc.poll() is None and s:
            with contextlib.suppress(ProcessLookupError):
                os.kill(s["pid"], signal.SIGKILL)
            killed += 1
            print(f"killed {name}, meant for {phase}", flush=True)
            place.wait(f"{name} is back", lambda: (place.status(name) or s)["pid"] != s["pid"] or proc.poll() is not None, 60)
    out, _ = proc.communicate(timeout=300)
    assert proc.returncode == 0, out
    assert killed >= 5, f"the run ended after {killed} kills"


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place, flaws=False)
    calm, killed = place.path("calm"), place.path("killed")
    config = write_config(place, manifest, calm, "calm.yaml")
    print(place.xdc("run", "-c", config, *sets(SELAVI)).stdout[-900:])
    clips = {r[2] for records in read_ledger(calm).values() for r in records}
    check_stretches(calm, clips)
    check_tables(place, calm)
    first, last = check_dump(place, calm, 0), check_dump(place, calm, ROUNDS)
    learnt = read_safetensors(os.path.join(last_checkpoint(calm), "weights.safetensors"))
    for name, value in last.items():
        assert (learnt[name] == value).all(), f"{name} of the last dump is not the checkpoint's: heads did not go on"
    assert any((first[n] != last[n]).any() for n in first)

    kill_all(place, killed, write_config(place, manifest, killed, "killed.yaml"))
    check_stretches(killed, clips)
    differs = outcome_differs(calm, killed)
    assert not differs, f"not equal to the undisturbed run: {differs}"

    for key, value, said in (("data.clips_per_video", 2, "one label to a video"), ("train.harvest", "true", "train.harvest"),
                             ("train.balance", "resample", "train.balance")):
        refused = place.xdc("run", "-c", config, *sets({**SELAVI, key: value, "run.dir": place.path("no")}), expect=78)
        assert said in refused.stderr, refused
    refused = place.xdc("run", "-c", config, *sets({**SELAVI, "train.rounds": ROUNDS + 1}), expect=78)
    assert "train.rounds" in refused.stdout + refused.stderr, refused
    assert not place.processes(), place.processes()
    place.close()


main()
