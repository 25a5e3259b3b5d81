#!/usr/bin/env python3
"""The decoders a user would pick, each as well tuned as we could, on a list of clips (a path and a start a line): 8 frames of
112 x 112 at 30 frames/s from the short side 128, centre crop, u8 RGB, in one thread. Prints CPU milliseconds a clip.
usage: decode_peers.py PEER LIST [--dump FILE.npy]"""
import json
import os
import sys
import time

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
import numpy as np  # noqa: E402

T, FPS, SIDE, CROP, WARM = 8, 30, 128, 112, 3


def crop(a):
    y, x = (a.shape[0] - CROP) // 2, (a.shape[1] - CROP) // 2
    return a[y:y + CROP, x:x + CROP]


def scaled(w, h):
    return (SIDE, (SIDE * h + w // 2) // w) if w <= h else ((SIDE * w + h // 2) // h, SIDE)


def pyav(nonref, audio=False):
    """PyAV: seek to the key frame, decode in one thread, convert the wanted frames alone, scaled by swscale in one step. With
    nonref, frames that nothing refers to are left out until a safe distance before the first wanted one."""
    import av
    mel = None
    if audio:
        import torch
        import torchaudio
        torch.set_num_threads(1)
        mel = torchaudio.transforms.MelSpectrogram(sample_rate=16000, n_fft=512, win_length=400, hop_length=320, f_min=0, f_max=8000,
                                                   n_mels=40, power=2, norm=None, mel_scale="htk", center=True, pad_mode="reflect")

    def sound(box, start):
        s = box.streams.audio[0]
        first = max(0.0, min(start + T / FPS / 2 - 1, float(box.duration) / 1e6 - 2))
        box.seek(int(max(0.0, first - 0.15) / s.time_base), stream=s)
        resampler, wave, at = av.AudioResampler(format="flt", layout="mono", rate=16000), [], None
        for frame in box.decode(s):
            at = frame.time if at is None else at
            wave += [f.to_ndarray()[0] for f in resampler.resample(frame)]
            if frame.time > first + 2.05:
                break
        n = round((first - at) * 16000)
        x = torch.from_numpy(np.concatenate(wave)[n:n + 32000])
        return torch.log(mel(x)[:, :100] + 1e-6)

    def clip(path, start):
        with av.open(path) as box:
            s = box.streams.video[0]
            s.thread_type = "NONE"
            codec, base = s.codec_context, float(s.time_base)
            zero = (s.start_time or 0) * base
            times = [zero + start + i / FPS + 1e-6 for i in range(T)]
            box.seek(int((zero + start) / base), stream=s, backward=True)
            out, before, i = [], None, 0
            w, h = scaled(s.width, s.height)
            def put(f):
                out.append(crop(f.reformat(width=w, height=h, format="rgb24", interpolation="BILINEAR").to_ndarray()))
            for packet in box.demux(s):
                if nonref:
                    early = packet.pts is not None and packet.pts * base < times[0] - 0.05
                    codec.skip_frame = "NONREF" if early else "DEFAULT"
                for f in packet.decode():
                    while i < T and before is not None and f.time > times[i]:
                        out.append(out[-1]) if i and before is last else put(before)
                        last, i = before, i + 1
                    before = f
                if i == T:
                    break
            while i < T:
                put(before)
                i += 1
            if audio:
                sound(box, start)
            return np.stack(out)
    return clip


def torchcodec():
    import torch
    from torchcodec.decoders import VideoDecoder
    torch.set_num_threads(1)

    def clip(path, start):
        d = VideoDecoder(path, num_ffmpeg_threads=1, seek_mode="approximate")
        zero = d.metadata.begin_stream_seconds or 0
        frames = d.get_frames_played_at(seconds=[zero + start + i / FPS + 1e-6 for i in range(T)]).data
        w, h = scaled(frames.shape[3], frames.shape[2])
        small = torch.nn.functional.interpolate(frames, size=(h, w), mode="bilinear", antialias=True)
        y, x = (h - CROP) // 2, (w - CROP) // 2
        return small[:, :, y:y + CROP, x:x + CROP].permute(0, 2, 3, 1).contiguous().numpy()
    return clip


def decord():
    import decord as d
    sizes = {}

    def clip(path, start):
        if path not in sizes:
            f = d.VideoReader(path, ctx=d.cpu(0), num_threads=1)[0].shape
            sizes[path] = scaled(f[1], f[0])
        w, h = sizes[path]
        reader = d.VideoReader(path, ctx=d.cpu(0), width=w, height=h, num_threads=1)
        at = [min(len(reader) - 1, int((start + i / FPS + 1e-6) * reader.get_avg_fps())) for i in range(T)]
        frames = reader.get_batch(at).asnumpy()
        y, x = (h - CROP) // 2, (w - CROP) // 2
        return np.ascontiguousarray(frames[:, y:y + CROP, x:x + CROP])
    return clip


def torchvision():
    """torchvision's own reader; the wheels of PyPI are built without it and fall back to PyAV's full frames."""
    import torch
    from torchvision.io import read_video
    torch.set_num_threads(1)

    def clip(path, start):
        frames, _, _ = read_video(path, start_pts=start, end_pts=start + T / FPS + 0.01, pts_unit="sec", output_format="TCHW")
        frames = frames[:T]
        w, h = scaled(frames.shape[3], frames.shape[2])
        small = torch.nn.functional.interpolate(frames, size=(h, w), mode="bilinear", antialias=True)
        y, x = (h - CROP) // 2, (w - CROP) // 2
        return small[:, :, y:y + CROP, x:x + CROP].permute(0, 2, 3, 1).contiguous().numpy()
    return clip


PEERS = {"pyav": lambda: pyav(False), "pyav-nonref": lambda: pyav(True), "torchcodec": torchcodec, "decord": decord,
         "torchvision": torchvision, "pyav+torchaudio": lambda: pyav(True, True)}


def main():
    clip = PEERS[sys.argv[1]]()
    todo = [(p, float(s)) for p, s in (line.split() for line in open(sys.argv[2]))]
    for _ in range(WARM):
        clip(*todo[0])
    begin = time.process_time()
    out = [clip(*c) for c in todo]
    ms = (time.process_time() - begin) / len(todo) * 1e3
    if "--dump" in sys.argv:
        np.save(sys.argv[sys.argv.index("--dump") + 1], np.stack(out))
    print(json.dumps({"clips": len(todo), "ms": ms}))


if __name__ == "__main__":
    main()
