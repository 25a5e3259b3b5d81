#!/usr/bin/env python3
"""Makes a folder of small media files that between them hold what decoders meet: codecs, containers, reordering, time stamps,
shapes and pixel formats. Each is made by one command of the ffmpeg program, from generated pictures and sound.
usage: make_corpus.py FOLDER"""
import concurrent.futures
import os
import subprocess
import sys

SECONDS = 3


def video(size="192x144", rate=30, more=""):
    return ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={SECONDS}{more}"]


def sound(rate=48000):
    return ["-f", "lavfi", "-i", f"aevalsrc='0.3*sin(2*PI*(300+150*t)*t)|0.2*sin(2*PI*700*t)':s={rate}:d={SECONDS}"]


X264 = ["-c:v", "libx264", "-preset", "veryfast"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params"]
AAC = ["-c:a", "aac", "-b:a", "96k"]

# name: inputs, options. AV: video and sound.
V, A = video(), sound()
FILES = {
    "h264-gop12.mp4": (V + A, X264 + ["-g", "12", "-bf", "0"] + AAC),
    "h264-b3.mp4": (V + A, X264 + ["-g", "60", "-bf", "3", "-preset", "medium"] + AAC),
    "h264-b3.mkv": (V + A, X264 + ["-g", "60", "-bf", "3", "-preset", "medium", "-c:a", "libopus"]),
    "h264-one-gop.mov": (V + A, X264 + ["-g", "250", "-bf", "4", "-x264-params", "b-pyramid=strict", "-c:a", "pcm_s16le"]),
    "h264-open-gop.mp4": (V, X264 + ["-bf", "3", "-x264-params", "open-gop=1:keyint=20:min-keyint=20:scenecut=0"]),
    "h264-intra-refresh.mp4": (V, X264 + ["-bf", "0", "-x264-params", "intra-refresh=1:keyint=20"]),
    "h264-10bit.mp4": (V, X264 + ["-pix_fmt", "yuv420p10le", "-g", "30"]),
    "h264-422.mkv": (V, X264 + ["-pix_fmt", "yuv422p", "-g", "30"]),
    "h264-444-odd.mkv": (video("161x121"), X264 + ["-pix_fmt", "yuv444p", "-g", "30"]),
    "h264-full-range.mp4": (V, X264 + ["-vf", "scale=out_range=full", "-pix_fmt", "yuvj420p", "-color_range", "pc", "-g", "30"]),
    "h264-bt709.mp4": (V, X264 + ["-vf", "scale=out_color_matrix=bt709", "-pix_fmt", "yuv420p", "-colorspace", "bt709", "-g", "30"]),
    "h264-interlaced.ts": (V + A, X264 + ["-vf", "interlace", "-pix_fmt", "yuv420p", "-flags", "+ildct+ilme", "-g", "15", "-c:a", "mp2"]),
    "h264.ts": (V + A, X264 + ["-pix_fmt", "yuv420p", "-g", "30", "-bf", "2"] + AAC),
    "h264.flv": (V + A, X264 + ["-pix_fmt", "yuv420p", "-g", "30", "-bf", "2"] + AAC),
    "h264-fragmented.mp4": (V + A, X264 + ["-g", "24", "-movflags", "frag_keyframe+empty_moov"] + AAC),
    "h264-60fps.mp4": (video(rate=60), X264 + ["-g", "60", "-bf", "3"]),
    "h264-12fps.mp4": (video(rate=12), X264 + ["-g", "24", "-bf", "3"]),
    "h264-vfr.mp4": (V, X264 + ["-vf", "select='mod(n,3)*mod(n,7)+eq(mod(n,11),0)'", "-fps_mode", "vfr", "-g", "20", "-bf", "2"]),
    "h264-vfr.mkv": (V, X264 + ["-vf", "select='gt(mod(n,9),3)'", "-fps_mode", "vfr", "-g", "20", "-bf", "2"]),
    "h264-offset.mkv": (V + A, X264 + ["-g", "30", "-bf", "2", "-output_ts_offset", "1.4"] + AAC),
    "h264-offset.ts": (V + A, X264 + ["-pix_fmt", "yuv420p", "-g", "30", "-bf", "2", "-output_ts_offset", "3.3"] + AAC),
    "h264-offset.mp4": (V + A, X264 + ["-g", "30", "-bf", "2", "-output_ts_offset", "0.7"] + AAC),
    "h264-sar.mp4": (V, X264 + ["-vf", "setsar=4/3", "-g", "30"]),
    "h264-tall-sar.mkv": (video("96x192"), X264 + ["-vf", "setsar=3/2", "-g", "30"]),
    "hevc-b.mp4": (V + A, X265 + ["log-level=none:keyint=30:bframes=3", "-pix_fmt", "yuv420p"] + AAC),
    "hevc-closed.mkv": (V, X265 + ["log-level=none:keyint=45:bframes=4:open-gop=0", "-pix_fmt", "yuv420p"]),
    "hevc-10bit.mp4": (V, X265 + ["log-level=none:keyint=30", "-pix_fmt", "yuv420p10le"]),
    "vp8.webm": (V + A, ["-c:v", "libvpx", "-b:v", "300k", "-g", "30", "-auto-alt-ref", "1", "-lag-in-frames", "12",
                         "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libvorbis"]),
    "vp9.webm": (V + A, ["-c:v", "libvpx-vp9", "-b:v", "300k", "-g", "30", "-auto-alt-ref", "1", "-lag-in-frames", "12",
                         "-deadline", "good", "-cpu-used", "8", "-c:a", "libopus"]),
    "vp9-odd.webm": (video("175x101"), ["-c:v", "libvpx-vp9", "-b:v", "300k", "-g", "30", "-deadline", "realtime", "-cpu-used", "8"]),
    "av1.mkv": (V, ["-c:v", "libsvtav1", "-preset", "12", "-g", "30", "-pix_fmt", "yuv420p"]),
    "av1.mp4": (V + A, ["-c:v", "libsvtav1", "-preset", "12", "-g", "60", "-pix_fmt", "yuv420p"] + AAC),
    "mpeg4-b.mp4": (V + A, ["-c:v", "mpeg4", "-bf", "2", "-g", "30", "-q:v", "4"] + AAC),
    "mpeg4.avi": (V + A, ["-c:v", "mpeg4", "-g", "30", "-q:v", "4", "-c:a", "libmp3lame"]),
    "mpeg4-odd.mp4": (video("163x99"), ["-c:v", "mpeg4", "-g", "12", "-q:v", "4"]),
    "mpeg2.ts": (V + A, ["-c:v", "mpeg2video", "-bf", "2", "-g", "15", "-q:v", "4", "-c:a", "mp2"]),
    "mpeg2.mkv": (V, ["-c:v", "mpeg2video", "-bf", "2", "-g", "15", "-q:v", "4"]),
    "mjpeg.avi": (V + A, ["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj422p", "-c:a", "pcm_s16le"]),
    "mjpeg.mov": (V, ["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"]),
    "theora.ogg": (V + A, ["-c:v", "libtheora", "-g", "30", "-q:v", "6", "-c:a", "libvorbis"]),
    "still.png": (V, ["-frames:v", "1"]),
    "still.jpg": (V, ["-frames:v", "1", "-q:v", "3"]),
    "two-videos.mkv": (V + video("320x240") + A, ["-map", "0", "-map", "1", "-map", "2"] + X264 + ["-g", "30"] + AAC),
    "sound.wav": (A, ["-c:a", "pcm_s16le"]),
    "sound.mp3": (A, ["-c:a", "libmp3lame"]),
    "sound.flac": (sound(44100), ["-c:a", "flac"]),
    "sound.ogg": (A, ["-c:a", "libvorbis"]),
    "sound.m4a": (sound(44100), AAC),
}
# Made of other files, without encoding again.
COPIES = {
    "h264-edit.mp4": ("h264-b3.mp4", ["-ss", "1.13"], ["-c", "copy"]),
    "h264-turned-90.mp4": ("h264-gop12.mp4", [], ["-c", "copy", "-metadata:s:v", "rotate=90"]),
    "h264-turned-180.mp4": ("h264-b3.mp4", [], ["-c", "copy", "-metadata:s:v", "rotate=180"]),
    "h264-turned-270.mov": ("h264-gop12.mp4", [], ["-c", "copy", "-metadata:s:v", "rotate=270"]),
}


def ffmpeg(*args, stdout=None):
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", "-threads", "1", *args], check=True, stdout=stdout,
                   stderr=subprocess.DEVNULL)


def make(folder, name):
    path = os.path.join(folder, name)
    if os.path.exists(path):
        return
    part = os.path.join(folder, "part-" + name)
    if name in COPIES:
        source, before, after = COPIES[name]
        ffmpeg(*before, "-i", os.path.join(folder, source), *after, part)
    elif name == "h264-no-cues.mkv":
        with open(part, "wb") as f:
            ffmpeg("-i", os.path.join(folder, "h264-b3.mkv"), "-c", "copy", "-f", "matroska", "-", stdout=f)
    else:
        inputs, options = FILES[name]
        ffmpeg(*inputs, *options, part)
    os.rename(part, path)


def make_corpus(folder):
    """Makes what is not there yet; returns the names of all files."""
    os.makedirs(folder, exist_ok=True)
    later = [*COPIES, "h264-no-cues.mkv"]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda n: make(folder, n), FILES))
        list(pool.map(lambda n: make(folder, n), later))
    return [*FILES, *later]


if __name__ == "__main__":
    print(len(make_corpus(sys.argv[1])), "files in", sys.argv[1])
