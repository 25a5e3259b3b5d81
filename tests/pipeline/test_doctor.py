#!/usr/bin/env python3
"""What the doctor finds before a run is left out of it: the clips of faulty videos are quarantined in every epoch and never leased; a
run that goes on keeps the set that it began with; a quarantine of another manifest is refused. usage: test_doctor.py BIN_DIR"""
import json
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, check_ledger, last_state, log_of, make_manifest, read_ledger, write_config  # noqa: E402

TRAINED, QUARANTINED = 1, 2
EPOCHS = 6


def check_run(place, run_dir, faulty, met):
    """Every clip of a faulty video is quarantined in every epoch; the run itself quarantined what it met, and no more."""
    counts = check_ledger(run_dir, EPOCHS, 1)
    assert counts[QUARANTINED] == EPOCHS * len(faulty), (counts, faulty)
    for records in read_ledger(run_dir).values():
        for r in records:
            assert (r[6] == QUARANTINED) == (r[2] in faulty), r
    assert [c for c, _ in last_state(run_dir)["quarantine"]] == met, last_state(run_dir)["quarantine"]


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place)
    summary = json.loads(place.xdc("doctor", manifest, "--json", expect=65).stdout)
    report = [json.loads(line) for line in open(manifest + ".doctor.jsonl")]
    faults = {e["index"]: e["fault"] for e in report if e["fault"]}
    assert sorted(faults.values()) == ["audio_silent", "moov_missing", "no_audio", "too_short"], faults
    assert summary["faulty"] == 4 and summary["videos"] == len(report), summary

    run_dir = place.path("run")
    args = ("-c", write_config(place, manifest, run_dir), "--set", f"train.epochs={EPOCHS}", "--set", "train.rounds=1")
    run = place.start("xdc", "run", *args)
    place.training(run, epoch=1)
    assert place.status("trainer-0")["faulty_videos"] == 4, place.status("trainer-0")
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 75, out
    quarantine = open(manifest + ".quarantine", "rb").read()
    os.unlink(manifest + ".quarantine")  # what the doctor says meanwhile is of no account
    place.xdc("run", *args)
    check_run(place, run_dir, faults, [])
    assert re.search(r"\b4 of \d+ videos are left out", log_of(run_dir, "trainer-0")), log_of(run_dir, "trainer-0")

    keep_dir = place.path("keep")  # silence will do: those two clips are trained
    with open(manifest + ".quarantine", "wb") as f:
        f.write(quarantine)
    place.xdc("run", "-c", write_config(place, manifest, keep_dir, "keep.yaml"), "--set", f"train.epochs={EPOCHS}", "--set",
              "train.rounds=1", "--set", "data.no_audio=keep")
    check_run(place, keep_dir, {i for i, f in faults.items() if f not in ("audio_silent", "no_audio")}, [])

    other = place.path("other.lmdb")
    place.xdc("index", place.path("clips", "videos"), "--out", other)
    place.xdc("doctor", other, "--exit-zero")
    os.replace(other + ".quarantine", manifest + ".quarantine")
    said = place.xdc("run", "-c", write_config(place, manifest, place.path("foreign"), "foreign.yaml"), expect=65).stderr
    assert "of another manifest" in said and "run xdc doctor" in said, said
    assert not place.processes(), place.processes()
    place.close()


main()
