"""The training step and the feature pass of bench/net_step.c as a Python loop, as people write it and tuned; prints one JSON line
of clips a second.

usage: net_step.py NETS.safetensors... FRAMES CROP BATCH THREADS STEPS plain|tuned
Tuned: channels_last_3d and channels_last, in-place ReLU, SGD with foreach, freed memory kept. With RANK, WORLD_SIZE,
MASTER_ADDR and MASTER_PORT in the environment: DistributedDataParallel over Gloo, BATCH of each rank.
"""
import ctypes
import json
import os
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy" / "python"))
import load_xdc

ROUNDS = 3


def make(path, frames, crop, batch, tuned):
    """(train step, feature pass) of one encoder."""
    encoder = load_xdc.load(path)
    video = next(iter(encoder.state_dict().values())).dim() == 5
    x = torch.randn(batch, 3, frames, crop, crop) if video else torch.randn(batch, 1, 40, 100)
    with torch.no_grad():
        width = encoder(x[:1]).shape[1]
    net, labels = nn.Sequential(encoder, nn.Linear(width, 64)), torch.randint(0, 64, (batch,))
    if tuned:
        layout = torch.channels_last_3d if video else torch.channels_last
        net, x = net.to(memory_format=layout), x.contiguous(memory_format=layout)
        for m in net.modules():
            if isinstance(m, nn.ReLU):
                m.inplace = True
    if "RANK" in os.environ:
        net = nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=tuned, broadcast_buffers=False)
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

    return "video" if video else "audio", train, features


def best(step, steps):
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        times.append((time.perf_counter() - start) / steps)
    return min(times[1:])


def main():
    frames, crop, batch, threads, steps = (int(a) for a in sys.argv[-6:-1])
    tuned = sys.argv[-1] == "tuned"
    if tuned:
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    result = {"torch": torch.__version__}
    for path in sys.argv[1:-6]:
        name, train, features = make(path, frames, crop, batch, tuned)
        result[name] = {"train": batch / best(train, steps), "features": batch / best(features, steps)}
    print(json.dumps(result))


main()
