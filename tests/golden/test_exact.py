#!/usr/bin/env python3
"""Frames of `xdc decode` against a full decode by the ffmpeg program, from the first frame to the last, scaled by the same
filter: equal bit for bit with --scaling exact, within 1.5 levels in the mean with fast. Sound against numpy's log-mel of the
full decode. Over a made corpus, and over ../shared/data/media where it is there.
usage: test_exact.py BIN_DIR CORPUS_DIR [--long]"""
import concurrent.futures
import json
import os
import random
import re
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)
import logmel  # noqa: E402
from make_corpus import make_corpus  # noqa: E402

T, SIDE, CROP = 6, 64, 56
FLAGS = "bilinear+accurate_rnd+full_chroma_int+bitexact"
FAST_LEVELS = 1.5
LOG_MEL = 1e-3  # of the natural log
LOG_MEL_NOISE = 0.05  # of AAC, which fills bands with noise from a generator: another one where decoding begins elsewhere
# Of these the place of every sample is known without our code: streams start at 0, and time stamps are exact. (Matroska rounds
# to milliseconds, and MP3 and Ogg count their priming as time, which a plain list of samples does not.)
SOUND = {"h264-gop12.mp4", "h264-one-gop.mov", "sound.wav", "sound.flac", "sound.m4a", "mjpeg.avi", "mpeg4-b.mp4"}


def probe(path):
    out = subprocess.run(["ffprobe", "-v", "error", "-show_streams", "-of", "json", path], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out)["streams"]


def rational(text, other):
    a, _, b = (text or "").partition(":" if ":" in (text or "") else "/")
    return (int(a), int(b)) if a.isdigit() and b.isdigit() and int(a) and int(b) else other


def turns_of(stream):
    for side in stream.get("side_data_list", []):
        if "rotation" in side:
            return (-int(side["rotation"]) // 90) % 4
    return 0


def best_video(streams):
    """Of several streams one that the file marks as its default, the largest of those."""
    videos = [s for s in streams if s["codec_type"] == "video"]
    return max(videos, key=lambda s: (s["disposition"]["default"], s["width"] * s["height"])) if videos else None


class Reference:
    """All frames of a file: times from the first one, and pictures [n, CROP, CROP, 3]."""

    def __init__(self, path):
        streams = probe(path)
        stream = best_video(streams)
        self.video, self.audio = stream is not None, any(s["codec_type"] == "audio" for s in streams)
        if not self.video:
            return
        w, h, turns = stream["width"], stream["height"], turns_of(stream)
        num, den = rational(stream.get("sample_aspect_ratio"), (1, 1))
        shown = (w * num + den // 2) // den, h
        if turns & 1:
            shown = shown[::-1]
        if shown[0] <= shown[1]:
            scaled = SIDE, (SIDE * shown[1] + shown[0] // 2) // shown[0]
        else:
            scaled = (SIDE * shown[0] + shown[1] // 2) // shown[1], SIDE
        sw, sh = scaled[::-1] if turns & 1 else scaled
        done = subprocess.run(
            ["ffmpeg", "-nostdin", "-threads", "1", "-noautorotate", "-i", path, "-map", f"0:{stream['index']}", "-copyts", "-vf",
             f"showinfo,scale={sw}:{sh}:flags={FLAGS}", "-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-f", "rawvideo", "-"],
            check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        log = done.stderr.decode(errors="replace")
        base = re.search(r"config in time_base: (\d+)/(\d+)", log)
        tick = int(base.group(1)) / int(base.group(2))
        pts = np.array([int(x) for x in re.findall(r" n: *\d+ pts: *(-?\d+) ", log)])
        frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, sh, sw, 3)
        assert len(pts) == len(frames), (path, len(pts), len(frames))
        frames = np.rot90(frames, -turns, axes=(1, 2))
        y, x = (frames.shape[1] - CROP) // 2, (frames.shape[2] - CROP) // 2
        self.frames = frames[:, y:y + CROP, x:x + CROP]
        self.times = (pts - pts[0]) * tick
        self.still = len(pts) == 1

    def clip(self, start, fps):
        """The frame rule of lib/media/video_decode.h."""
        n, eps = len(self.times), 1e-6
        if fps > 0:
            at = [max(0, int(np.searchsorted(self.times, start + i / fps + eps, "right")) - 1) for i in range(T)]
        else:
            first = int(np.searchsorted(self.times, start - eps, "left"))
            first = max(0, min(first, n - T))
            at = [min(first + i, n - 1) for i in range(T)]
        return self.frames[at]


def decode(place, path, starts, fps, scaling, sound=False):
    name = os.path.join(place, "out.npy")
    args = [f for s in starts for f in ("--start", repr(s))] + ["--frames", str(T), "--fps", str(fps)]
    out = ["--audio-out", name] if sound else ["--video-out", name, "--size", str(CROP), "--resize", str(SIDE), "--scaling", scaling]
    run = subprocess.run([XDC, "decode", path, *args, *out], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode:
        return None, run.stdout.decode()
    return np.load(name), ""


def check_video(place, path, ref, starts):
    faults, worst = [], 0
    for fps in (30, 12.5, 0):
        for scaling in ("exact", "fast") if fps == 30 else ("exact",):
            got, why = decode(place, path, starts, fps, scaling)
            if got is None:
                faults.append(f"fps {fps}: {why.strip()}")
                continue
            for start, frames in zip(starts, got):
                difference = np.abs(frames.astype(int) - ref.clip(start, fps))
                if scaling == "exact" and difference.any():
                    bad = [i for i in range(T) if difference[i].any()]
                    where = [int(np.argmin(np.abs(ref.frames.astype(int) - frames[i]).mean(axis=(1, 2, 3)))) for i in bad]
                    faults.append(f"start {start} fps {fps}: frames {bad} differ, mean {difference[bad].mean():.2f}; they are like "
                                  f"{where} of the full decode")
                if scaling == "fast":
                    worst = max(worst, difference.mean())
    if worst > FAST_LEVELS:
        faults.append(f"fast mode: {worst:.2f} levels")
    return faults, worst


def check_sound(place, path, starts):
    """The log-mel that numpy makes of the whole file's sound, by tests/golden/logmel.py's definition."""
    pcm = subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:a:0", "-af",
                          "aresample=16000:out_chlayout=mono:out_sample_fmt=flt:rematrix_maxval=1.0", "-f", "f32le", "-"],
                         check=True, stdout=subprocess.PIPE).stdout
    wave = np.frombuffer(pcm, np.float32).astype(np.float64)
    got, why = decode(place, path, starts, 30, "fast", sound=True)
    if got is None:
        return [why.strip()]
    faults = []
    is_aac = any(s["codec_name"] == "aac" for s in probe(path))
    for start, ours in zip(starts, got):
        seconds = float(probe_duration(path))
        first = round(max(0.0, min(start + T / 30 / 2 - 1, seconds - 2)) * 16000)
        window = wave[first:first + 32000]
        x = np.pad(np.pad(window, (0, 32000 - len(window))), 256, mode="reflect")
        hann = np.zeros(512)
        hann[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
        frames = np.stack([x[t * 320:t * 320 + 512] * hann for t in range(100)])
        theirs = np.log(logmel.filters() @ (np.abs(np.fft.rfft(frames)) ** 2).T + 1e-6)
        difference = np.abs(ours - theirs).max(axis=0)
        if difference.max() > (LOG_MEL_NOISE if is_aac and first else LOG_MEL):
            faults.append(f"sound at {start}: the log-mel differs by {difference.max():.4f} in columns {np.flatnonzero(difference > LOG_MEL)}")
    return faults


def probe_duration(path):
    """Of the picture, else of the sound: what the window is clamped to."""
    streams = probe(path)
    best = [s for s in streams if s["codec_type"] == "video"] or streams
    if "duration" in best[0]:
        return best[0]["duration"]
    out = subprocess.run(["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path], check=True,
                         stdout=subprocess.PIPE).stdout
    return out.decode().strip()


def check_file(path, long):
    name = os.path.basename(path)
    rng = random.Random(name)
    with tempfile.TemporaryDirectory() as place:
        ref = Reference(path)
        heard = check_sound(place, path, [0.0, 0.4, 1.3, 1.77]) if name in SOUND else []
        if not ref.video:
            return name, heard, 0
        end = float(ref.times[-1])
        starts = [0.0, end * 0.5, max(0.0, end - 0.1)] + [rng.uniform(0, end) for _ in range(13 if long else 4)]
        faults, worst = check_video(place, path, ref, [round(s, 4) for s in starts][:16])
        return name, heard + faults, worst


def main():
    global XDC
    XDC = os.path.join(sys.argv[1], "xdc")
    long = "--long" in sys.argv or bool(os.environ.get("XDC_LONG"))
    corpus = sys.argv[2]
    paths = [os.path.join(corpus, n) for n in make_corpus(corpus)]
    media = os.path.join(HERE, "..", "..", "..", "shared", "data", "media")
    if os.path.isdir(media):
        paths += [os.path.join(media, n) for n in sorted(os.listdir(media))]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, faults, worst in pool.map(lambda p: check_file(p, long), paths):
            failed += bool(faults)
            print(f"{'FAIL' if faults else 'ok  '} {name}: fast differs by {worst:.3f} levels", flush=True)
            for f in faults[:4]:
                print("     " + f, flush=True)
    assert not failed, f"{failed} files differ"


if __name__ == "__main__":
    main()
