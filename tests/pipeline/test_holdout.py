#!/usr/bin/env python3
"""The hold-out: no clip of it is ever trained, all have labels, and every position is accounted for; encoders stop by it and are left
as they were, together and one alone; a run that is stopped while it learns and while it validates ends as an undisturbed one, bit for
bit, over two ranks too. What cannot stop anything is refused. The averages and the probe are in the record and change nothing.
usage: test_holdout.py BIN_DIR"""
import csv
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (XDC_LONG, Place, last_checkpoint, last_state, log_of, make_manifest, outcome_differs,  # noqa: E402
                     read_ledger, same_file, sets, tensors_of, write_config)

TRAINED, HELD_OUT = 1, 4
VIDEOS, SHARE = 40 if XDC_LONG else 24, 0.2
HOLD = {"train.holdout": SHARE, "train.holdout_min_clips": VIDEOS, "data.clips_per_video": 2}
# No loss falls by 50 nats: both encoders stop after the second epoch of each round, the earliest there is.
STOP = {**HOLD, "train.early_stop": 50, "train.early_stop_epochs": 1, "train.epochs": 9, "train.ema": 0.9, "train.probe": VIDEOS}


def events(run, kind):
    found = {}
    for e in map(json.loads, open(os.path.join(run, "events.jsonl"))):
        if e["event"] == kind:  # of a run that went on the last one counts
            found[e.get("round"), e.get("epoch"), e.get("encoder")] = e
    return list(found.values())


def labels_of(place, run):
    out = place.path("labels.csv")
    place.xdc("labels", run, "--round", "last", "--format", "csv", "--out", out)
    with open(out, newline="") as f:
        return {int(row["clip"]): row for row in csv.DictReader(f)}


def check_positions(run, epochs, streams=1):
    """Trained and held out make up all that is drawn; the videos held out are the same ones throughout and are never trained. Returns
    the clips held out."""
    ledger = read_ledger(run)
    assert sorted(ledger) == list(range(epochs)), sorted(ledger)
    held, trained = set(), set()
    for records in ledger.values():
        assert sorted(r[1] for r in records) == sorted(list(range(len(records) // streams)) * streams)
        assert {r[6] for r in records} == {TRAINED, HELD_OUT}, {r[6] for r in records}
        for r in records:
            (held if r[6] == HELD_OUT else trained).add(r[2] // 2)
            assert (r[4] != 0) == (r[6] == TRAINED), r
    assert not held & trained, held & trained
    return {2 * v + j for v in held for j in range(2)}


def encoder_tensors(run, encoder):
    return tensors_of(os.path.join(run, "export", encoder + ".safetensors"))


def learnt(place, run, encoder):
    """Encoder and head."""
    out = place.path("learnt.safetensors")
    place.xdc("export", run, "--encoder", encoder, "--head", "fc", "--out", out)
    return tensors_of(out)


def both_stop(place, manifest, train_clips):
    """Each round ends after two epochs of nine."""
    run = place.path("both")
    config = write_config(place, manifest, run, "both.yaml")
    place.xdc("run", "-c", config, *sets(STOP))
    held = check_positions(run, 4)
    assert 0 < len(held) < len(train_clips) / 2, (held, len(train_clips))
    assert all(r[2] in train_clips for records in read_ledger(run).values() for r in records)
    labels = labels_of(place, run)
    assert all(labels[c][source] != "" for c in held for source in ("video", "audio")), held
    stops = events(run, "early_stop")
    assert [(e["round"], e["epoch"], e["encoder"]) for e in stops] == \
        [(r, 1, enc) for r in range(2) for enc in ("video", "audio")], stops
    assert all(e["before"] - e["best"] < 50 for e in stops)
    for e in events(run, "epoch"):
        for enc in ("video", "audio"):
            assert 0 < e["holdout"]["loss"][enc] < 20 and 0 <= e["holdout"]["accuracy"][enc] <= 1, e
    for e in events(run, "labels"):
        for source in e["quality"]["sources"].values():
            assert source["held_out"] == int(VIDEOS * SHARE) * 2 - outside(held, labels), (source, held)
    assert f"{len(held)} of {len(train_clips)} clips are held out" in log_of(run, "trainer-0")
    assert not any(s["stopped"] for s in last_state(run)["early_stop"]), "the next round begins anew"
    probes = events(run, "probe")
    assert [e["round"] for e in probes] == [0, 1, 2] and all(e["clips"] == VIDEOS for e in probes), probes
    assert all(0 <= e["accuracy"][enc] <= 1 for e in probes for enc in ("video", "audio"))
    return run, config


def outside(held, labels):
    """Videos of the hold-out are drawn of the whole manifest: those of the test split have no features."""
    return int(VIDEOS * SHARE) * 2 - len(held)


def interrupted(place, manifest, calm, name, phases, options, epochs):
    """Stopped in these phases of epochs; it goes on to the same end."""
    run_dir = place.path(name)
    config = write_config(place, manifest, run_dir, name + ".yaml")
    for phase in phases:
        run = place.start("xdc", "run", "-c", config, *sets(options))

        def there():
            s = place.status("trainer-0")
            return s and s["phase"] == phase and (phase == "validate" or s["done"] > 0)
        place.wait(phase, there, 120)
        status, said = place.stop(run)
        assert status == 75, f"{status}\n{said}"
        state = last_state(run_dir)
        print(f"{name}: stopped in {phase} ({state['phase']} epoch {state['epoch']} batch {state['batch']})", flush=True)
    place.xdc("run", "-c", config, *sets(options))
    check_positions(run_dir, epochs)
    differs = outcome_differs(calm, run_dir)
    assert not differs, f"{name}: not equal to the undisturbed run: {differs}"
    for encoder in ("video", "audio", "video-ema", "audio-ema"):
        assert same_file(*(os.path.join(r, "export", encoder + ".safetensors") for r in (calm, run_dir))), encoder


def two_ranks(place, manifest):
    """Both ranks hold out the same clips, add up their losses and stop as one, also when they are stopped in a validation."""
    options = {**STOP, "run.ranks": 2, "train.rounds": 1}
    calm = place.path("ranks")
    place.xdc("run", "-c", write_config(place, manifest, calm, "ranks.yaml"), *sets(options))
    check_positions(calm, 2)
    assert [(e["epoch"], e["encoder"]) for e in events(calm, "early_stop")] == [(1, "video"), (1, "audio")]
    interrupted(place, manifest, calm, "ranks-stopped", ["validate"], options, 2)


def switches_change_nothing(place, manifest, calm):
    """The probe decides nothing, and the averages neither: the encoders are the same without both."""
    run = place.path("plain")
    place.xdc("run", "-c", write_config(place, manifest, run, "plain.yaml"), *sets({**STOP, "train.ema": 0, "train.probe": 0}))
    for encoder in ("video", "audio"):
        assert encoder_tensors(calm, encoder) == encoder_tensors(run, encoder), encoder
        assert encoder_tensors(calm, encoder) != encoder_tensors(calm, encoder + "-ema"), encoder
    assert not events(run, "probe") and not os.path.exists(os.path.join(run, "export", "video-ema.safetensors"))
    with_average, without = (os.path.getsize(os.path.join(last_checkpoint(r), "weights.safetensors")) for r in (calm, run))
    assert with_average > without
    out = place.path("average.safetensors")
    place.xdc("export", calm, "--encoder", "video", "--ema", "--out", out)
    assert same_file(out, os.path.join(calm, "export", "video-ema.safetensors"))
    said = place.xdc("export", run, "--encoder", "video", "--ema", "--out", out, expect=65).stderr
    assert "no average" in said, said


def one_stops(place, manifest):
    """By a share between what the two gain one encoder stops, is trained no more in the round and left as it is, while the other goes
    on as it would have; with one stream and with two (where heads on frozen encoders learn, which is sure to gain)."""
    for balance, streams, options in (("off", 1, {"train.lr": 0.003}),
                                      ("resample", 2, {"method": "sdc", "train.update": "fc", "train.lr": 0.1})):
        slow_start = {**HOLD, **options, "train.rounds": 1, "train.epochs": 2, "train.balance": balance}
        free, run = place.path("free-" + balance), place.path("one-" + balance)
        place.xdc("run", "-c", write_config(place, manifest, free, "free.yaml"), *sets(slow_start))
        loss = {e["epoch"]: e["holdout"]["loss"] for e in events(free, "epoch")}
        gain = {enc: loss[0][enc] - min(loss[1][enc], loss[0][enc]) for enc in ("video", "audio")}
        stopped, other = sorted(gain, key=gain.get)
        least = (gain["video"] + gain["audio"]) / 2
        assert gain[stopped] < least < gain[other], gain
        place.xdc("run", "-c", write_config(place, manifest, run, "one.yaml"),
                  *sets({**slow_start, "train.early_stop": least, "train.early_stop_epochs": 1, "train.epochs": 3}))
        stops = {e["encoder"]: e["epoch"] for e in events(run, "early_stop")}
        assert stops[stopped] == 1 and stops.get(other) != 1, (stops, gain)
        assert {e["epoch"]: e["holdout"]["loss"] for e in events(run, "epoch") if e["epoch"] < 2} == loss
        third = [e for e in events(run, "epoch") if e["epoch"] == 2]
        assert len(third) == 1 and third[0]["loss"][stopped] is None and third[0]["holdout"]["loss"][stopped] is None, third
        assert third[0]["loss"][other] > 0 and third[0]["holdout"]["loss"][other] > 0, third
        assert learnt(place, run, stopped) == learnt(place, free, stopped), f"the {stopped} encoder was trained on"
        assert learnt(place, run, other) != learnt(place, free, other)
        ledger = read_ledger(run)
        assert len(ledger[2]) == len(ledger[0]) // streams, {e: len(r) for e, r in ledger.items()}
        assert {r[5] for r in ledger[2]} == ({("video", "audio").index(other)} if streams == 2 else {0})
        print(f"{balance}: the {stopped} encoder stops alone", flush=True)


def refusals(place, manifest):
    """Nothing to stop by: said before anything is made."""
    run = place.path("never")
    config = write_config(place, manifest, run, "never.yaml")
    for options, status, words in (({"train.early_stop": 0.05}, 78, "none of the"),
                                   ({"train.early_stop": 0.05, "train.holdout": 0}, 78, "train.holdout is 0")):
        said = place.xdc("run", "-c", config, *sets(options), expect=status).stderr
        assert words in said, said


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=VIDEOS, flaws=False)
    with open(place.path("clips", "labels.csv"), newline="") as f:
        split = {row["path"]: row["split"] for row in csv.DictReader(f)}
    train_clips = {2 * i + j for i, path in enumerate(sorted(split)) if split[path] == "train" for j in range(2)}
    refusals(place, manifest)
    calm, _ = both_stop(place, manifest, train_clips)
    print("both encoders stop", flush=True)
    interrupted(place, manifest, calm, "in-both", ["train", "validate"], STOP, 4)
    for phase in ("train", "validate") if XDC_LONG else ():
        interrupted(place, manifest, calm, "in-" + phase, [phase], STOP, 4)
    switches_change_nothing(place, manifest, calm)
    print("averages and probe change nothing", flush=True)
    one_stops(place, manifest)
    two_ranks(place, manifest)
    print("two ranks stop as one", flush=True)
    assert not place.processes(), place.processes()
    place.close()


main()
