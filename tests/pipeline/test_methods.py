#!/usr/bin/env python3
"""Every method, and every way to balance clusters, finishes a run of one round: with the label sources and the streams of positions
that the method's table says, all positions accounted for, and both encoders exported; and with the
labels that its features have by k-means, computed anew. usage: test_methods.py BIN_DIR [METHOD...]"""
import csv
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, check_ledger, last_state, make_manifest, read_ledger, read_safetensors, sets, write_config  # noqa: E402

TWO = ["video", "audio"]
SAME = {m: [f"{m}-a", f"{m}-b"] for m in TWO}
HEADS = [f"joint-h{h}" for h in range(3)]
RUNS = (  # method, balance, other settings, sources of the label table (None: it makes none), streams of positions
    ("sdc", "auto", {}, TWO, 2),  # auto is resample for sdc
    ("sdc", "off", {}, TWO, 1),
    ("mdc", "auto", {}, TWO, 1),
    ("cdc", "auto", {}, ["joint"], 1),
    ("xdc", "auto", {}, TWO, 1),
    ("xdc", "weight", {}, TWO, 1),
    ("xdc", "resample", {}, TWO, 2),
    ("supervised", "auto", {}, None, 1),
    ("same-modality", "auto", {"same.modality": "video"}, SAME["video"], 2),
    ("same-modality", "auto", {"same.modality": "audio"}, SAME["audio"], 2),
    ("selavi", "auto", {"selavi.heads": 3}, HEADS, 1),
    ("xdc", "auto", {"labels.from": "xdc-auto"}, None, 1),  # a run before this one
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


def check_clusters(place, run, sources):
    """What the last table says, computed anew from the features: a clip has the label of the nearest centroid, a centroid is the mean
    of its clips where k-means came to rest, and objective and sizes are theirs."""
    last = max(int(f[6:10]) for f in os.listdir(os.path.join(run, "features")))
    out = place.path("f.npy")
    place.xdc("labels", run, "--round", last, "--format", "npy", "--out", out)
    labels = np.load(out)
    events = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    quality = [e["quality"]["sources"] for e in events if e["event"] == "labels"][-1]
    for s, source in enumerate(sources):
        t = read_safetensors(os.path.join(run, "labels", f"round-{last:04}.{source}.norm.safetensors"))
        parts = []
        for encoder in TWO if source == "joint" else [source]:
            place.xdc("features", run, "--round", last, "--modality", encoder, "--out", out)
            parts.append(np.load(out).astype("f8"))
        x = np.concatenate(parts, 1)
        there = ~np.isnan(x).any(1)
        assert (labels[:, s] >= 0).tolist() == there.tolist(), source
        y, x = labels[there, s], x[there] - x[there].mean(0)
        d = ((x[:, None] - t["centroids"].astype("f8")) ** 2).sum(-1)
        assert (y == d.argmin(1)).all(), f"{source}: not the nearest centroids"
        assert np.isclose(d.min(1).sum(), quality[source]["objective"], rtol=1e-5), source
        sizes = np.bincount(y, minlength=K)
        for c in range(K):
            assert np.allclose(t["centroids"][c], x[y == c].mean(0), rtol=1e-4, atol=1e-5), f"{source}: centroid {c} is no mean"
        assert [sizes.min(), sizes.max()] == [quality[source]["sizes"][k] for k in ("min", "max")], source


def check_events(run, clustered, encoders):
    events = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    kinds = [e["event"] for e in events]
    assert kinds.count("epoch") == 1 and kinds[-1] == "finished", kinds
    assert kinds.count("labels") == kinds.count("extract") == (2 if clustered else 0), kinds
    epoch = events[kinds.index("epoch")]
    assert sorted(epoch["loss"]) == sorted(encoders), epoch
    for encoder in encoders:
        assert 0 < epoch["loss"][encoder] < 20, epoch


def one(place, manifest, clips, method, balance, other, sources, streams):
    name = "-".join([method, balance, *(os.path.basename(v) for v in map(str, other.values()))])
    run = place.path(name)
    config = write_config(place, manifest, run, name + ".yaml")
    encoders = SAME[other["same.modality"]] if "same.modality" in other else TWO
    if "labels.from" in other:
        other = {"labels.from": place.path(other["labels.from"])}
    said = place.xdc("run", "-c", config, *sets({"method": method, "train.balance": balance, "train.rounds": 1, "train.epochs": 1,
                                                 "cluster.k": K, "cluster.tolerance": 0, "cluster.iterations": 300, **other})).stdout
    assert "encoders: " in said, said
    counts = check_ledger(run, 1, streams)
    records = read_ledger(run)[0]
    drawn = {r[2] for r in records}
    positions = len(clips)
    if method == "selavi":  # rounds divide the training in whole batches, of 8
        positions = -(-positions // 8) * 8
    assert len(records) == streams * positions and drawn <= clips, f"{name}: {len(records)} positions, {drawn - clips} drawn"
    if method == "same-modality":
        halves = [sorted((r[1], r[2]) for r in records if r[5] == s) for s in range(2)]
        assert halves[0] == halves[1], f"{name}: the encoders are not drawn the same clips"
    if streams == 1 or method == "same-modality":
        assert drawn == clips, f"{name}: not every clip comes once in an epoch"
    else:
        assert set(counts) == {1}, f"{name}: drawn from clusters, so every position has a label: {counts}"
    if sources:
        check_sources(place, run, sources, clips)
        if method != "selavi":
            check_clusters(place, run, sources)
    else:
        assert not os.path.exists(os.path.join(run, "labels")), f"{name} has labels of its own"
    check_events(run, sources is not None, encoders)
    for encoder in encoders:
        assert os.path.getsize(os.path.join(run, "export", encoder + ".safetensors")) > 1000
    print(name, counts, flush=True)


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place)
    with open(place.path("clips", "labels.csv"), newline="") as f:
        split = {row["path"]: row["split"] for row in csv.DictReader(f)}
    clips = {i for i, path in enumerate(sorted(split)) if split[path] == "train"}  # clips are numbered in order of their paths
    wanted = sys.argv[2:]
    for method, balance, other, sources, streams in RUNS:
        if not wanted or method in wanted:
            one(place, manifest, clips, method, balance, other, sources, streams)
    assert not place.processes(), place.processes()
    place.close()


main()
