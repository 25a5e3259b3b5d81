#!/usr/bin/env python3
"""Numbers that go wrong. A batch whose loss is not finite is named, training goes back to a checkpoint and passes it over: the outcome
is that of a run which never tried it, bit for bit, also when the trainer is killed on the way; a run that meets too many ends and
says what to try. Features, clusters and losses that are worth nothing raise warnings. usage: test_unstable.py BIN_DIR"""
import csv
import glob
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (Place, check_ledger, last_checkpoint, last_state, log_of, make_manifest, read_ledger,  # noqa: E402
                     same_file, write_config)

TRAINED, UNSTABLE = 1, 5
EPOCHS, BATCH = 3, 4


def events(run, kind):
    path = os.path.join(run, "events.jsonl")
    if not os.path.exists(path):
        return []
    return [e for e in map(json.loads, open(path).read().split("\n")[:-1]) if e["event"] == kind]


def listed(run):
    return [json.loads(line) for line in open(os.path.join(run, "unstable.jsonl"))]


def diverges(place, manifest):
    """A learning rate without measure: weights grow until no batch has a finite loss."""
    run = place.path("diverges")
    args = ("run", "-c", write_config(place, manifest, run, "diverges.yaml"), "--set", "train.lr=100", "--set",
            "train.weight_decay=1", "--set", "train.epochs=40", "--set", "train.rounds=1")
    said = place.xdc(*args, expect=65).stderr
    for words in ("4 batches gave a loss or gradient that is not finite", "limits.max_rollbacks = 3", "train.lr (now 100)",
                  "train.clip_norm (now 0: not bounded)", "train.warmup_epochs (now 0)", os.path.join(run, "unstable.jsonl")):
        assert words in said, (words, said)
    places = [(u["round"], u["epoch"], u["batch"]) for u in listed(run)]
    assert len(set(places)) == len(places) == 4, places
    assert len(events(run, "unstable")) == 4
    assert log_of(run, "trainer-0").count("rolled back to step") == 3, "the fourth ends it"
    at_chance = {w["encoder"] for w in events(run, "warning") if w["code"] == "loss_at_chance"}
    assert places[0][1] < 2 or at_chance == {"video", "audio"}, (places, at_chance)
    steps = len(glob.glob(os.path.join(run, "checkpoints", "step-*")))
    assert "limits.max_rollbacks = 3" in place.xdc(*args, expect=65).stderr, "nor does another start go on"
    assert len(listed(run)) == 4 and len(glob.glob(os.path.join(run, "checkpoints", "step-*"))) == steps


def silence(place, clip):
    """The one value that the log-mel of a clip without sound has."""
    out = place.path("silence.npy")
    place.xdc("decode", clip, "--keep-silent", "--size", 32, "--audio-out", out)
    data = open(out, "rb").read()
    values = set(struct.unpack("<4000f", data[-16000:]))
    assert len(values) == 1, values
    return values.pop()


def mute(place, name, but=()):
    """The clips of the place without their sound, all `but` some; the manifest of them."""
    clips = place.path(name)
    shutil.copytree(place.path("clips"), clips)
    for path in sorted(glob.glob(os.path.join(clips, "videos", "*.mp4"))):
        if os.path.relpath(path, clips) in but:
            continue
        subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-c", "copy", "-an", path + ".mp4"], check=True)
        os.replace(path + ".mp4", path)
    manifest = place.path(name + ".lmdb")
    place.xdc("index", clips, "--labels", os.path.join(clips, "labels.csv"), "--out", manifest)
    return manifest


def weights_that_want_silence(place, value):
    """An audio network whose file claims a deviation next to nothing: silence is 0, and any sound beyond all numbers."""
    path = place.path("audio.safetensors")
    place.xdc("export", "--init", "resnet10", "--width", 4, "--seed", 1, "--out", path)
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.setdefault("__metadata__", {})["xdc.log_mel"] = f'{{"mean": {value!r}, "deviation": 1e-39}}'
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data[8 + size:])
    return path


class OneBadClip:
    """Supervised runs over silent clips and one with sound, which has no finite loss: one batch of every epoch."""

    def __init__(self, place):
        self.place = place
        with open(place.path("clips", "labels.csv"), newline="") as f:
            split = {row["path"]: row["split"] for row in csv.DictReader(f)}
        self.paths = sorted(split)
        self.clips = [i for i, path in enumerate(self.paths) if split[path] == "train"]
        self.bad = self.clips[5]
        self.manifest = mute(place, "muted", [self.paths[self.bad]])
        value = silence(place, place.path("muted", self.paths[self.clips[0]]))
        self.sets = []
        for key, v in (("method", "supervised"), ("data.no_audio", "keep"), ("train.rounds", 1), ("train.epochs", EPOCHS),
                       ("train.batch", BATCH), ("augment.time_mask_frames", 0), ("net.init_audio", weights_that_want_silence(place, value))):
            self.sets += ["--set", f"{key}={v}"]

    def args(self, name, *more):
        sets = [x for setting in more for x in ("--set", setting)]
        return ["run", "-c", write_config(self.place, self.manifest, self.place.path(name), name + ".yaml"), *self.sets, *sets]

    def check(self, run):
        """Every position is accounted for, and in each epoch those of the bad clip's batch alone are not trained."""
        counts = check_ledger(run, EPOCHS, 1)
        drawn = EPOCHS * len(self.clips)
        assert counts == {TRAINED: drawn - counts[UNSTABLE], UNSTABLE: counts[UNSTABLE]}, counts
        for records in read_ledger(run).values():
            assert sorted(r[2] for r in records) == self.clips
            step = [r[0] for r in records if r[2] == self.bad]
            assert len(step) == 1
            for r in records:
                assert (r[6] == UNSTABLE) == (r[0] == step[0]), r
        assert last_state(run)["step"] == EPOCHS * math.ceil(len(self.clips) / BATCH)
        assert last_state(run)["epoch"] == 0 and last_state(run)["round"] == 1

    def check_names(self, run):
        """The list has each batch once, with its clips and files; the record has the same."""
        lines = listed(run)
        ledger = read_ledger(run)
        assert [u["epoch"] for u in lines] == list(range(EPOCHS)), lines
        for u in lines:
            records = [r for r in ledger[u["epoch"]] if r[6] == UNSTABLE]
            assert [r[0] for r in records] == [u["step"]] * len(records)
            assert u["clips"] == [r[2] for r in records] and self.bad in u["clips"]
            assert u["uris"] == [self.paths[c] for c in u["clips"]], u
            assert u["encoder"] == "audio" and "not finite" in u["why"], u
        told = [{key: e[key] for key in lines[0]} for e in events(run, "unstable")]
        assert [u for i, u in enumerate(told) if u not in told[:i]] == lines, (told, lines)
        assert self.paths[self.bad] in log_of(run, "trainer-0")


def outcome_differs(a, b):
    points = [last_checkpoint(r) for r in (a, b)]
    return [f for f in ("weights.safetensors", "state.json") if not same_file(*[os.path.join(p, f) for p in points])]


def passes_over(bad):
    """It goes on after the bad batch, and ends as a run that knew of it from the start and never tried it."""
    place = bad.place
    calm, knowing = place.path("calm"), place.path("knowing")
    place.xdc(*bad.args("calm"))
    bad.check(calm)
    bad.check_names(calm)
    log = log_of(calm, "trainer-0")
    assert log.count("rolled back to step") == EPOCHS and log.count("is passed over") == EPOCHS, log
    os.mkdir(knowing)
    shutil.copy(os.path.join(calm, "unstable.jsonl"), knowing)
    place.xdc(*bad.args("knowing"))
    bad.check(knowing)
    assert "rolled back" not in log_of(knowing, "trainer-0") and not events(knowing, "unstable")
    assert not outcome_differs(calm, knowing), outcome_differs(calm, knowing)
    return calm


def killed(bad, calm):
    """kill -9 behind the roll-back; checkpoints come every step."""
    place, run = bad.place, bad.place.path("killed")
    process = place.start("xdc", *bad.args("killed", "train.checkpoint_s=0.01"))
    place.wait("a batch is passed over", lambda: events(run, "unstable") or process.poll() is not None, 120)
    os.kill(place.status("trainer-0")["pid"], signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "starting it again" in out, (process.returncode, out)
    bad.check(run)
    bad.check_names(run)
    assert not outcome_differs(calm, run), outcome_differs(calm, run)


def limited(bad, calm):
    """Each start allows one more; where it ends the next one goes on."""
    place, run = bad.place, bad.place.path("limited")
    for most in range(EPOCHS):
        said = place.xdc(*bad.args("limited", f"limits.max_rollbacks={most}"), expect=65).stderr
        assert f"{most + 1} batches gave" in said and f"limits.max_rollbacks = {most}" in said, said
        assert len(listed(run)) == most + 1
        state = last_state(run)
        assert state["epoch"] == most, state
    place.xdc(*bad.args("limited", f"limits.max_rollbacks={EPOCHS}"))
    bad.check(run)
    bad.check_names(run)
    assert not outcome_differs(calm, run), outcome_differs(calm, run)


def torn_list(bad):
    """A list that cannot be read is no empty one."""
    run = bad.place.path("torn")
    os.mkdir(run)
    with open(os.path.join(run, "unstable.jsonl"), "w") as f:
        f.write('{"round":0,"epo')
    said = bad.place.xdc(*bad.args("torn"), expect=65).stderr
    assert "unstable.jsonl: line 1 names no batch" in said, said


def warnings(place):
    """Silence everywhere: audio features are all the same, which is said in log and record, and nothing can be clustered: the run ends.
    With two sounds among them there are three clusters, one of which has nearly all clips: said in /status too."""
    options = ("--set", "data.no_audio=keep", "--set", "augment.time_mask_frames=0", "--set", "train.rounds=1", "--set",
               "train.epochs=200", "--set", "cluster.k=3")
    silent = place.path("silent")
    said = place.xdc("run", "-c", write_config(place, mute(place, "silent-clips"), silent, "silent.yaml"), *options, expect=65).stderr
    assert "source audio: only 1 of the 20 rows differ as they are clustered, too few for 3 clusters; see `xdc explain dead" in said, said
    assert not glob.glob(os.path.join(silent, "labels", "*.xdcl"))
    run_dir = place.path("quiet")
    with open(place.path("clips", "labels.csv"), newline="") as f:
        sounds = [row["path"] for row in csv.DictReader(f) if row["split"] == "train"][:2]
    run = place.start("xdc", "run", "-c", write_config(place, mute(place, "quiet-clips", sounds), run_dir, "quiet.yaml"), *options)
    due = {("collapsed_clusters", "source", "audio")}

    def shown():
        assert run.poll() is None, run.stdout.read()
        found = (place.status("trainer-0") or {}).get("warnings", [])
        return found if due <= {(w["code"], kind, w.get(kind)) for w in found for kind in ("encoder", "source")} else None
    found = place.wait("the warnings are in /status", shown, 120)
    code, out = place.stop(run)
    assert code == 75, out
    dead = [e for e in events(silent, "warning") if e["code"] == "dead_features" and e["encoder"] == "audio"]
    collapsed = [w for w in found if w["code"] == "collapsed_clusters" and w["source"] == "audio"]
    assert len(dead) == len(collapsed) == 1 and dead[0]["value"] == 1.0 and collapsed[0]["value"] > 0.5, (dead, collapsed)
    assert "32 of 32 feature dimensions of the audio encoder" in dead[0]["sentence"], dead
    for of, w in (silent, dead[0]), (run_dir, collapsed[0]):
        name, advice = w["code"], place.xdc("explain", w["code"]).stdout
        assert log_of(of, "trainer-0").count(f"{name}: {w['sentence']}") == 1, w
        assert [e["value"] for e in events(of, "warning") if e["sentence"] == w["sentence"]] == [w["value"]]
        assert " ".join(advice.split("to do")[1].split()) in w["sentence"], (advice, w)


def main():
    if shutil.which("ffmpeg") is None:
        print("no program ffmpeg")
        sys.exit(77)
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=24, flaws=False)
    diverges(place, manifest)
    print("diverges is good", flush=True)
    bad = OneBadClip(place)
    calm = passes_over(bad)
    print("passes_over is good", flush=True)
    for part in (killed, limited):
        part(bad, calm)
        print(part.__name__, "is good", flush=True)
    torn_list(bad)
    warnings(place)
    print("warnings is good", flush=True)
    assert not place.processes(), place.processes()
    place.close()


main()
