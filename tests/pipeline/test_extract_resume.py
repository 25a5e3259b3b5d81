#!/usr/bin/env python3
"""An interrupted extraction goes on: with the trainer killed in the middle of a round's extraction, whether all of its clips are decoded
or most were harvested, the blocks that were written stay, the rest alone is decoded, and dumps, tables, quarantine, record and checkpoint
end as an undisturbed run's. The same after SIGTERM, and where a block that was written is altered meanwhile: that one is made anew.
usage: test_extract_resume.py BIN_DIR"""
import glob
import json
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, log_of, make_manifest, outcome_differs, same_file, sets, write_config  # noqa: E402

BLOCK = 1024
VIDEOS, PER_VIDEO = 28, 46
RUN = {"data.clips_per_video": PER_VIDEO, "train.epoch_clips": 300, "train.rounds": 1, "train.epochs": 1, "train.harvest": "true",
       "features.dtype": "bf16", "features.keep_rounds": 0}


def events(run, kind, round_):
    lines = [json.loads(line) for line in open(os.path.join(run, "events.jsonl"))]
    return [e for e in lines if e["event"] == kind and e["round"] == round_]


def extraction(run, round_):
    return events(run, "extract", round_)[-1]


def decoded(run, round_):
    """Clips that the last process to extract has decoded for it."""
    return [e for e in events(run, "phase", round_) if e["name"] == "extract"][-1]["clips"]


def blocks_kept(run, round_):
    """Blocks that an unsealed dump has written, by its own list (docs/formats.md)."""
    try:
        data = open(os.path.join(run, "features", f"round-{round_:04d}", "rank-0.tmp", "progress"), "rb").read()
    except FileNotFoundError:
        return 0
    at, blocks = 1896, 0
    while at + 4 <= len(data):
        block = int.from_bytes(data[at:at + 4], "little") == 1
        at += 160 if block else 24
        blocks += block and at <= len(data)
    return blocks


def until_kept(place, run, run_dir, round_):
    """Waits until both encoders' first block of a round is written, while the second is filled; the trainer's process."""
    def there():
        assert run.poll() is None, "the run ended too early: " + run.stdout.read()
        s = place.status("trainer-0")
        extracts = s and (s["round"], s["phase"]) == (round_, "extract")
        return s["pid"] if extracts and blocks_kept(run_dir, round_) >= 2 else None
    return place.wait(f"blocks of round {round_}, within its extraction", there, 120)


def check_round(calm, run, what, round_):
    a, b = extraction(calm, round_), extraction(run, round_)
    assert (a["clips"], a["harvested"]) == (b["clips"], b["harvested"]), (what, round_, a, b)
    name = os.path.join("labels", f"round-{round_:04d}.xdcl")
    assert same_file(os.path.join(calm, name), os.path.join(run, name)), f"{what}: table {round_}, which has the dump's hash"
    for name in glob.glob(os.path.join(calm, "features", f"round-{round_:04d}", "quarantine-*.json")):
        assert same_file(name, name.replace(calm, run)), f"{what}: quarantine {round_}"
    assert not glob.glob(os.path.join(run, "features", f"round-{round_:04d}", "*.tmp")), what


def killed(place, config, run_dir, calm):
    """In both extractions; the supervisor starts the trainer again."""
    run = place.start("xdc", "run", "-c", config, *sets(RUN))
    for round_ in (0, 1):
        os.kill(until_kept(place, run, run_dir, round_), signal.SIGKILL)
        place.wait("another trainer", lambda r=round_: extraction_began_again(run_dir, r), 60)
    assert run.wait(timeout=300) == 0, run.stdout.read()
    differs = outcome_differs(calm, run_dir)
    assert not differs, f"not equal to the undisturbed run: {differs}"
    for round_ in (0, 1):
        check_round(calm, run_dir, "killed", round_)
        e, all_ = extraction(run_dir, round_), decoded(calm, round_)
        print(f"round {round_}: {e['resumed']} clips were there, {decoded(run_dir, round_)} of {all_} decoded again", flush=True)
        assert 500 < e["resumed"] <= BLOCK and decoded(run_dir, round_) <= all_ - e["resumed"] + 8, (round_, e, all_)
    assert extraction(run_dir, 1)["harvested"] > 200


def extraction_began_again(run_dir, round_):
    return re.search(rf"round {round_}: goes on with an unsealed dump: \d+ features of clips are there", log_of(run_dir, "trainer-0"))


def stopped(place, config, run_dir, calm):
    """SIGTERM to all; meanwhile a byte of a block flips, whose rows are made anew."""
    for altered in (False, True):
        run = place.start("xdc", "run", "-c", config, *sets(RUN))
        until_kept(place, run, run_dir, 0)
        status, said = place.stop(run)
        assert status == 75, (status, said)
        data, = glob.glob(os.path.join(run_dir, "features", "round-0000", "rank-0.tmp", "data.mdb"))
        if altered:
            with open(data, "r+b") as f:
                f.seek(20000)
                byte = f.read(1)[0]
                f.seek(20000)
                f.write(bytes([byte ^ 1]))
    run = place.start("xdc", "run", "-c", config, *sets(RUN))
    place.training(run, seconds=300)
    place.stop(run)
    check_round(calm, run_dir, "stopped", 0)
    found = [int(n) for n in re.findall(r"round 0: goes on with an unsealed dump: (\d+) features of clips", log_of(run_dir, "trainer-0"))]
    assert len(found) == 1, "the altered block was taken, or the good one was not"
    assert extraction(run_dir, 0)["resumed"] == 0


def main():
    place = Place(sys.argv[1])
    manifest, calm = make_manifest(place), place.path("calm")
    place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"), *sets(RUN))
    assert extraction(calm, 0)["clips"] > 1000 and extraction(calm, 0)["resumed"] == 0, extraction(calm, 0)
    for part in (killed, stopped):
        run_dir = place.path(part.__name__)
        part(place, write_config(place, manifest, run_dir, part.__name__ + ".yaml"), run_dir, calm)
        print(part.__name__, "is good", flush=True)
    assert not place.processes(), place.processes()
    place.close()


main()
