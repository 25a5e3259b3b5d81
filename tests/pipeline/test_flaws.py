#!/usr/bin/env python3
"""One bad file costs one clip: a manifest with silent, short, truncated, soundless, missing, altered and garbled files is trained to
the end. Each bad clip is in quarantine with its reason, every position is accounted for, and neither a test clip nor one without
a label is ever trained. usage: test_flaws.py BIN_DIR"""
import csv
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, check_ledger, last_state, log_of, make_manifest, read_ledger, write_config  # noqa: E402

TRAINED, QUARANTINED, UNLABELLED = 1, 2, 3
OPEN_FAILED, CHANGED, NO_AUDIO, TOO_SHORT, SILENT, MOOV_MISSING = 1, 2, 5, 6, 11, 17  # lib/media/codes.h
IN_THE_DATA = range(7, 11)  # truncated, no frames, codec, decode error: which one depends on where the decoder gives up
EPOCHS = 8


class Clips:
    """The clips of the synthetic set by path, numbered as a manifest numbers them: in order of their paths."""

    def __init__(self, place):
        self.dir = place.path("clips")
        with open(os.path.join(self.dir, "labels.csv"), newline="") as f:
            rows = sorted(csv.DictReader(f), key=lambda row: row["path"])
        self.paths = [row["path"] for row in rows]
        self.train = {i for i, row in enumerate(rows) if row["split"] == "train"}
        self.unlabelled = {i for i, row in enumerate(rows) if row["label"] == ""}
        self.good = sorted(self.train - self.unlabelled)

    def file(self, clip):
        return os.path.join(self.dir, self.paths[clip])


def spoil(clips):
    """Three files change after they were indexed. Returns what each clip's reason must be."""
    missing, altered, garbled = clips.good[:3]
    os.unlink(clips.file(missing))
    with open(clips.file(altered), "ab") as f:
        f.write(b"more")
    with open(clips.file(garbled), "r+b") as f:  # the index of the film stays, its pictures and sound go
        data = f.read()
        begin = data.index(b"mdat") + 4
        size = int.from_bytes(data[begin - 8:begin - 4], "big") - 8
        f.seek(begin)
        f.write(b"\x5a" * size)
    reasons = {missing: [OPEN_FAILED], altered: [CHANGED], garbled: list(IN_THE_DATA)}
    kinds = {"silent": [SILENT], "short": [TOO_SHORT], "truncated": [MOOV_MISSING], "noaudio": [NO_AUDIO]}
    for clip, path in enumerate(clips.paths):
        found = re.match(r"videos/flaw-([a-z]+)-", path)
        if found:
            reasons[clip] = kinds[found.group(1)]
    assert len(reasons) == 7, reasons
    return reasons


def check_quarantine(run, reasons):
    quarantine = last_state(run)["quarantine"]
    assert sorted(c for c, _ in quarantine) == sorted(reasons), (quarantine, reasons)
    for clip, reason in quarantine:
        assert reason in reasons[clip], f"clip {clip}: reason {reason}, expected one of {reasons[clip]}"


def check_dispositions(run, clips, untrained):
    """In every epoch every clip of the split comes once; a good one is trained, another one never."""
    for epoch, records in read_ledger(run).items():
        assert sorted(r[2] for r in records) == sorted(clips.train), f"epoch {epoch}: not the clips of the split"
        for r in records:
            assert (r[6] == TRAINED) == (r[2] not in untrained), (epoch, r)


def lost_on_the_way(place, manifest, clips, reasons):
    """A file vanishes while its clip is being trained: its later positions are quarantined, and nothing else changes."""
    run_dir = place.path("unsupervised")
    config = write_config(place, manifest, run_dir)
    args = ("-c", config, "--set", f"train.epochs={EPOCHS}", "--set", "train.rounds=1")
    run = place.start("xdc", "run", *args)
    place.training(run, epoch=1)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 75, out
    state = last_state(run_dir)
    check_quarantine(run_dir, reasons)
    lost = clips.good[5]
    os.unlink(clips.file(lost))
    place.xdc("run", *args)

    counts = check_ledger(run_dir, EPOCHS, 1)
    check_quarantine(run_dir, {**reasons, lost: [OPEN_FAILED]})
    of_lost = [(r[0], r[6]) for records in read_ledger(run_dir).values() for r in records if r[2] == lost]
    assert [d for step, d in of_lost if step < state["step"]].count(QUARANTINED) == 0, of_lost
    assert [d for step, d in of_lost if step >= state["step"]] == [QUARANTINED] * counts[QUARANTINED], of_lost
    assert counts[QUARANTINED] >= EPOCHS - 1 - state["epoch"] > 0, (counts, state)
    assert counts[UNLABELLED] == EPOCHS * len(reasons), counts
    for records in read_ledger(run_dir).values():
        assert sorted(r[2] for r in records) == sorted(clips.train), "not the clips of the split"
        for r in records:
            assert r[2] == lost or (r[6] == UNLABELLED) == (r[2] in reasons), r
    log = log_of(run_dir, "trainer-0")
    for clip in [*reasons, lost]:
        assert len(re.findall(rf"clip {clip} is quarantined: [a-z_]+: .", log)) >= 1, (clip, log)
    print("unsupervised:", counts, flush=True)
    return {**reasons, lost: [OPEN_FAILED]}


def supervised(place, manifest, clips, reasons):
    """With the manifest's labels: the clips without one are never trained, the bad ones with a label are quarantined."""
    run = place.path("supervised")
    place.xdc("run", "-c", write_config(place, manifest, run, "supervised.yaml"), "--set", "method=supervised",
              "--set", "train.rounds=1", "--set", "train.epochs=2")
    counts = check_ledger(run, 2, 1)
    check_quarantine(run, reasons)
    check_dispositions(run, clips, clips.unlabelled | set(reasons))
    assert counts[UNLABELLED] == 2 * len(clips.unlabelled) and \
        counts[QUARANTINED] == 2 * len(set(reasons) - clips.unlabelled), counts
    print("supervised:", counts, flush=True)


def too_many(place, manifest):
    """More bad clips than limits.max_bad_share allows end the run with status 65 and say which limit it was."""
    run = place.path("strict")
    said = place.xdc("run", "-c", write_config(place, manifest, run, "strict.yaml"), "--set", "limits.max_bad_share=0.1",
                     expect=65).stderr
    assert "clips are quarantined" in said and "limits.max_bad_share = 0.1" in said, said


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place)
    clips = Clips(place)
    reasons = spoil(clips)
    reasons = lost_on_the_way(place, manifest, clips, reasons)
    supervised(place, manifest, clips, reasons)
    too_many(place, manifest)
    assert not place.processes(), place.processes()
    place.close()


main()
