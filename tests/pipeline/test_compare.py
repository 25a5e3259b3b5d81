#!/usr/bin/env python3
"""xdc compare on real runs: its figures against those counted here pair by pair, of tables and of k-means; several clips of a video
and a hold-out; what differs in settings; what it says where something is gone. usage: test_compare.py BIN_DIR"""
import csv
import itertools
import json
import os
import shutil
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, make_manifest, read_ledger, sets, snapshot, write_config  # noqa: E402

GONE = "features.keep_rounds=0` keeps all"


class Runs:
    """Runs of a place, and what is known of their clips."""

    def __init__(self, place):
        self.place = place
        self.manifest = make_manifest(place)
        with open(place.path("clips", "labels.csv"), newline="") as f:
            label = {row["path"]: row["label"] for row in csv.DictReader(f)}
        self.classes = [label[path] for path in sorted(label)]  # videos are numbered in order of their paths

    def run(self, name, manifest=None, **settings):
        settings = {k.replace("__", "."): v for k, v in settings.items()}
        config = write_config(self.place, manifest or self.manifest, self.place.path(name), name + ".yaml")
        self.place.xdc("run", "-c", config, *sets(settings))
        return self.place.path(name)

    def compare(self, *args, **more):
        return json.loads(self.place.xdc("compare", *args, "--json", **more).stdout)

    def labels(self, run, r):
        out = self.place.path("l.npy")
        self.place.xdc("labels", run, "--round", r, "--format", "npy", "--out", out)
        return np.load(out)


def kinds_of(names, labels):
    """Which pairs each kind has, by the labels [clips, names] of two clips."""
    kinds = {"base": lambda a, b: True}
    for i, name in enumerate(names):
        kinds["same_" + name] = lambda a, b, i=i: a[i] == b[i]
    if len(names) == 2:
        kinds["same_both"] = lambda a, b: a[0] == b[0] and a[1] == b[1]
        kinds["same_either"] = lambda a, b: a[0] == b[0] or a[1] == b[1]
    return kinds


def check_pairs(said, names, labels, classes, per_video=1, held=frozenset()):
    """Every pair of two clips of different videos, one by one."""
    unlabelled = {c for c in range(len(labels)) if (labels[c] < 0).any()}
    out = {c for c in held if c not in unlabelled}
    clips = [c for c in range(len(labels)) if c not in unlabelled and c not in out]
    assert said["clips"] == len(clips) > 10, said
    assert said["left_out"] == {"no_label": len(unlabelled), "held_out": len(out), "no_truth": 0}, said["left_out"]
    within = sum(a // per_video == b // per_video for a, b in itertools.combinations(clips, 2))
    assert said["pairs_within_videos"] == within and (within > 0) == (per_video > 1), said
    pairs = [(a, b) for a, b in itertools.combinations(clips, 2) if a // per_video != b // per_video]
    base = None
    for kind, holds in kinds_of(names, labels).items():
        chosen = [(a, b) for a, b in pairs if holds(labels[a], labels[b])]
        same = sum(classes[a // per_video] == classes[b // per_video] for a, b in chosen)
        assert (said[kind]["pairs"], said[kind]["same_class"]) == (len(chosen), same), (kind, said[kind], len(chosen), same)
        p = same / len(chosen)
        assert np.isclose(said[kind]["p"], p, rtol=1e-12), (kind, said[kind], p)
        base = base or p
        assert kind == "base" or np.isclose(said[kind]["lift"], p / base, rtol=1e-12), (kind, said[kind])


def check_record(run, said):
    """Rounds as the record has them: the seconds of phases, the last epoch, the table's quality."""
    events = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    for r in said["rounds"]:
        of = [e for e in events if e.get("round") == r["round"]]
        phases = {e["name"]: e for e in of if e["event"] == "phase"}
        assert set(r["phases"]) == set(phases) and "extract" in phases, (r["phases"], phases)
        for name, e in phases.items():
            assert np.isclose(r["phases"][name]["seconds"], e["seconds"]) and r["phases"][name]["ended"]
            assert not e["clips"] or np.isclose(r["phases"][name]["clips_per_s"], e["clips_per_s"], rtol=1e-6)
        epochs = [e for e in of if e["event"] == "epoch"]
        assert bool(epochs) == (r["epoch"] is not None)
        for key in ("loss", "accuracy", "epoch") if epochs else ():
            assert r["epoch"][key] == epochs[-1][key], (key, r["epoch"])
        assert r["quality"]["sources"] == [e for e in of if e["event"] == "labels"][-1]["quality"]["sources"]


def check_methods(runs, xdc, cdc):
    before = {run: snapshot(run) for run in (xdc, cdc)}
    said = runs.compare(xdc, cdc)
    assert said["same_manifest"] and said["settings"] == {"method": ["xdc", "cdc"]}, said["settings"]
    a, b = said["runs"]
    assert [x["dir"] for x in said["runs"]] == [xdc, cdc] and a["finished"] and b["finished"]
    assert a["method"] == "xdc" and len(a["rounds"]) == len(b["rounds"]) == 3
    for r in range(3):
        check_pairs(a["rounds"][r]["pairs"], ["video", "audio"], runs.labels(xdc, r), runs.classes)
        assert set(a["rounds"][r]["pairs"]["labels"].values()) == {"table"}
        joint = b["rounds"][r]["pairs"]
        check_pairs({k: v for k, v in joint.items()}, ["joint"], runs.labels(cdc, r), runs.classes)
        assert joint["labels"] == {"video": "k-means", "audio": "k-means", "joint": "table"}, joint["labels"]
        assert a["rounds"][r]["missing"] == b["rounds"][r]["missing"] == []
    # Of one seed both runs have the same features before anything is trained: what k-means finds is what xdc's table has.
    for kind in ("base", "same_video", "same_audio", "same_both", "same_either"):
        assert a["rounds"][0]["pairs"][kind] == b["rounds"][0]["pairs"][kind], kind
    assert a["rounds"][2]["pairs"]["same_both"] != b["rounds"][2]["pairs"]["same_both"]
    # And k-means of xdc's own features are its tables, in every round.
    again = runs.compare(xdc, cdc, "--recluster")["runs"]
    for r in range(3):
        pairs = again[0]["rounds"][r]["pairs"]
        assert pairs.pop("labels") == {"video": "k-means", "audio": "k-means"}
        assert pairs == {k: v for k, v in a["rounds"][r]["pairs"].items() if k != "labels"}, r
    assert again[1] == b
    for run, x in ((xdc, a), (cdc, b)):
        check_record(run, x)
        assert snapshot(run) == before[run], "it has written into the run"
    check_agreement(runs, said["agreement"], xdc, cdc)
    last = runs.compare(xdc, cdc, "--round", "last")["runs"]
    assert [x["rounds"] for x in last] == [[a["rounds"][2]], [b["rounds"][2]]]


def nmi(a, b):
    """Over clips with both; the mean of the entropies below."""
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    p = table / table.sum()
    x, y = p.sum(1), p.sum(0)
    h = [-(q[q > 0] * np.log(q[q > 0])).sum() for q in (x, y)]
    there = p > 0
    return (p[there] * np.log(p[there] / np.outer(x, y)[there])).sum() / np.mean(h)


def check_agreement(runs, said, xdc, cdc):
    x, c = runs.labels(xdc, 2), runs.labels(cdc, 2)[:, 0]
    assert len(said) == 1 and said[0]["runs"] == [0, 1] and said[0]["rounds"] == [2, 2], said
    assert [(s["a"], s["b"]) for s in said[0]["sources"]] == [("video", "joint"), ("audio", "joint")]
    for i, s in enumerate(said[0]["sources"]):
        both = (x[:, i] >= 0) & (c >= 0)
        assert s["clips"] == both.sum() and np.isclose(s["nmi"], nmi(x[both, i], c[both]), rtol=1e-9), s
        assert -1 <= s["ami"] < s["nmi"] + 1e-9
    assert said[0]["other_moments"] == []


def check_several_clips(runs, xdc):
    """Three clips of each video, some videos held out; another seed."""
    run = runs.run("several", data__clips_per_video=3, train__holdout=0.2, train__holdout_min_clips=0, run__seed=4, train__rounds=1)
    held = {r[2] for records in read_ledger(run).values() for r in records if r[6] == 4}
    said = runs.compare(run, xdc)
    assert len(held) >= 3
    for r in said["runs"][0]["rounds"]:
        check_pairs(r["pairs"], ["video", "audio"], runs.labels(run, r["round"]), runs.classes, 3, held)
    assert said["settings"]["data.clips_per_video"] == ["3", "1"]
    assert "3 and 1 clips of each video" in said["agreement"][0]["why_not"], said["agreement"]


def check_gone(runs, xdc, cdc):
    """Dumps that are no longer there, and tables that are damaged."""
    short = runs.run("short", method="cdc")  # keeps the newest two
    said = runs.compare(short, xdc)["runs"][0]["rounds"]
    assert "same_joint" in said[0]["pairs"] and "same_video" not in said[0]["pairs"]
    assert len(said[0]["missing"]) == 1 and GONE in said[0]["missing"][0] and "newest 2 rounds" in said[0]["missing"][0], said[0]["missing"]
    assert said[1]["missing"] == said[2]["missing"] == [] and "same_both" in said[1]["pairs"]
    text = runs.place.xdc("compare", short, xdc).stdout
    assert text.count("missing of A: no features") == 1 and "missing of B" not in text, text
    shutil.rmtree(os.path.join(xdc, "features", "round-0001"))
    said = runs.compare(xdc, cdc, "--recluster")["runs"][0]["rounds"]
    assert said[1]["pairs"] is None and "no features" in said[1]["missing"][0] and said[0]["pairs"] and said[2]["pairs"]
    table = os.path.join(xdc, "labels", "round-0001.xdcl")
    os.truncate(table, os.path.getsize(table) - 1)
    said = runs.compare(xdc, cdc)["runs"][0]["rounds"]
    assert said[1]["pairs"] is None and len(said[1]["missing"]) == 1 and table in said[1]["missing"][0], said[1]["missing"]
    assert said[1]["quality"]["sources"] and said[2]["pairs"]
    os.remove(table)
    said = runs.compare(xdc, cdc)["runs"][0]["rounds"][1]
    assert said["pairs"] is None and "no label table" in said["missing"][0], said


def check_other_manifests(runs, cdc):
    """Without labels, and of other clips."""
    place = runs.place
    place.xdc("index", place.path("clips"), "--out", place.path("plain.lmdb"))
    plain = runs.run("plain", place.path("plain.lmdb"), train__rounds=1, run__seed=5)
    os.mkdir(place.path("few"))
    for name in sorted(os.listdir(place.path("clips", "videos")))[:20]:
        shutil.copy(place.path("clips", "videos", name), place.path("few"))
    place.xdc("index", place.path("few"), "--out", place.path("few.lmdb"))
    few = runs.run("few-run", place.path("few.lmdb"), train__rounds=1, cluster__k=3)
    said = runs.compare(plain, few, cdc)
    assert not said["same_manifest"] and said["settings"]["cluster.k"] == ["4", "3", "4"]
    for r in said["runs"][0]["rounds"]:
        assert r["pairs"] is None and len(r["missing"]) == 1 and "has a class" in r["missing"][0], r["missing"]
        assert r["quality"]["sources"]["video"]["k"] == 4
    agreement = {tuple(a["runs"]): a for a in said["agreement"]}
    assert "different manifests" in agreement[0, 1]["why_not"] and "different manifests" in agreement[1, 2]["why_not"]
    assert len(agreement[0, 2]["sources"]) == 2 and agreement[0, 2]["other_moments"] == ["run.seed"]  # labels are no part of the identity
    os.rename(place.path("plain.lmdb"), place.path("away.lmdb"))
    said = runs.compare(plain, cdc)["runs"][0]["rounds"][0]
    assert said["pairs"] is None and "plain.lmdb" in said["missing"][0], said["missing"]


def check_methods_of_heads(runs, cdc):
    selavi = runs.run("selavi", method="selavi", selavi__heads=3, train__rounds=1)
    supervised = runs.run("supervised", method="supervised", train__rounds=1, train__epochs=1)
    said = runs.compare(selavi, supervised, cdc)["runs"]
    pairs = said[0]["rounds"][1]["pairs"]
    check_pairs(pairs, ["joint-h0"], runs.labels(selavi, 1)[:, :1], runs.classes)
    assert "one label for both modalities" in said[0]["rounds"][1]["missing"][0]
    for r in said[1]["rounds"]:
        assert r["pairs"] is None and r["missing"] == ["no clusters: the run's labels are the manifest's classes"], r
    again = runs.compare(selavi, cdc, "--recluster")["runs"][0]["rounds"][1]
    assert again["missing"] == [] and again["pairs"]["same_joint-h0"] == pairs["same_joint-h0"]
    assert {"same_video-g0", "same_audio-g0", "same_both", "same_either"} < set(again["pairs"])
    same = runs.run("same", method="same-modality", same__modality="audio", train__rounds=1)
    table, made = [runs.compare(same, cdc, *more)["runs"][0]["rounds"][1]["pairs"] for more in ([], ["--recluster"])]
    check_pairs(table, ["audio-a", "audio-b"], runs.labels(same, 1), runs.classes)
    assert made.pop("labels") != table.pop("labels") and made == table
    text = runs.place.xdc("compare", selavi, supervised, cdc, "--recluster").stdout
    assert text.count("\nround ") == 3 and "P(same class | same joint-h0)" in text, text


def check_live(runs, cdc):
    """A run that goes on, and that was stopped."""
    place = runs.place
    live = place.path("live")
    config = write_config(place, runs.manifest, live, "live.yaml")
    p = place.start("xdc", "run", "-c", config, *sets({"train.epochs": 10000}))
    place.training(p, 1)
    said = runs.compare(live, cdc)["runs"][0]
    assert not said["finished"] and said["rounds"][0]["epoch"]["epoch"] >= 0 and said["rounds"][0]["pairs"]["same_both"]
    place.stop(p)
    said = runs.compare(live, cdc)["runs"][0]["rounds"][0]
    assert said["phases"]["train"]["ended"] is False and said["phases"]["train"]["seconds"] > 0, said["phases"]


def check_refusals(runs, cdc):
    place = runs.place
    assert "is no run directory" in place.xdc("compare", cdc, place.path("clips"), expect=66).stderr
    place.xdc("compare", cdc, place.path("nowhere"), expect=66)
    place.xdc("compare", cdc, expect=64)
    place.xdc("compare", cdc, cdc, "--round", "x", expect=64)
    broken = place.path("broken")
    os.mkdir(broken)
    open(os.path.join(broken, "run.json"), "w").write('{"run": "00')
    assert "is not JSON" in place.xdc("compare", cdc, broken, expect=65).stderr


def main():
    place = Place(sys.argv[1])
    runs = Runs(place)
    xdc = runs.run("xdc", method="xdc", **{"features__keep_rounds": 0})
    cdc = runs.run("cdc", method="cdc", **{"features__keep_rounds": 0})
    check_methods(runs, xdc, cdc)
    check_several_clips(runs, xdc)
    check_other_manifests(runs, cdc)
    check_methods_of_heads(runs, cdc)
    check_live(runs, cdc)
    check_refusals(runs, cdc)
    check_gone(runs, xdc, cdc)
    assert not place.processes(), place.processes()
    place.close()


main()
