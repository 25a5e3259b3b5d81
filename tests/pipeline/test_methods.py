#!/usr/bin/env python3
"""Every method, and every way to balance clusters, finishes a run of one round: with the label sources and the streams of positions
that the method's table says, all positions accounted for, and both encoders exported. usage: test_methods.py BIN_DIR"""
import csv
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, check_ledger, last_state, make_manifest, read_ledger, write_config  # noqa: E402

TWO = ["video", "audio"]
RUNS = (  # method, balance, sources of the label table, streams of positions
    ("sdc", "auto", TWO, 2),  # auto is resample for sdc
    ("sdc", "off", TWO, 1),
    ("mdc", "auto", TWO, 1),
    ("cdc", "auto", ["joint"], 1),
    ("xdc", "auto", TWO, 1),
    ("xdc", "weight", TWO, 1),
    ("xdc", "resample", TWO, 2),
    ("supervised", "auto", None, 1),
)
K = 4


def read_labels(place, run):
    out = place.path("labels.csv")
    place.xdc("labels", run, "--round", "last", "--format", "csv", "--out", out)
    with open(out, newline="") as f:
        return list(csv.reader(f))


def check_sources(place, run, sources, drawn):
    """The table has the sources, a label below k for each clip that could be read and none for the others."""
    rows = read_labels(place, run)
    assert rows[0] == ["clip", "path", "start_s", *sources], rows[0]
    bad = {clip for clip, _ in last_state(run)["quarantine"]}
    for row in rows[1:]:
        labelled = int(row[0]) in drawn - bad
        for label in row[3:]:
            assert (0 <= int(label) < K) if labelled else label == "", row


def check_events(run, method):
    events = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    kinds = [e["event"] for e in events]
    assert kinds.count("epoch") == 1 and kinds[-1] == "finished", kinds
    assert kinds.count("labels") == kinds.count("extract") == (0 if method == "supervised" else 2), kinds
    epoch = events[kinds.index("epoch")]
    for encoder in TWO:
        assert 0 < epoch["loss"][encoder] < 20, epoch


def one(place, manifest, clips, method, balance, sources, streams):
    name = f"{method}-{balance}"
    run = place.path(name)
    config = write_config(place, manifest, run, name + ".yaml")
    said = place.xdc("run", "-c", config, "--set", f"method={method}", "--set", f"train.balance={balance}",
                     "--set", "train.rounds=1", "--set", "train.epochs=1", "--set", f"cluster.k={K}").stdout
    assert "encoders: " in said, said
    counts = check_ledger(run, 1, streams)
    records = read_ledger(run)[0]
    drawn = {r[2] for r in records}
    assert len(records) == streams * len(clips) and drawn <= clips, f"{name}: {len(records)} positions, {drawn - clips} drawn"
    if streams == 1:
        assert drawn == clips, f"{name}: not every clip comes once in an epoch"
    else:
        assert set(counts) == {1}, f"{name}: drawn from clusters, so every position has a label: {counts}"
    if sources:
        check_sources(place, run, sources, clips)
    else:
        assert not os.path.exists(os.path.join(run, "labels")), "supervised has labels of its own"
    check_events(run, method)
    for encoder in TWO:
        assert os.path.getsize(os.path.join(run, "export", encoder + ".safetensors")) > 1000
    print(name, counts, flush=True)


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place)
    with open(place.path("clips", "labels.csv"), newline="") as f:
        split = {row["path"]: row["split"] for row in csv.DictReader(f)}
    clips = {i for i, path in enumerate(sorted(split)) if split[path] == "train"}  # clips are numbered in order of their paths
    for method, balance, sources, streams in RUNS:
        one(place, manifest, clips, method, balance, sources, streams)
    assert not place.processes(), place.processes()
    place.close()


main()
