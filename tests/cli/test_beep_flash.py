#!/usr/bin/env python3
"""Sound and picture of one clip belong together: files in which the picture flashes white and the sound beeps at the same known
times, with constant and variable frame rates, times that do not start at 0 and sound that starts later, are decoded from 100
random places; in every clip both are found where the times say, within a frame. usage: test_beep_flash.py BIN_DIR"""
import os
import random
import subprocess
import sys
import tempfile

import numpy as np

PERIOD, LENGTH, SECONDS, T, FPS = 1.7, 0.3, 12, 60, 30
PICTURE = ["-f", "lavfi", "-i", f"color=black:size=64x64:rate=30:duration={SECONDS},geq=lum='if(lt(mod(T\\,{PERIOD})\\,{LENGTH})\\,235\\,16)':cb=128:cr=128"]


def beep(late=0):
    return ["-itsoffset", str(late), "-f", "lavfi", "-i",
            f"aevalsrc='if(lt(mod(t+{late},{PERIOD}),{LENGTH}),0.5*sin(2*PI*1000*t),0)':s=48000:d={SECONDS - late}"]


X264 = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "60", "-bf", "3"]
AAC = ["-c:a", "aac"]
FILES = {
    "constant.mp4": (PICTURE, beep(), X264 + AAC),
    "variable.mp4": (PICTURE, beep(), ["-vf", "select='not(eq(mod(n,4),1))'", "-fps_mode", "vfr"] + X264 + AAC),
    "offset.mkv": (PICTURE, beep(), ["-output_ts_offset", "2.35"] + X264 + ["-c:a", "libopus"]),
    "offset.ts": (PICTURE, beep(), ["-output_ts_offset", "5.1"] + X264 + ["-c:a", "mp2"]),
    "late-sound.mp4": (PICTURE, beep(3), X264 + AAC),
}


def make(place, name):
    picture, sound, options = FILES[name]
    path = os.path.join(place, name)
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *picture, *sound, *options, path], check=True)
    return path


def expected(seconds):
    return (seconds % PERIOD) < LENGTH


def margin(seconds):
    """Seconds to the nearest edge of a flash."""
    m = seconds % PERIOD
    return min(abs(m - e) for e in (0, LENGTH, PERIOD))


def check(name, start, frames, mel):
    """Flashes seen, beeps heard."""
    seen = heard = 0
    centre = start + T / FPS / 2
    window = max(0.0, min(centre - 1, SECONDS - 2))
    loud = np.exp(mel).max(axis=0) > 1e-2
    for i in range(T):
        t = start + i / FPS
        if t < SECONDS - 0.1 and margin(t) > 1.5 / FPS:
            white = frames[i].mean() > 128
            assert white == expected(t), f"{name} from {start}: the picture at {t:.3f} s is {'white' if white else 'black'}"
            seen += white
    for k in range(100):
        t = window + k * 0.02
        if margin(t) > 1 / FPS and t < SECONDS - 0.1 and not (name.startswith("late") and t < 3.1):
            assert loud[k] == expected(t), f"{name} from {start}: the sound at {t:.3f} s is {'loud' if loud[k] else 'silent'}"
            heard += loud[k]
    return seen, heard


def main():
    xdc, rng = os.path.join(sys.argv[1], "xdc"), random.Random(7)
    seen = heard = 0
    with tempfile.TemporaryDirectory() as place:
        for name in FILES:
            path = make(place, name)
            for _ in range(2):
                starts = sorted(round(rng.uniform(0, SECONDS - 2), 3) for _ in range(10))
                v, a = os.path.join(place, "v.npy"), os.path.join(place, "a.npy")
                subprocess.run([xdc, "decode", path, *[x for s in starts for x in ("--start", str(s))], "--frames", str(T), "--fps", str(FPS), "--size",
                                "32", "--keep-silent", "--video-out", v, "--audio-out", a], check=True)
                for start, frames, mel in zip(starts, np.load(v), np.load(a)):
                    s, h = check(name, start, frames, mel)
                    seen, heard = seen + s, heard + h
    assert seen > 100 and heard > 100, (seen, heard)
    print(f"100 clips: {seen} white frames and {heard} loud columns where they belong")


if __name__ == "__main__":
    main()
