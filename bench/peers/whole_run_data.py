"""Clips for bench/peers/whole_run.py, as PyTorch users load them: PyAV in the processes of one DataLoader, torchaudio's log-mel.

A worker makes a whole batch: frames u8 [n, T, P, P, 3] and log-mel [n, 1, 40, 100]. Its processes live through all phases of a
run: `Loader.batches(jobs)` gives them the jobs of a phase. What is tuned: the seek goes to the key frame before the clip, frames that
nothing refers to are left out before it, one thread a decoder, frames are scaled by one swscale context in one step and cropped when
they are small, mel spectra are made of a whole batch at once, workers yield to the training (nice). With --keep a worker keeps the
clips that it has decoded."""
import json
import math
import os

import av
import numpy as np
import torch
import torchaudio
from av.video.reformatter import VideoReformatter

RATE, SAMPLES, MELS, COLUMNS = 16000, 32000, 40, 100
AUDIO_PREROLL_S, EPSILON_S = 0.15, 1e-6


def index(labels, out):
    """The training videos of a labels.csv (path,label,split) with lengths and frame rates, as one JSON file."""
    folder, videos = os.path.dirname(os.path.abspath(labels)), []
    for line in open(labels).read().splitlines()[1:]:
        path, label, split = line.split(",")
        if split != "train":
            continue
        with av.open(os.path.join(folder, path)) as box:
            videos.append({"path": box.name, "name": path, "label": label, "seconds": box.duration / 1e6,
                           "fps": float(box.streams.video[0].average_rate)})
    with open(out, "w") as f:
        json.dump(videos, f)


class Clips:
    """One clip a video, at a time that is drawn once."""

    def __init__(self, videos, conf, seed, every_packet, keep):
        self.videos, self.video, self.augment, self.every_packet, self.keep = videos, conf["video"], conf["augment"], every_packet, keep
        u = np.random.default_rng([seed, 1]).random(len(videos))
        self.fps = [self.video["fps"] or v["fps"] for v in videos]
        self.start = [max(0.0, v["seconds"] - self.video["frames"] / f) * x for v, f, x in zip(videos, self.fps, u)]

    def draw(self, seed):
        """A training clip's augmentation; None: the centre, nothing moved."""
        if seed is None:
            return None
        rng, jitter = np.random.default_rng(seed), self.augment["crop_jitter_px"]
        width = int(rng.integers(self.augment["time_mask_frames"] + 1))
        return {"x": int(rng.integers(-jitter, jitter + 1)), "y": int(rng.integers(-jitter, jitter + 1)),
                "flip": rng.random() < self.augment["flip"], "shift": rng.uniform(-1, 1) * self.augment["audio_shift_s"],
                "mask": (int(rng.integers(COLUMNS - width + 1)), width)}


class Decoder:
    """What a worker keeps from clip to clip."""

    def __init__(self, clips):
        self.clips, self.side, self.length = clips, clips.video["crop"], clips.video["frames"]
        self.scaler = VideoReformatter()
        self.kept_frames, self.kept_waves = {}, {}  # by clip, of this worker
        self.mel = torchaudio.transforms.MelSpectrogram(sample_rate=RATE, n_fft=512, win_length=400, hop_length=320, f_min=0, f_max=8000,
                                                        n_mels=MELS, power=2, norm=None, mel_scale="htk", center=True, pad_mode="reflect")

    def scale(self, frame):
        """The whole picture, whose short side becomes `resize`."""
        short = self.clips.video["resize"]
        w, h = frame.width, frame.height
        w, h = (short, (short * h + w // 2) // w) if w <= h else ((short * w + h // 2) // h, short)
        return self.scaler.reformat(frame, width=w, height=h, format="rgb24", interpolation="BILINEAR", threads=1).to_ndarray()

    def crop(self, a, move):
        """The square; where it leaves the picture edges are repeated."""
        h, w = a.shape[:2]
        x, y = (w - self.side) // 2, (h - self.side) // 2
        if move:
            x, y = x + move["x"], y + move["y"]
        if x < 0 or y < 0 or x + self.side > w or y + self.side > h:
            rows, columns = np.arange(y, y + self.side).clip(0, h - 1), np.arange(x, x + self.side).clip(0, w - 1)
            a = a[rows[:, None], columns]
        else:
            a = a[y:y + self.side, x:x + self.side]
        return a[:, ::-1] if move and move["flip"] else a

    def frames(self, box, start, fps):
        """Whole pictures; frame i is the last one that is shown by start + i / fps."""
        s = box.streams.video[0]
        s.thread_type = "NONE"
        codec, base = s.codec_context, float(s.time_base)
        zero, margin = (s.start_time or 0) * base, 1.5 / float(s.average_rate)
        times = [zero + start + i / fps + EPSILON_S for i in range(self.length)]
        box.seek(int((zero + start) / base), stream=s, backward=True)
        out, before, last = [], None, None

        def put(frame):
            nonlocal last
            out.append(out[-1] if frame is last else self.scale(frame))
            last = frame

        for packet in box.demux(s):
            early = not self.clips.every_packet and packet.pts is not None and packet.pts * base < times[0] - margin
            codec.skip_frame = "NONREF" if early else "DEFAULT"
            for frame in packet.decode():
                while len(out) < self.length and before is not None and frame.time > times[len(out)]:
                    put(before)
                before = frame
            if len(out) == self.length:
                break
        while len(out) < self.length:
            put(before)
        return out

    def sound(self, box, first, samples):
        """At 16 kHz, silence where there is no more."""
        s = box.streams.audio[0]
        s.thread_type = "NONE"
        box.seek(int(max(0.0, first - AUDIO_PREROLL_S) / s.time_base), stream=s)
        resampler, wave, at = av.AudioResampler(format="flt", layout="mono", rate=RATE), [], None
        for frame in box.decode(s):
            at = frame.time if at is None else at
            wave += [f.to_ndarray()[0] for f in resampler.resample(frame)]
            if frame.time > first + samples / RATE + 0.05:
                break
        n, out = round((first - at) * RATE), np.zeros(samples, np.float32)
        wave = np.concatenate(wave)
        wave = np.pad(wave, (max(0, -n), 0))[max(0, n):][:samples]
        out[:len(wave)] = wave
        return out

    def logmel(self, waves, moves):
        x = torch.log(self.mel(torch.from_numpy(np.stack(waves)))[:, None, :, :COLUMNS] + 1e-6)
        for row, move in zip(x, moves):
            if move:
                begin, width = move["mask"]
                row[:, :, begin:begin + width] = row.mean()
        return x

    def picture(self, opened, clip, move):
        frames = self.kept_frames.get(clip) or self.frames(opened(), self.clips.start[clip], self.clips.fps[clip])
        if self.clips.keep:
            self.kept_frames[clip] = frames
        return np.stack([self.crop(a, move) for a in frames])

    def wave(self, opened, clip, move):
        """Two seconds around the clip's middle; what is kept has all that any shift may want."""
        seconds, reach = self.clips.videos[clip]["seconds"], self.clips.augment["audio_shift_s"]
        middle = self.clips.start[clip] + self.length / self.clips.fps[clip] / 2 - 1
        first, begin, end = (max(0.0, min(middle + by, seconds - SAMPLES / RATE)) for by in (move["shift"] if move else 0, -reach, reach))
        if not self.clips.keep:
            return self.sound(opened(), first, SAMPLES)
        if clip not in self.kept_waves:
            self.kept_waves[clip] = self.sound(opened(), begin, round((end - begin) * RATE) + SAMPLES)
        return self.kept_waves[clip][round((first - begin) * RATE):][:SAMPLES]

    def batch(self, video, audio):
        """Lists of (clip, seed or None); with equal lists each file is opened once."""
        pictures, waves, moves, same = [], [], [self.clips.draw(seed) for _, seed in audio], video == audio
        for clip, seed in video:
            move = self.clips.draw(seed)
            with Opened(self.clips.videos[clip]["path"]) as opened:
                pictures.append(self.picture(opened, clip, move))
                if same:
                    waves.append(self.wave(opened, clip, move))
        for (clip, _), move in zip(() if same else audio, moves):
            with Opened(self.clips.videos[clip]["path"]) as opened:
                waves.append(self.wave(opened, clip, move))
        return (torch.from_numpy(np.stack(pictures)) if pictures else None), (self.logmel(waves, moves) if waves else None)


class Opened:
    """A file that is opened when it is first asked for."""

    def __init__(self, path):
        self.path, self.box = path, None

    def __call__(self):
        self.box = self.box or av.open(self.path)
        return self.box

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.box:
            self.box.close()


class Batches(torch.utils.data.Dataset):
    def __init__(self, clips):
        self.clips, self.decoder = clips, None

    def __getitem__(self, job):
        self.decoder = self.decoder or Decoder(self.clips)
        return self.decoder.batch(*job)


class Loader:
    def __init__(self, clips, workers, prefetch):
        self.jobs = []
        more = {"persistent_workers": True, "prefetch_factor": prefetch, "worker_init_fn": lambda _: os.nice(10)} if workers else {}
        self.loader = torch.utils.data.DataLoader(Batches(clips), sampler=self, batch_size=None, num_workers=workers, **more)

    def __iter__(self):
        return iter(self.jobs)

    def __len__(self):
        return len(self.jobs)

    def batches(self, jobs):
        """(frames, log-mel) of each (video list, audio list), in order."""
        self.jobs = jobs
        return iter(self.loader)


def cut(items, size):
    return [items[i:i + size] for i in range(0, len(items), size)]


def cosine(step, steps, last):
    """Share of the rate at a step of a round."""
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * step / max(1, steps - 1)))
