"""The training step of bench/net_step.c as a Python loop over the same libtorch: as people write it, and tuned.

Usage: net_step.py [depth video_width audio_width frames crop batch threads steps]
Tuned: channels_last_3d and channels_last, in-place ReLU, SGD with foreach; run it with OPENBLAS_CORETYPE=SkylakeX where the
CPU has AVX-512, and with MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=9999999999 to keep freed memory.
"""
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy" / "python"))
import load_xdc

DEFAULTS = [10, 16, 32, 8, 64, 32, 2, 3]
ROUNDS = 5


def make(encoder, width, x, labels, tuned):
    """The train step and the feature pass of one encoder, as functions."""
    net = nn.Sequential(encoder, nn.Linear(width * 8, 64))
    if tuned:
        layout = torch.channels_last_3d if x.dim() == 5 else torch.channels_last
        net, x = net.to(memory_format=layout), x.contiguous(memory_format=layout)
        for m in net.modules():
            if isinstance(m, nn.ReLU):
                m.inplace = True
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True, foreach=tuned)

    def train():
        net.train()
        sgd.zero_grad(set_to_none=True)
        F.cross_entropy(net(x), labels).backward()
        sgd.step()

    def features():
        net.eval()
        with torch.no_grad():
            encoder(x)

    return {"features": features, "train": train}


def best(step, steps):
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        times.append((time.perf_counter() - start) / steps)
    return min(times[1:])


def main():
    v = [int(a) for a in sys.argv[1:]]
    v += DEFAULTS[len(v):]
    depth, video_width, audio_width, frames, crop, batch, threads, steps = v
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    labels = torch.randint(0, 64, (batch,))
    for tuned in (False, True):
        clips, mels = torch.randn(batch, 3, frames, crop, crop), torch.randn(batch, 1, 40, 100)
        video = make(load_xdc.Video(depth, video_width), video_width, clips, labels, tuned)
        audio = make(load_xdc.Audio(depth, audio_width), audio_width, mels, labels, tuned)
        for name in ("features", "train"):
            tv, ta = best(video[name], steps), best(audio[name], steps)
            kind = "tuned" if tuned else "plain"
            print(f"{kind} {name:8}  video {batch / tv:8.2f}  audio {batch / ta:8.2f}  both {batch / (tv + ta):8.2f} "
                  f"clips/s", flush=True)


main()
