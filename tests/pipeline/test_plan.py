#!/usr/bin/env python3
"""What `xdc plan` says of a run is what the run then does: clips and FLOP of every phase and round as the trainer records them, samples
in the ledger, and the bytes of its files. usage: test_plan.py BIN_DIR"""
import glob
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, last_checkpoint, make_manifest, read_ledger, sets, write_config  # noqa: E402

VIDEOS, TRAINED = 24, 1
SHORT = {"train.rounds": 2, "train.epochs": 1, "train.batch": 4, "cluster.k": 2, "features.keep_rounds": 0}
HOLD = {"train.holdout": 0.2, "train.holdout_min_clips": VIDEOS}
RUNS = {
    "xdc": {**HOLD, "data.clips_per_video": 2, "train.last_round_epochs": 2, "train.ema": 0.9, "features.dtype": "f16"},
    "harvest": {"train.harvest": "true", "train.epoch_clips": 10, "train.epochs": 3},
    "mdc-subset": {"method": "mdc", "data.subset.n": 9, "train.recalibrate": "true"},
    "sdc": {"method": "sdc", "train.epoch_clips": 10},
    "same-modality": {"method": "same-modality"},
    "selavi": {"method": "selavi", "selavi.heads": 3, "train.epochs": 2},
    "supervised": {"method": "supervised", "train.update": "fc"},
    "one-encoder": {"method": "supervised", "net.encoders": "video", "train.balance": "resample", "train.rounds": 1},
    "extraction": {"train.rounds": 0, "net.encoders": "audio", "data.clip_times": "windows", "data.window_s": 1, "data.clips_per_video": 5},
}
# The trainer counts convolutions alone, and of a mean log-mel or a hold-out nothing.
COUNTED = {"extract": 1, "train": 3}


def phases(run):
    found = {}
    for e in map(json.loads, open(os.path.join(run, "events.jsonl"))):
        if e["event"] == "phase":
            assert e["ended"], e
            found[e["name"], e["round"]] = e
    return found


def files(*pattern):
    return sum(os.path.getsize(f) for f in glob.glob(os.path.join(*pattern), recursive=True))


def near(said, found, share, what):
    assert abs(said - found) <= share * found, f"{what}: said {said}, found {found}"


def check_computing(plan, run, options):
    found = phases(run)
    said = {(p["phase"], p["round"]): p for p in plan["phases"]}
    for (name, round_no), e in found.items():
        clips = e["clips"]
        p = said.get((name, round_no))
        if name in ("stats", "warm", "extract", "train") and clips > 0:
            warm = said["warm", 0]["clips"] if name == "extract" and round_no > 0 and "train.recalibrate" in options else 0
            # A part of a shuffled order has clips of the hold-out by chance.
            chance = 0.2 * clips if name not in COUNTED and "train.holdout" in options else 0
            assert abs(p["clips"] + warm - clips) <= chance, (name, p, e)
        else:
            assert p is None or name == "labels", (name, p, e)
        if name in COUNTED and clips > 0 and warm == 0:
            computed = [x for n, x in plan["encoders"].items() if options.get("net.encoders", n) == n]
            factor = 1 if options.get("train.update") == "fc" else COUNTED[name]
            convolutions = sum(factor * x["forward_flop"] for x in computed) * clips
            assert convolutions == e["flop"], (name, convolutions, e)
            heads = sum(3 * x["head_flop"] for x in computed) * clips if name == "train" else 0
            near(sum(p["flop"].values()), convolutions + heads, 1e-12, name)
    assert {k for k in said if k[0] in ("extract", "train")} == {k for k in found if k[0] in ("extract", "train")}
    assert {r for n, r in said if n == "cluster"} == {r for n, r in found if n == "labels"}


def check_files(plan, run, options):
    disk = plan["disk"]
    ledger = [r for records in read_ledger(run).values() for r in records]
    assert disk.get("ledger", 0) == 48 * len(ledger)
    samples = sum(p["samples"] for p in plan["phases"] if p["phase"] == "train")
    assert samples == sum(r[6] == TRAINED for r in ledger)
    # Small dumps are mostly what is around their blocks: trees, a record, a seal.
    dumps = glob.glob(os.path.join(run, "features", "round-*", "rank-*", "data.mdb"))
    size = sum(map(os.path.getsize, dumps))
    if "windows" not in options.values():
        assert 0 < disk.get("features", 1) <= size + (not dumps) <= disk.get("features", 1) + 16 * 4096 * len(dumps), (disk, size)
    weights = files(last_checkpoint(run), "*.safetensors")
    near(disk["checkpoints"] / 4, weights, 0.1, "a checkpoint")  # of so small a network the header is a part
    if "export" in disk:
        near(disk["export"], files(run, "export", "*.safetensors"), 0.4, "exports")
    tables = glob.glob(os.path.join(run, "labels", "*.xdcl"))
    assert bool(tables) == ("labels" in disk), tables
    if tables:
        assert disk["labels"] <= sum(map(os.path.getsize, tables)) <= disk["labels"] + 16384 * len(tables)


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=VIDEOS, flaws=False)
    for name, more in RUNS.items():
        run = place.path(name)
        options = {**SHORT, **more}
        config = write_config(place, manifest, run, name + ".yaml")
        before = sorted(os.listdir(place.dir))
        plan = json.loads(place.xdc("plan", "-c", config, "--json", *sets(options)).stdout)
        assert sorted(os.listdir(place.dir)) == before, "xdc plan has left something behind"
        place.xdc("run", "-c", config, *sets(options))
        check_computing(plan, run, options)
        check_files(plan, run, options)
    place.close()


main()
