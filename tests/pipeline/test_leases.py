#!/usr/bin/env python3
"""Leases in real runs: clips of one video go out together and change nothing, and a decoder whose workers hang is hedged by
another one long before its wall time. usage: test_leases.py BIN_DIR"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (Place, check_ledger, descendants, make_manifest, outcome_differs, write_config)  # noqa: E402


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
        hedge(place, manifest)
    finally:
        place.close()
    print("ok")


if __name__ == "__main__":
    main()
