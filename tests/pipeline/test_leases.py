#!/usr/bin/env python3
"""Leases in real runs: clips of one video go out together and change nothing, nor does it what decoders keep, and a decoder whose
workers hang is hedged by another one long before its wall time. usage: test_leases.py BIN_DIR"""
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (Place, check_ledger, descendants, make_manifest, outcome_differs, sets, write_config)  # noqa: E402


def groups(place, manifest):
    """Four clips a video: one decoder with one worker and two decoders with three end with the same bytes."""
    runs = []
    for name, more in (("one", ["run.decoders=1", "decoder.workers=1"]), ("two", ["run.decoders=2", "decoder.workers=3"])):
        run_dir = place.path("groups-" + name)
        config = write_config(place, manifest, run_dir, f"groups-{name}.yaml")
        sets = [x for s in more + ["data.clips_per_video=4", "train.rounds=1", "train.epochs=1"] for x in ("--set", s)]
        place.xdc("run", "-c", config, *sets)
        check_ledger(run_dir, 1, 1)
        runs.append(run_dir)
    differs = outcome_differs(*runs)
    assert not differs, f"one and two decoders differ: {differs}"


def kept(place, manifest):
    """Room for all clips, for a few, for none, and two decoders that each keep what they happen to get end with the same bytes."""
    runs, cut = [], []
    for name, mib, decoders in (("all", 256, 1), ("few", 2, 1), ("two", 256, 2), ("none", 0, 1)):
        run_dir = place.path("kept-" + name)
        config = write_config(place, manifest, run_dir, f"kept-{name}.yaml")
        more = {"decoder.cache_mib": mib, "run.decoders": decoders, "train.rounds": 1, "train.epochs": 4, "data.clips_per_video": 2,
                "augment.audio_shift_s": 0.1}
        place.xdc("run", "-c", config, *sets(more))
        positions = sum(check_ledger(run_dir, 4, 1).values())
        runs.append(run_dir)
        logs = [open(os.path.join(run_dir, "logs", f"decoder-{i}.log")).read() for i in range(decoders)]
        cut.append(sum(int(re.search(r"(\d+) of them cut from kept ones", log).group(1)) for log in logs))
    print(f"of 4 epochs with {positions} positions, cut from kept clips: {cut}", flush=True)
    for other in runs[1:]:
        differs = outcome_differs(runs[0], other)
        assert not differs, f"{other}: not the same as where all is kept: {differs}"
    assert cut[0] >= positions * 3 // 4 and 0 < cut[1] < cut[0] and 0 < cut[2] < cut[0] and cut[3] == 0, cut


def hedge(place, manifest):
    run_dir = place.path("hedge")
    config = write_config(place, manifest, run_dir, "hedge.yaml")
    run = place.start("xdc", "run", "-c", config, "--set", "run.decoders=2", "--set", "train.rounds=1", "--set", "train.epochs=16")
    place.training(run, epoch=2)
    before = place.status("trainer-0")
    decoder = place.status("decoder-1")["pid"]
    workers = descendants(decoder)
    assert workers, "the decoder has media workers"
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # heartbeats go on: only the clips do not come
    start = time.monotonic()
    run.communicate(timeout=120)
    seconds = time.monotonic() - start
    assert run.returncode == 0, run.returncode
    check_ledger(run_dir, 16, 1)
    print(f"finished {seconds:.1f} s after the workers were stopped; hedged before: {before['leases']['hedged']}", flush=True)
    assert seconds < 55, f"{seconds:.0f} s: the leases waited for the wall time"


def main():
    place = Place(sys.argv[1])
    try:
        manifest = make_manifest(place)
        groups(place, manifest)
        kept(place, manifest)
        hedge(place, manifest)
    finally:
        place.close()
    print("ok")


if __name__ == "__main__":
    main()
