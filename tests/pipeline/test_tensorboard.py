#!/usr/bin/env python3
"""The record of a run: TensorBoard files read by a parser of their own (and by TensorBoard's, where it is installed) hold the numbers
of events.jsonl; a run that is stopped and goes on, also from an older checkpoint, has every epoch once. usage: test_tensorboard.py BIN_DIR"""
import glob
import json
import os
import shutil
import signal
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, check_ledger, last_state, make_manifest, outcome_differs, write_config  # noqa: E402

EPOCHS = 8
LONG = ("--set", f"train.epochs={EPOCHS}")
ROUND = ["extract", "labels", "train"]
PHASES = ["stats", "warm", *ROUND, *ROUND, "extract", "labels", "export"]
TAGS = {f"{kind}/{encoder}" for kind in ("loss", "accuracy") for encoder in ("video", "audio")} | \
    {f"seconds/{name}" for name in (*PHASES, "epoch", "checkpoint", "checkpoint_stall")} | \
    {f"clips_per_s/{name}" for name in ("stats", "warm", "extract", "train", "epoch")} | \
    {f"quality/{source}/{figure}" for source in ("video", "audio") for figure in ("ami_truth", "ami_other", "entropy", "sizes/min")} | \
    {"lr", "clips/quarantined"}


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF  # as TFRecord masks it


def varint(data, at):
    value = shift = 0
    while True:
        value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def message(data):
    """A protobuf message as {field: value}; a nested one is its bytes."""
    fields, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            fields[key >> 3], at = varint(data, at)
        else:
            size, at = {1: (8, at), 5: (4, at)}.get(key & 7) or varint(data, at)
            fields[key >> 3], at = data[at:at + size], at + size
    return fields


def read_file(path):
    """[(step, time, what)], what being a version, "start" or (tag, value)."""
    data, at, events = open(path, "rb").read(), 0, []
    while at < len(data):
        size, crc = struct.unpack_from("<QI", data, at)
        body = data[at + 12:at + 12 + size]
        assert crc == crc32c(data[at:at + 8]) and struct.unpack_from("<I", data, at + 12 + size)[0] == crc32c(body), path
        event = message(body)
        if 3 in event:
            what = event[3].decode()
        elif 7 in event:
            what = "start" if message(event[7])[1] == 1 else "log"
        else:
            value = message(message(event[5])[1])
            what = value[1].decode(), struct.unpack("<f", value[2])[0]
        events.append((event[2], struct.unpack("<d", event[1])[0], what))
        at += 16 + size
    return events


def read_run(run):
    """{tag: [(step, value)]} of all files of a run, and how many scalars a later file has made void."""
    alive, void = [], 0
    for path in sorted(glob.glob(os.path.join(run, "tensorboard", "*"))):
        assert os.path.basename(path).startswith("events.out.tfevents."), path
        events = read_file(path)
        assert [e[2] for e in events[:2]] == ["brain.Event:2", "start"], events[:2]
        first = events[1][0]
        void += sum(step >= first for step, _, _ in alive)
        alive = [e for e in alive if e[0] < first]
        for a, b in zip(events[2:], events[3:]):
            assert a[0] <= b[0] and a[1] <= b[1], f"{path}: step or time goes back: {a}, {b}"
        assert all(step >= first or first == 1 + step for step, _, _ in events[2:]), path
        alive += events[2:]
    tags = {}
    for step, _, (tag, value) in alive:
        tags.setdefault(tag, []).append((step, value))
    return tags, void


def files(run):
    return len(os.listdir(os.path.join(run, "tensorboard")))


def read_events(run, kind):
    events = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    assert all(a["step"] >= 0 and a["time"] <= b["time"] for a, b in zip(events, events[1:]))
    return [e for e in events if e["event"] == kind]


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def check_epochs(run, tags):
    """Every epoch once, in order, with the numbers of its last line in events.jsonl."""
    last = {(e["round"], e["epoch"]): e for e in read_events(run, "epoch")}
    assert sorted(last) == [(r, e) for r in range(2) for e in range(EPOCHS)], sorted(last)
    lines = [last[k] for k in sorted(last)]
    steps = [e["step"] for e in lines]
    assert all(a < b for a, b in zip(steps, steps[1:])), steps
    for kind in ("loss", "accuracy"):
        for encoder in ("video", "audio"):
            assert tags[f"{kind}/{encoder}"] == [(e["step"], f32(e[kind][encoder])) for e in lines], f"{kind}/{encoder}"
    for tag, field in (("lr", "lr"), ("clips/quarantined", "quarantined"), ("clips_per_s/epoch", "clips_per_s")):
        assert tags[tag] == [(e["step"], f32(e[field])) for e in lines], tag


def check_tensorboard(run, tags):
    """TensorBoard's own reader finds the same, with the same made void."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        print("TensorBoard is not installed: its reader is left out", flush=True)
        return
    reader = EventAccumulator(os.path.join(run, "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    theirs = {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
    assert theirs == tags, {t for t in tags if tags[t] != theirs.get(t)}
    print("TensorBoard reads the same", flush=True)


def check_phases(run):
    """Of an undisturbed run: every phase is recorded when it ends, and together they are the run's time."""
    phases, lines = read_events(run, "phase"), [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    assert [p["name"] for p in phases] == PHASES and all(p["ended"] for p in phases), phases
    assert [p["round"] for p in phases] == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2], phases
    assert lines[-1]["event"] == "finished" and lines[-2]["event"] == "phase"
    together = sum(p["seconds"] for p in phases)
    assert 0 < together - (lines[-1]["time"] - lines[0]["time"]) < 60, together
    drawn = {e["round"]: e["clips"] for e in read_events(run, "extract")}
    for p in phases:
        assert (p["clips"] > 0) == (p["name"] not in ("labels", "export")) == ("clips_per_s" in p), p
        assert not p["clips"] or abs(p["clips_per_s"] * p["seconds"] / p["clips"] - 1) < 1e-6, p
        assert p["name"] != "extract" or p["clips"] == drawn[p["round"]], p
        assert p["name"] != "train" or 0 < p["clips"] <= EPOCHS * drawn[0], p


def stop_in_training(place, config):
    run = place.start("xdc", "run", "-c", config, *LONG)
    place.training(run, epoch=2)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 75, out


def finish(place, config, run, calm, calm_tags):
    place.xdc("run", "-c", config, *LONG)
    check_ledger(run, 2 * EPOCHS, 1)
    assert not outcome_differs(calm, run)
    tags, void = read_run(run)
    check_epochs(run, tags)
    check_tensorboard(run, tags)
    assert set(tags) == set(calm_tags)
    for tag in tags:
        kind = tag.split("/")[0]
        if kind == "quality":  # labels adopted a second time stand there twice, at one step
            tags[tag] = sorted(set(tags[tag]))
        if kind in ("loss", "accuracy", "lr", "quality"):
            assert tags[tag] == calm_tags[tag], f"{tag} is not that of the undisturbed run"
    return void


def goes_on(place, manifest, calm, calm_tags):
    run = place.path("stopped")
    config = write_config(place, manifest, run, "stopped.yaml")
    stop_in_training(place, config)
    stops = [p for p in read_events(run, "phase") if not p["ended"]]
    assert [p["name"] for p in stops] == ["train"] and stops[0]["clips"] > 0, stops
    assert files(run) == 1
    void = finish(place, config, run, calm, calm_tags)
    assert void == 0 and files(run) == 2, "nothing is trained twice, but something is made void"


def goes_back(place, manifest, calm, calm_tags):
    """The newer checkpoints are lost: their epochs are trained again, and the first training of them is void."""
    run = place.path("back")
    config = write_config(place, manifest, run, "back.yaml")
    stop_in_training(place, config)
    stopped_at, points = last_state(run)["step"], sorted(glob.glob(os.path.join(run, "checkpoints", "step-*")))
    for point in points[1:]:
        shutil.rmtree(point)
    assert last_state(run)["step"] < stopped_at, points
    lines = len(read_events(run, "epoch"))
    void = finish(place, config, run, calm, calm_tags)
    assert void > 0 and files(run) == 2, void
    again = len(read_events(run, "epoch")) - 2 * EPOCHS
    assert 0 < again <= lines, "no epoch was trained twice: nothing is tried here"
    print(f"{again} epochs trained again, {void} scalars void", flush=True)


def main():
    place = Place(sys.argv[1])
    manifest, calm = make_manifest(place), place.path("calm")
    place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"), *LONG)
    tags, void = read_run(calm)
    assert TAGS <= set(tags) and void == 0 and files(calm) == 1, TAGS - set(tags)
    check_epochs(calm, tags)
    check_phases(calm)
    check_tensorboard(calm, tags)
    for part in (goes_on, goes_back):
        part(place, manifest, calm, tags)
        print(part.__name__, "is good", flush=True)
    without = place.path("without")
    place.xdc("run", "-c", write_config(place, manifest, without, "without.yaml"), "--set", "train.tensorboard=false", "--set",
              "train.rounds=1", "--set", "train.epochs=1")
    assert not os.path.exists(os.path.join(without, "tensorboard")) and len(read_events(without, "epoch")) == 1
    place.close()


main()
