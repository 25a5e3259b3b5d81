#!/usr/bin/env python3
"""`xdc eval finetune`: its figures are those of its classifier and features, computed anew; the rate is chosen on held-out clips and
test has no part in it; killed and stopped it goes on to the same figures; encoders of one modality need files of that alone; what
cannot be learnt or judged is refused, or named in the result. And runs of one encoder (net.encoders). usage: test_finetune.py BIN_DIR"""
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (XDC_LONG, Place, check_ledger, copy_clips, log_of, read_ledger, read_safetensors, sets, tensors_of,  # noqa: E402
                     write_config)

TRAINED, HELD_OUT = 1, 4
VIDEOS, CLIPS = 24, 4
FAST = {"train.batch": 8, "train.threads": 1, "decoder.workers": 2, "train.epochs": 4, "train.warmup_epochs": 1, "train.step_epochs": 2,
        "data.clips_per_video": CLIPS}
RATES = (1e-6, 0.05)
OTHER = {"video": "audio", "audio": "video"}


class Clips:
    """Files with classes, and manifests of them with splits of one's own."""

    def __init__(self, place, name="clips"):
        self.place, self.folder = place, place.path(name)
        if not os.path.exists(self.folder):
            copy_clips(place, VIDEOS, False, self.folder)
        with open(os.path.join(self.folder, "labels.csv"), newline="") as f:
            self.label = {row["path"]: row["label"] for row in csv.DictReader(f)}
        self.paths = sorted(self.label)

    def rows(self, fold):
        """(path, class, split) of each file: of each class every third is tested."""
        seen, rows = {}, []
        for path in self.paths:
            label = self.label[path]
            seen[label] = seen.get(label, -1) + 1
            rows.append((path, label, "test" if seen[label] % 3 == fold else "train"))
        return rows

    def index(self, name, rows):
        lists, manifest = self.place.path(name + ".csv"), self.place.path(name + ".lmdb")
        with open(lists, "w") as f:
            f.write("path,label,split\n" + "".join(",".join(row) + "\n" for row in rows))
        self.place.xdc("index", self.folder, "--labels", lists, "--out", manifest)
        return manifest


def changed(clips, suffix, *how):
    """The same clips after ffmpeg has done something to each, as files of another kind."""
    made = os.path.join(clips.place.path(suffix))
    os.makedirs(os.path.join(made, "videos"))
    with open(os.path.join(made, "labels.csv"), "w") as f:
        f.write("path,label,split\n")
        for path in clips.paths:
            new = os.path.splitext(path)[0] + "." + suffix
            subprocess.run(["ffmpeg", "-v", "error", "-i", os.path.join(clips.folder, path), *how, os.path.join(made, new)], check=True)
            f.write(f"{new},{clips.label[path]},\n")
    return Clips(clips.place, suffix)


def finetune(place, name, encoder, manifests, *args, options=None, expect=0):
    """(result, what was said) of a call; its directory is `name`."""
    manifests = [manifests] if isinstance(manifests, str) else manifests
    p = place.xdc("eval", "finetune", encoder, *manifests, "--dir", place.path(name), "--json", *args, *sets({**FAST, **(options or {})}),
                  expect=expect)
    if expect:
        return None, p.stderr
    result = json.load(open(place.path(name, "result.json")))
    assert result == json.loads(p.stdout), "stdout is not the file"
    return result, p.stderr


def lr(*rates):
    return "--lr", ",".join(map(str, rates))


def events(run, kind):
    return [e for e in map(json.loads, open(os.path.join(run, "events.jsonl"))) if e["event"] == kind]


# The figures.

def judge(directory, sees, names, unseen=()):
    """Figures and (test, right) by class of what `final` holds, by the definition; names: of the classifier's outputs."""
    t = read_safetensors(os.path.join(directory, sees + ".safetensors"))
    rows = [json.loads(line) for line in open(os.path.join(directory, "test.jsonl"))]
    assert {r["split"] for r in rows} == {"test"}
    logits = np.load(os.path.join(directory, "test.npy")).astype("f8") @ t["fc.weight"].astype("f8").T + t["fc.bias"].astype("f8")
    assert logits.shape == (len(rows), len(names)), (logits.shape, names)
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)

    def rank(scores, label):
        y = names.index(label)
        return len(rows) if label in unseen else int((scores > scores[y]).sum() + (scores[:y] == scores[y]).sum())
    videos = {}
    for i, r in enumerate(rows):
        videos.setdefault(r["video"], []).append(i)
    labels = {v: rows[i[0]]["label"] for v, i in videos.items()}
    by_softmax = {v: rank(softmax[i].mean(0), labels[v]) for v, i in videos.items()}
    by_logits = {v: rank(logits[i].mean(0), labels[v]) for v, i in videos.items()}
    by_clip = [rank(logits[i], r["label"]) for i, r in enumerate(rows)]
    figures = {"video_top1": np.mean([r < 1 for r in by_softmax.values()]), "video_top5": np.mean([r < 5 for r in by_softmax.values()]),
               "video_top1_logits": np.mean([r < 1 for r in by_logits.values()]),
               "clip_top1": np.mean([r < 1 for r in by_clip]), "clip_top5": np.mean([r < 5 for r in by_clip])}
    per_class = {name: (sum(x == name for x in labels.values()), sum(by_softmax[v] < 1 for v in videos if labels[v] == name))
                 for name in sorted(set(labels.values()))}
    return figures, per_class, len(videos), len(rows)


def check_split(place, name, split, number, sees, unseen=()):
    figures, per_class, videos, clips = judge(place.path(name, str(number), "final"), sees, split["outputs"], unseen)
    assert split["figures"].keys() == figures.keys() and (split["videos"], split["clips"]) == (videos, clips), split
    for key, value in figures.items():
        assert abs(split["figures"][key] - value) < 1e-12, (key, split["figures"], figures)
    assert {c["class"]: (c["test"], c["right"]) for c in split["per_class"]} == per_class, (split["per_class"], per_class)
    assert all(abs(c["accuracy"] - c["right"] / c["test"]) < 1e-12 for c in split["per_class"])


# Who chose the rate, and on what.

def commands(directory):
    """The commands that a step's log tells of."""
    return [shlex.split(line[2:]) for line in open(os.path.join(directory, "log")) if line.startswith("$ ")]


def again(place, directory, to):
    """The run of a rate of the grid, whose directory is gone, once more."""
    args = ["run.dir=" + to if a.startswith("run.dir=") else a for a in commands(directory)[0][1:]]
    place.xdc(*args)
    return to


def trained_videos(run, sees):
    """(videos trained, videos held out); every position is accounted for."""
    assert set(check_ledger(run, FAST["train.epochs"], 1)) <= {TRAINED, HELD_OUT}
    records = [r for epoch in read_ledger(run).values() for r in epoch]
    for e in events(run, "epoch"):
        assert e["loss"][OTHER[sees]] is None and e["loss"][sees] > 0, e
    return tuple({r[2] // CLIPS for r in records if r[6] == d} for d in (TRAINED, HELD_OUT))


def rate_and_videos(place, split, number, sees, rows):
    """Of the grid the best on what none of its runs has learnt; the last run learns all of train, and no run a video of test."""
    by_split = {s: {i for i, row in enumerate(rows) if row[2] == s} for s in ("train", "test")}
    held_out = set()
    for one, rate in zip(split["grid"], RATES):
        assert one["lr"] == rate
        step = place.path("both", str(number), f"lr-{rate:g}")
        assert sorted(os.listdir(step)) == ["log", "result.json"], "the grid's weights are kept"
        if number > 1 and not XDC_LONG:
            continue
        run = again(place, step, place.path(f"again-{number}-{rate:g}"))
        trained, held = trained_videos(run, sees)
        assert held and trained and not held & trained and trained | held == by_split["train"], (trained, held)
        assert not held_out or held == held_out, "rates are compared on unlike clips"
        held_out = held
        assert events(run, "epoch")[-1]["holdout"]["accuracy"][sees] == one["accuracy"], one
        shutil.rmtree(run)
    best = max(one["accuracy"] for one in split["grid"])
    assert split["lr"] == min(one["lr"] for one in split["grid"] if one["accuracy"] == best), split
    trained, held = trained_videos(place.path("both", str(number), "final", "run"), sees)
    assert trained == by_split["train"] and not held and len(by_split["test"]) == split["videos"]


def two_splits(place, clips, drawn):
    """Two manifests: each is trained and judged by itself, and the result has mean and deviation."""
    encoder = os.path.join(drawn, "export", "audio.safetensors")
    manifests = [clips.index(f"split-{fold}", clips.rows(fold)) for fold in range(2)]
    result, said = finetune(place, "both", encoder, manifests, "--holdout", 0.4, *lr(*RATES))
    assert len(result["splits"]) == 2 and result["update"] == "all" and result["preset"] is None and result["differs"] == "", result
    for number, split in enumerate(result["splits"], 1):
        check_split(place, "both", split, number, "audio")
        assert split["outputs"] == list(dict.fromkeys(clips.label[p] for p in clips.paths)), "not in the order of the manifest"
        rate_and_videos(place, split, number, "audio", clips.rows(number - 1))
        c = split["classes"]
        assert (c["train"] + c["test"], c["test"]) == (VIDEOS, split["videos"]) and not any(
            c[k] for k in ("no_label", "no_split", "without_train", "without_test", "unused", "lost")), c
        assert split["failed_clips"] == split["train_failed_clips"] == 0
    assert RATES[1] in {s["lr"] for s in result["splits"]}, "nothing is learnt: the test shows little"
    for key in result["figures"]:
        values = [s["figures"][key] for s in result["splits"]]
        assert abs(result["figures"][key] - np.mean(values)) < 1e-12 and abs(result["deviations"][key] - np.std(values, ddof=1)) < 1e-12
    assert not os.path.exists(place.path("both", "1", "final", "test.npy.run"))
    left = {os.path.basename(d) for d in os.listdir(os.path.join(place.runtime, "xdc"))}
    before = snapshot_times(place.path("both"))
    repeated, _ = finetune(place, "both", encoder, manifests, "--holdout", 0.4, *lr(*RATES))
    assert repeated == result and snapshot_times(place.path("both")) == before, "finished, but something was done again"
    assert {os.path.basename(d) for d in os.listdir(os.path.join(place.runtime, "xdc"))} == left
    print("two splits:", [(s["lr"], [g["accuracy"] for g in s["grid"]], s["figures"]["video_top1"]) for s in result["splits"]], flush=True)
    return encoder, manifests, result


def snapshot_times(folder):
    return {os.path.join(d, f): os.stat(os.path.join(d, f)).st_mtime_ns for d, _, files in os.walk(folder) for f in files
            if f not in ("result.json", "run.lock") or d != folder}


def what_learns(place, encoder, manifest, result):
    """fc leaves the encoder bit for bit as it was; all does not."""
    one, _ = finetune(place, "fc", encoder, manifest, "--update", "fc", *lr(0.1))
    assert one["update"] == "fc" and one["splits"][0]["grid"] == [] and one["deviations"] is None and one["splits"][0]["lr"] == 0.1, one
    check_split(place, "fc", one["splits"][0], 1, "audio")
    own = read_safetensors(encoder)
    for name, same in (("fc", True), ("both", False)):
        after = read_safetensors(place.path(name, "1", "final", "audio.safetensors"))
        assert set(after) == set(own) | {"fc.weight", "fc.bias"}, set(after) ^ set(own)
        equal = {k: (after[k] == own[k]).all() for k in own}
        assert all(equal.values()) if same else not any(v for k, v in equal.items() if k.endswith("weight")), (name, equal)
    run = place.path("fc", "1", "final", "run")
    assert not os.path.exists(os.path.join(run, "export", "video.safetensors")), "the encoder that is left out is exported"
    said = place.xdc("export", run, "--encoder", "video", "--out", place.path("no.safetensors"), expect=65).stderr
    assert "the run is of the audio encoder alone" in said and not os.path.exists(place.path("no.safetensors")), said


# Ends that nobody asked for.

def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in ("seconds", "encoder")}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def interrupted(place, encoder, manifest):
    """Killed in a run of the grid, killed in the next one, stopped in the last: no process stays, and the end is the same."""
    args = ("--holdout", 0.4, *lr(*RATES))
    options = {"data.clips_per_video": 24}
    calm, _ = finetune(place, "calm", encoder, manifest, *args, options=options)
    whole = ("eval", "finetune", encoder, manifest, "--dir", place.path("rough"), "--json", *map(str, args), *sets({**FAST, **options}))
    for step, end in ((f"lr-{RATES[0]:g}", "kill"), (f"lr-{RATES[1]:g}", "kill"), ("final", "stop")):
        process = place.start("xdc", *whole)

        def trains():
            assert process.poll() is None, process.stdout.read()
            if not os.path.isdir(place.path("rough", "1", step, "run")):
                return None
            s = place.status("trainer-0")
            return s and s["phase"] in ("train", "validate") and s["epoch"] >= 1 and s
        status = place.wait(f"training in {step}", trains)
        assert status["loss"]["video"] is None and status["accuracy"]["video"] is None and status["loss"]["audio"] >= 0, status["loss"]
        if end == "kill":
            process.kill()
            process.communicate()
        else:
            code, said = place.stop(process)
            assert code == 75 and "stopped during `xdc run`; the same command goes on" in said, (code, said)
        place.wait("all processes are gone", lambda: not place.processes())
        assert not os.path.exists(place.path("rough", "result.json"))
    rough, _ = finetune(place, "rough", encoder, manifest, *args, options=options)
    assert without_times(rough) == without_times(calm), (rough, calm)
    assert [len(commands(place.path("rough", "1", d))) for d in (f"lr-{RATES[0]:g}", f"lr-{RATES[1]:g}", "final")] == [2, 2, 4], \
        "a step that had ended was taken again, or one that had not was not"
    finals = [place.path(name, "1", "final") for name in ("calm", "rough")]
    assert tensors_of(os.path.join(finals[0], "audio.safetensors")) == tensors_of(os.path.join(finals[1], "audio.safetensors"))
    assert (np.load(os.path.join(finals[0], "test.npy")) == np.load(os.path.join(finals[1], "test.npy"))).all()
    for log in (os.path.join(finals[1], "log"), place.path("rough", "1", f"lr-{RATES[1]:g}", "log")):
        shown = re.findall(r"  loss((?: [0-9.]+)+)", open(log).read())
        assert shown and all(len(s.split()) == 1 for s in shown), f"{log}: losses of an encoder that there is not: {shown}"


# Files of one modality, and what of them is missing.

def sound_alone(place, clips, drawn):
    """An audio encoder on sound files, in the form of ESC-50 with a file that is not there."""
    wavs = changed(clips, "wav", "-vn", "-ac", "1", "-ar", "16000")
    lists, manifest = place.path("esc50.csv"), place.path("esc50.lmdb")
    with open(lists, "w") as f:
        f.write("filename,fold,target,category,esc10,src_file,take\n")
        for i, (path, label, _) in enumerate(wavs.rows(0)):
            f.write(f"{os.path.basename(path)},{1 + i % 5},{label[1:]},{label},False,{i},A\n")
        f.write("gone.wav,1,4,c4,False,99,A\nnowhere.wav,2,4,c4,False,98,A\n")
    said = place.xdc("index", lists, "--fold", 1, "--media", os.path.join(wavs.folder, "videos"), "--out", manifest)
    assert "2 named and not there: gone.wav, nowhere.wav" in said.stdout, said.stdout
    result, _ = finetune(place, "sound", os.path.join(drawn, "export", "audio.safetensors"), manifest, *lr(0.02))
    split = result["splits"][0]
    c = split["classes"]
    assert (c["train"], c["test"], c["lost"]) == (VIDEOS - 5, 5, 0) and split["failed_clips"] == split["train_failed_clips"] == 0, split
    check_split(place, "sound", split, 1, "audio")
    run = place.path("sound", "1", "final", "run")
    assert trained_videos(run, "audio") == ({i for i in range(VIDEOS) if i % 5}, set())
    assert "audio" in log_of(run, "trainer-0") and not os.path.exists(os.path.join(run, "export", "video.safetensors"))
    return manifest


def pictures_alone(place, clips, drawn, sounds):
    """A video encoder on silent videos; a sound file among those of train and one in test are counted as what they are."""
    video = os.path.join(drawn, "export", "video.safetensors")
    mute = changed(clips, "mp4", "-an", "-c", "copy")
    rows = mute.rows(0)
    for name, split in (("a", "train"), ("b", "test")):
        shutil.copy(place.path("wav", "videos", "00000.wav"), os.path.join(mute.folder, "videos", name + ".wav"))
        rows.append((f"videos/{name}.wav", "c1", split))
    manifest = mute.index("mute", rows)
    result, _ = finetune(place, "mute", video, manifest, *lr(0.02))
    split = result["splits"][0]
    c, tested = split["classes"], sum(r[2] == "test" for r in rows)
    assert (c["train"], c["test"], c["lost"], split["videos"]) == (len(rows) - tested, tested, 1, tested - 1), split
    assert split["train_failed_clips"] == CLIPS and split["failed_clips"] == 10, split
    assert split["failed"]["files"] == [{"uri": "videos/b.wav", "reason": "no_video", "clips": 10}], split["failed"]
    check_split(place, "mute", split, 1, "video")
    text = place.xdc("eval", "finetune", video, manifest, *lr(0.02), "--dir", place.path("mute"), *sets(FAST)).stdout
    assert "1 test videos could not be decoded" in text and f"{CLIPS} clips of train could not be decoded" in text, text
    for more in ((), lr(0.02)):
        _, said = finetune(place, "nothing" + str(len(more)), video, sounds, *more, expect=65)
        assert "no clip of train could be learnt" in said, said


# What is refused, and what is named.

def classes(place, clips, encoder, manifest):
    """Classes that one side lacks."""
    rows = clips.rows(0)
    no_train = [r for r in rows if r[1] != "c2" or r[2] == "test"]
    no_test = [r for r in rows if r[1] != "c3" or r[2] == "train"]
    unseen, untested, _ = (clips.index(name, r) for name, r in (("unseen", no_train), ("untested", no_test), ("unlike", rows)))
    _, said = finetune(place, "unseen", encoder, [manifest, unseen], *lr(0.02), expect=65)
    assert "unseen.lmdb: 1 classes of test have no train video, the first is c2; --allow-unseen" in said, said
    assert not os.path.exists(place.path("unseen")), "refused, but something was begun"
    result, _ = finetune(place, "unseen", encoder, unseen, "--allow-unseen", *lr(0.02))
    split = result["splits"][0]
    assert split["classes"]["without_train"] == ["c2"] and split["classes"]["without_test"] == [], split
    check_split(place, "unseen", split, 1, "audio", unseen={"c2"})
    assert [c["right"] for c in split["per_class"] if c["class"] == "c2"] == [0] and split["figures"]["video_top5"] < 1

    result, _ = finetune(place, "untested", encoder, untested, *lr(0.02))
    c = result["splits"][0]["classes"]
    assert c["without_test"] == ["c3"] and c["without_train"] == [] and c["no_label"] == VIDEOS - len(no_test), c
    assert [p["class"] for p in result["splits"][0]["per_class"]] == ["c0", "c1", "c2"]
    text = place.xdc("eval", "finetune", encoder, untested, "--dir", place.path("untested"), *lr(0.02), *sets(FAST)).stdout
    assert "1 classes of train without test videos: c3" in text, text

    # A class that an update of the manifest has left without files; and a preset, whose schedule a --set shortens.
    manifest = clips.index("renamed", [(p, "old" if i == 5 else c, s) for i, (p, c, s) in enumerate(rows)])
    place.xdc("index", clips.folder, "--labels", place.path("unlike.csv"), "--out", manifest, "--update")
    result, _ = finetune(place, "renamed", encoder, manifest, "--preset", "esc50", "--update", "fc", *lr(0.02),
                         options={"train.epoch_clips": 32})
    assert result["splits"][0]["classes"]["unused"] == ["old"] and "old" in result["splits"][0]["outputs"], result
    check_split(place, "renamed", result["splits"][0], 1, "audio")
    assert ("t4-fc-vs-all", "Random", "-", 61.3) in {tuple(p[k] for k in ("table", "method", "pretraining", "percent")) for p in result["published"]}
    assert all(p["table"] == "t4-fc-vs-all" for p in result["published"]) and result["preset"] == "esc50"


def refusals(place, clips, drawn, encoder, manifest):
    video = os.path.join(drawn, "export", "video.safetensors")
    text = place.path("text.safetensors")
    open(text, "w").write("no encoder")
    rows = clips.rows(0)
    unlabelled = place.path("unlabelled.lmdb")
    place.xdc("index", clips.folder, "--out", unlabelled)
    untested = clips.index("no-test", [(p, c, "train") for p, c, _ in rows])
    for status, says, *args in (
            (65, "no video of the split train has a class", encoder, unlabelled),
            (65, "no-test.lmdb: no video of the split test has a class", encoder, manifest, untested),
            (66, "nowhere.lmdb", encoder, manifest, place.path("nowhere.lmdb")),
            (65, "text.safetensors", text, manifest), (66, "no such file", place.path("nowhere.safetensors"), manifest),
            (78, "has net.video_depth 10", video, manifest, "--set", "net.video_depth=18"),
            (78, "eval finetune sets train.lr itself", encoder, manifest, "--set", "train.lr=1"),
            (78, "eval finetune sets net.encoders itself", encoder, manifest, "--set", "net.encoders=both"),
            (78, "did you mean train.epochs", encoder, manifest, "--set", "train.epoch=3"),
            (78, "nothing is held out to stop by", encoder, manifest, "--set", "train.early_stop=0.1"),
            (65, "--preset esc50 is of audio encoders", video, manifest, "--preset", "esc50"),
            (65, "--preset hmdb51 is of video encoders", encoder, manifest, "--preset", "hmdb51"),
            (64, "--preset kinetics: is one of ucf101", encoder, manifest, "--preset", "kinetics"),
            (64, "--lr fast", encoder, manifest, "--lr", "fast"), (64, "--lr 0.1,-1", encoder, manifest, "--lr", "0.1,-1"),
            (64, "--lr ,", encoder, manifest, "--lr", ","), (64, "needs ENCODER, MANIFEST and --dir", encoder),
            (64, "holdout", encoder, manifest, "--holdout", "0.9"), (64, "update", encoder, manifest, "--update", "some")):
        said = place.xdc("eval", "finetune", *args, "--dir", place.path("refused"), expect=status).stderr
        assert says.lower() in said.lower(), (says, said)
        assert not os.path.exists(place.path("refused")), f"{says}: refused, but something was begun"

    # A directory serves one request; threads and decoders are none of it.
    finetune(place, "fc", encoder, manifest, "--update", "fc", *lr(0.1), options={"decoder.workers": 1})
    for other in (("--update", "fc", *lr(0.2)), lr(0.1), ("--update", "fc", "--seed", 1, *lr(0.1))):
        _, said = finetune(place, "fc", encoder, manifest, *other, expect=65)
        assert "is of another encoder, manifest or options: take another --dir" in said, said

    # Another input than the encoder's is taken, and told.
    result, said = finetune(place, "crop", video, manifest, "--update", "fc", *lr(0.1), options={"video.crop": 28, "video.fps": 10.0})
    assert result["differs"] == "video.crop 28 (the encoder's: 32)" and result["differs"] in said, (result["differs"], said)

    # A rate without measure loses to one that learns; alone it fails.
    wild = {"train.weight_decay": 1, "train.epochs": 6, "train.step_epochs": 6}
    result, said = finetune(place, "wild", encoder, manifest, *lr(0.02, 100), options=wild)
    assert [g["accuracy"] is None for g in result["splits"][0]["grid"]] == [False, True] and result["splits"][0]["lr"] == 0.02, result
    assert "lr 100 (2 of 2): nothing on held-out clips" in said, said
    _, said = finetune(place, "wilder", encoder, manifest, *lr(100), options=wild, expect=65)
    assert "not finite" in said and "its log is" in said, said


def one_encoder(place, clips, manifest):
    """net.encoders in runs of one's own: supervised with each way to draw, over two ranks, of silent videos, and on another run's labels."""
    run = place.path("labels-run")
    place.xdc("run", "-c", write_config(place, manifest, run, "labels.yaml"), "--set", "train.rounds=1", "--set", "train.epochs=1")
    supervised = {"method": "supervised", "train.rounds": 1}
    train = sum(row[2] == "train" for row in clips.rows(0))
    mute = Clips(place, "mp4")
    silent = mute.index("silent", mute.rows(0))
    for name, sees, options in (("silent", "video", {**supervised, "data.manifest": silent}),
                                ("resample", "audio", {**supervised, "train.balance": "resample"}),
                                ("ranks", "video", {**supervised, "run.ranks": 2}),
                                ("from", "video", {"labels.from": run, "train.rounds": 1, "train.ema": 0.9})):
        own = place.path("one-" + name)
        said = place.xdc("run", "-c", write_config(place, manifest, own, name + ".yaml"), *sets({"net.encoders": sees, **options})).stdout
        for epoch in read_ledger(own).values():  # drawn for one encoder, a position is of the stream that has its number
            assert {r[5] for r in epoch} == {1 if name == "resample" else 0} and {r[6] for r in epoch} == {TRAINED}
            assert sorted(r[1] for r in epoch) == list(range(len(epoch))) and len(epoch) == train
        assert all(e["loss"][OTHER[sees]] is None and 0 < e["loss"][sees] < 20 for e in events(own, "epoch"))
        assert sorted(os.listdir(os.path.join(own, "export"))) == [sees + e + ".safetensors" for e in (("-ema", "") if name == "from" else ("",))]
        assert re.search(rf"encoders: \S+/export/{sees}.safetensors$", said, re.M), said
    config = write_config(place, manifest, place.path("never"), "never.yaml")
    for says, options in (("labels are clustered from both encoders", {}), ("train.probe needs both", {**supervised, "train.probe": 9}),
                          ("net.init_audio is for the encoder that is left out", {**supervised, "net.init_audio": "/a.safetensors"})):
        said = place.xdc("run", "-c", config, "-n", *sets({"net.encoders": "video", **options}), expect=78).stderr
        assert says in said, said
    assert "good" in place.xdc("run", "-c", config, "-n", *sets({"net.encoders": "video", **supervised})).stdout


def main():
    place = Place(sys.argv[1])
    clips, drawn = Clips(place), place.path("drawn")
    first = clips.index("drawn", clips.rows(0))
    place.xdc("run", "-c", write_config(place, first, drawn), "--set", "train.rounds=0")  # networks as drawn, for files as these
    encoder, manifests, result = two_splits(place, clips, drawn)
    what_learns(place, encoder, manifests[0], result)
    interrupted(place, encoder, manifests[0])
    sounds = sound_alone(place, clips, drawn)
    pictures_alone(place, clips, drawn, sounds)
    classes(place, clips, encoder, manifests[0])
    refusals(place, clips, drawn, encoder, manifests[0])
    one_encoder(place, clips, manifests[0])
    assert not place.processes()
    place.close()
    print("finetune: as computed anew")


if __name__ == "__main__":
    main()
