#!/usr/bin/env python3
"""`xdc embed`: an exported encoder gives for new files what the run that trained it gave, the rows say which seconds they are, a call
that was killed goes on, and a file that is no such encoder is refused by name. And the run without rounds that it is made of.
usage: test_embed.py BIN_DIR"""
import json
import math
import os
import random
import shutil
import struct
import sys
import wave

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, copy_clips, make_manifest_with, outcome_differs, sets, write_config  # noqa: E402

LIKE_THE_RUN = {"train.batch": 8, "train.threads": 1, "decoder.workers": 2}  # the last bits hang on the batch and the threads
ITS_TIMES = dict(LIKE_THE_RUN, **{"data.clip_times": "random", "run.seed": 3})
SPLITS = ("train", "train", "val", "test")


def rows_of(out):
    return [json.loads(line) for line in open(os.path.splitext(out)[0] + ".jsonl")]


def embed(place, name, encoder, manifest, *args, options=LIKE_THE_RUN, expect=0):
    """(features, rows, summary) of a call that works."""
    out = place.path(name)
    p = place.xdc("embed", encoder, manifest, "--out", out, "--json", *args, *sets(options), expect=expect)
    assert not os.path.exists(out + ".run"), "the run's directory is still there"
    rows, summary = rows_of(out), json.loads(p.stdout)
    features = np.load(out) if out.endswith(".npy") else np.array([r["features"] for r in rows], "f4")
    assert features.dtype == np.float32 and features.shape == (len(rows), summary["dim"]), features.shape
    assert [r["row"] for r in rows] == list(range(len(rows))) and summary["rows"] == len(rows)
    assert np.isfinite(features).all()
    return features, rows, summary


def only_extracts(place, manifest, run):
    """A run without rounds has one dump, no labels, and exports; with rounds it goes on as if they had been there from the start."""
    place.xdc("run", "-c", write_config(place, manifest, run), "--set", "train.rounds=0")
    assert os.listdir(os.path.join(run, "features")) == ["round-0000"] and not os.path.exists(os.path.join(run, "labels"))
    assert not os.path.exists(os.path.join(run, "logs", "clusterer.log")), "a clusterer was started"
    assert "finished" in place.xdc("run", "-c", place.path("xdc.yaml"), "--set", "train.rounds=0").stdout
    encoder = os.path.join(run, "export", "video.safetensors")
    first = open(encoder, "rb").read()
    place.xdc("run", "-c", place.path("xdc.yaml"), "--set", "train.rounds=1")
    assert first != open(encoder, "rb").read(), "nothing was trained"
    calm = place.path("calm")
    place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"), "--set", "train.rounds=1")
    differs = outcome_differs(calm, run)
    assert not differs, f"not equal to a run that had the round from the start: {differs}"


def splits(place, manifest):
    """data.split in a run: features of its videos and of no others."""
    for split, want in (("val", {"val"}), ("all", {"train", "val", "test"})):
        run, out = place.path("split-" + split), place.path(split + ".npy")
        place.xdc("run", "-c", write_config(place, manifest, run, split + ".yaml"), "--set", "train.rounds=0",
                  "--set", f"data.split={split}")
        place.xdc("features", run, "--round", "last", "--modality", "audio", "--out", out)
        there = ~np.isnan(np.load(out)).any(1)
        assert [bool(x) for x in there] == [SPLITS_OF[i] in want for i in range(24)], (split, there)


def equal_to_the_run(place, manifest, run):
    """The same clips through the exported encoder: the features of the run's last dump, bit for bit."""
    for modality in ("video", "audio"):
        place.xdc("features", run, "--round", "last", "--modality", modality, "--out", place.path("own.npy"))
        own = np.load(place.path("own.npy"))
        options = dict(ITS_TIMES, **({"video.frames": 4, "video.fps": 10} if modality == "audio" else {}))
        got, rows, _ = embed(place, modality + ".npy", os.path.join(run, "export", modality + ".safetensors"), manifest,
                             "--clips", 1, "--split", "train", options=options)
        mine = own[[r["video"] for r in rows]]
        assert len(rows) == 12 and {r["split"] for r in rows} == {"train"}
        assert np.isnan(np.delete(own, [r["video"] for r in rows], 0)).all(), "by itself a run takes the split train"
        assert not np.isnan(mine).any() and (got == mine).all(), (modality, np.abs(got - mine).max())
        assert len(np.unique(got, axis=0)) > 6, "the features do not tell clips apart"
    print("video and audio: equal to the run's dump, bit for bit", flush=True)


def clips_of_videos(place, manifest, encoder):
    features, rows, summary = embed(place, "three.npy", encoder, manifest, "--clips", 3)
    assert summary["videos"] == 24 and len(rows) == 72 and summary["failed_clips"] == 0 and summary["failed"]["files"] == []
    durations = {}
    for video in range(24):
        mine = rows[3 * video:3 * video + 3]
        assert [r["clip"] for r in mine] == [0, 1, 2] and {r["video"] for r in mine} == {video}, mine
        assert {r["split"] for r in mine} == {SPLITS_OF[video]} and mine[0]["label"] and mine[0]["uri"].endswith(".mp4"), mine
        start = [r["start_s"] for r in mine]
        assert start[0] == 0 and start[2] > 1 and abs(start[1] - start[2] / 2) < 1e-6, start
        assert all(abs(r["seconds"] - 0.4) < 1e-9 for r in mine), mine  # 4 frames at 10 a second
        durations[video] = start[2] + 0.4
    as_json, same, _ = embed(place, "three-json.jsonl", encoder, manifest, "--clips", 3)
    assert (as_json == features).all() and [r["start_s"] for r in same] == [r["start_s"] for r in rows]
    assert not os.path.exists(place.path("three-json.npy"))

    _, rows, _ = embed(place, "dense.npy", encoder, manifest, "--window", 0.4, "--stride", 0.3, "--split", "test")
    assert {r["split"] for r in rows} == {"test"}
    for video in {r["video"] for r in rows}:
        start = [r["start_s"] for r in rows if r["video"] == video]
        n = math.floor((durations[video] - 0.2) / 0.3 + 1e-6) + 1
        assert len(start) == n and all(abs(s - 0.3 * k) < 1e-6 for k, s in enumerate(start)), (video, start, durations[video])

    # A window of two clips' length is the mean of the clips that begin and end it.
    single, _, _ = embed(place, "single.npy", encoder, manifest, "--window", 0, "--split", "test")
    double, rows, _ = embed(place, "double.npy", encoder, manifest, "--window", 0.8, "--split", "test")
    first = [i for i, r in enumerate(rows) if r["clip"] == 0]
    ones = [i for i, r in enumerate(rows_of(place.path("single.npy"))) if r["clip"] == 0]
    want = (single[ones].astype("f8") + single[[i + 1 for i in ones]]) / 2
    assert np.allclose(double[first], want, rtol=1e-5, atol=1e-6) and abs(rows[1]["start_s"] - 0.8) < 1e-9


def sounds(place, run):
    """Files without pictures: rows for an audio encoder, a reason for a video encoder."""
    folder, manifest = place.path("sounds"), place.path("sounds.lmdb")
    os.mkdir(folder)
    noise = random.Random(1)
    for name, seconds in (("a.wav", 5.0), ("b.wav", 2.0), ("c.wav", 0.5)):
        with wave.open(os.path.join(folder, name), "wb") as w:
            w.setnchannels(1)
            w.setsampwidth(2)
            w.setframerate(16000)
            w.writeframes(b"".join(struct.pack("<h", noise.randrange(-9000, 9000)) for _ in range(int(16000 * seconds))))
    place.xdc("index", folder, "--out", manifest)
    audio, video = (os.path.join(run, "export", m + ".safetensors") for m in ("audio", "video"))
    _, rows, _ = embed(place, "sounds.npy", audio, manifest, "--clips", 3)
    got = [(r["uri"], r["clip"], r["start_s"], r["seconds"]) for r in rows]
    assert got == [("a.wav", 0, 0, 2), ("a.wav", 1, 1.5, 2), ("a.wav", 2, 3, 2), *(("b.wav", i, 0, 2) for i in range(3)),
                   *(("c.wav", i, 0, 2) for i in range(3))], got
    assert {(r["label"], r["split"]) for r in rows} == {(None, None)}
    _, rows, _ = embed(place, "seconds.npy", audio, manifest, "--window", 1)
    got = [(r["uri"], r["start_s"]) for r in rows]
    assert got == [*(("a.wav", i) for i in range(5)), ("b.wav", 0), ("b.wav", 1), ("c.wav", 0)], got
    said = place.xdc("embed", video, manifest, "--clips", 1, "--out", place.path("none.npy"), *sets(LIKE_THE_RUN), expect=65)
    assert "no clip of" in said.stderr and "a.wav: no_video (1)" in said.stdout, said
    assert os.path.isdir(place.path("none.npy.run")) and not os.path.exists(place.path("none.npy"))


def silent(place, run):
    """Videos without sound: rows for a video encoder, a reason for an audio encoder."""
    clips, manifest = place.path("flawed"), place.path("flawed.lmdb")
    copy_clips(place, 28, True, clips)
    place.xdc("index", clips, "--out", manifest)
    lacking = {}
    for modality in ("video", "audio"):
        _, rows, summary = embed(place, "flawed.npy", os.path.join(run, "export", modality + ".safetensors"), manifest, "--clips", 2)
        files = {f["uri"]: f["reason"] for f in summary["failed"]["files"]}
        assert sum(summary["failed"]["reasons"].values()) == summary["failed_clips"] == summary["clips"] - len(rows), summary
        lacking[modality] = files
    mute = {u for u, reason in lacking["audio"].items() if reason in ("no_audio", "audio_silent")}
    assert len(mute) >= 2 and not mute & lacking["video"].keys(), lacking


def goes_on(place, manifest, encoder):
    """Killed in the middle, and its trainer alone: the same files in the end."""
    calm, _, _ = embed(place, "calm.npy", encoder, manifest, "--clips", 20)
    out = place.path("killed.npy")
    args = ("embed", encoder, manifest, "--clips", 20, "--out", out, *sets(LIKE_THE_RUN))
    half = place.start("xdc", *args)

    def extracting():
        assert half.poll() is None, "it ended too early: " + half.stdout.read()
        s = place.status("trainer-0")
        return s and s["phase"] == "extract" and s["done"] > 60 and s
    os.kill(place.wait("half of the clips", extracting)["pid"], 9)
    half.kill()
    half.communicate()
    place.wait("all processes are gone", lambda: not place.processes())
    assert os.path.isdir(out + ".run") and not os.path.exists(out) and not os.path.exists(place.path("killed.jsonl"))
    place.xdc(*args)
    assert (np.load(out) == calm).all() and not os.path.exists(out + ".run")
    assert open(place.path("killed.jsonl")).read() == open(place.path("calm.jsonl")).read()

    out = place.path("stopped.npy")
    args = ("embed", encoder, manifest, "--clips", 20, "--out", out, *sets(LIKE_THE_RUN))
    half = place.start("xdc", *args)
    place.wait("some of the clips", extracting)
    status, said = place.stop(half)
    assert status == 75 and "the same command goes on" in said, (status, said)
    other = place.xdc("embed", encoder, manifest, "--clips", 2, "--out", out, *sets(LIKE_THE_RUN))
    assert "of another encoder or other options" in other.stderr and len(np.load(out)) == 48


def with_metadata(path, out, **changes):
    """A copy of a safetensors file with other metadata; None removes."""
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    for key, value in changes.items():
        header["__metadata__"].pop("xdc." + key, None)
        if value is not None:
            header["__metadata__"]["xdc." + key] = value
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(out, "wb").write(struct.pack("<Q", len(text)) + text + data[8 + n:])
    return out


def refusals(place, manifest, run):
    video, audio = (os.path.join(run, "export", m + ".safetensors") for m in ("video", "audio"))
    text, cut, x = place.path("text.safetensors"), place.path("cut.safetensors"), place.path("x.safetensors")
    open(text, "w").write("no encoder")
    open(cut, "wb").write(open(video, "rb").read()[:-100])
    for status, says, encoder, *args in (
            (66, "no such file", place.path("nowhere.safetensors")), (65, "text.safetensors", text), (65, "cut.safetensors", cut),
            (65, "lacks xdc.encoder", with_metadata(video, place.path("a.safetensors"), encoder=None)),
            (65, "does not record video.fps", with_metadata(video, place.path("b.safetensors"), fps=None)),
            (65, "lacks xdc.log_mel", with_metadata(audio, place.path("c.safetensors"), log_mel=None)),
            (65, "front end is unknown", with_metadata(audio, place.path("d.safetensors"), front_end="8 kHz")),
            (65, "tensors do not fit", with_metadata(video, place.path("e.safetensors"), flavour="torchvision")),
            (65, "tensors do not fit", with_metadata(audio, place.path("f.safetensors"), width="8")),
            (78, "net.video_width", with_metadata(video, place.path("g.safetensors"), width="1")),
            (78, "has video.crop 32", video, "--set", "video.crop=16"),
            (78, "has net.flavour xdc", video, "--set", "net.flavour=torchvision"),
            (78, "embed sets train.rounds itself", video, "--set", "train.rounds=3"),
            (78, "decoder.wokers", video, "--set", "decoder.wokers=2"),
            (64, "not both", video, "--clips", 3, "--window", 1)):
        said = place.xdc("embed", encoder, manifest, "--out", place.path("x.npy"), *args, expect=status).stderr
        assert says.lower() in said.lower(), (says, said)
        assert not os.path.exists(place.path("x.npy"))
    shutil.rmtree(place.path("x.npy.run"))
    place.xdc("embed", video, manifest, "--out", place.path("x.txt"), expect=64)
    place.xdc("embed", video, place.path("nowhere.lmdb"), "--out", place.path("x.npy"), expect=66)
    assert not os.path.exists(place.path("x.npy.run")), "refused, but something was begun"

    # A network without a run does not record its input: with it given it serves.
    place.xdc("export", "--init", "r3d_10", "--width", 4, "--out", x)
    said = place.xdc("embed", x, manifest, "--out", place.path("x.npy"), expect=65).stderr
    assert "does not record video.frames, video.fps, video.resize, video.crop" in said, said
    given = {"video.frames": 4, "video.fps": 10, "video.resize": 32, "video.crop": 32, "video.scaling": "fast"}
    features, _, _ = embed(place, "x.npy", x, manifest, "--clips", 1, options=dict(LIKE_THE_RUN, **given))
    assert features.shape == (24, 32)


def main():
    global SPLITS_OF
    place = Place(sys.argv[1])
    manifest = make_manifest_with(place, 24, lambda i: SPLITS[i % 4])
    run = place.path("run")
    only_extracts(place, manifest, run)
    encoder = os.path.join(run, "export", "video.safetensors")
    _, rows, _ = embed(place, "all.npy", encoder, manifest, "--clips", 1)
    by_uri = {line.split(",")[0]: line.split(",")[2] for line in open(place.path("clips", "splits.csv")).read().splitlines()[1:]}
    SPLITS_OF = [by_uri[r["uri"]] for r in rows]
    for check in (lambda: equal_to_the_run(place, manifest, run), lambda: splits(place, manifest),
                  lambda: clips_of_videos(place, manifest, encoder), lambda: sounds(place, run), lambda: silent(place, run),
                  lambda: goes_on(place, manifest, encoder), lambda: refusals(place, manifest, run)):
        check()
    place.close()
    print("embed: as the run had it")


if __name__ == "__main__":
    main()
