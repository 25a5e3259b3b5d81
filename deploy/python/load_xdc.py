"""Loads an encoder that xdc exported into stock PyTorch, strictly.

    net = load("video.safetensors")   # or audio.safetensors
    features = net(clips)             # video [N, 3, T, H, W] normalised RGB, audio [N, 1, 40, 100] standardised log-mel

The key names are torchvision's: the audio encoder also loads into torchvision.models.resnet18 with a one-channel conv1, the
video encoder into a VideoResNet whose convolutions each have the midplanes below. Depth, width and, for video, whether it is
torchvision's own (one number of midplanes a block, another eps) are read off the file.
"""
import json
import struct

import numpy
import torch
from torch import nn

DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}


def read(path):
    """A safetensors file as (tensors by name, metadata)."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, t in header.items():
        first, last = t["data_offsets"]
        array = numpy.frombuffer(data[first:last], DTYPES[t["dtype"]]).reshape(t["shape"])
        tensors[name] = torch.from_numpy(array.copy())
    return tensors, metadata


def midplanes(i, o):
    return 27 * i * o // (9 * i + 3 * o)


def conv21(i, o, stride, mid):
    return nn.Sequential(nn.Conv3d(i, mid, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
                         nn.BatchNorm3d(mid), nn.ReLU(),
                         nn.Conv3d(mid, o, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False))


class VideoBlock(nn.Module):
    EPS = 1e-3  # of all batch-norms of an encoder of these blocks

    def __init__(self, i, o, stride):
        super().__init__()
        mid = midplanes(i, o)
        self.conv1 = nn.Sequential(conv21(i, o, stride, mid), nn.BatchNorm3d(o), nn.ReLU())
        self.conv2 = nn.Sequential(conv21(o, o, 1, self.second_mid(mid, o)), nn.BatchNorm3d(o))
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv3d(i, o, 1, stride, bias=False), nn.BatchNorm3d(o))

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.conv2(self.conv1(x)) + residual)

    def second_mid(self, first, o):
        return midplanes(o, o)


class TorchvisionVideoBlock(VideoBlock):
    EPS = 1e-5

    def second_mid(self, first, o):
        return first


class AudioBlock(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + residual)


class Encoder(nn.Module):
    """Four stages of blocks and a global mean; what is before them is the subclass's."""

    def stages(self, block, depth, width):
        for s in range(4):
            i, o = (width << max(s - 1, 0)), width << s
            blocks = [block(i, o, 2 if s else 1)] + [block(o, o, 1) for _ in range(depth // 8 - 1)]
            setattr(self, f"layer{s + 1}", nn.Sequential(*blocks))

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.begin(x)))))
        return x.flatten(2).mean(2)


class Video(Encoder):
    def __init__(self, depth, width, block=VideoBlock):
        super().__init__()
        mid = max(3, 45 * width // 64)
        self.stem = nn.Sequential(nn.Conv3d(3, mid, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
                                  nn.BatchNorm3d(mid), nn.ReLU(),
                                  nn.Conv3d(mid, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
                                  nn.BatchNorm3d(width), nn.ReLU())
        self.stages(block, depth, width)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = block.EPS

    def begin(self, x):
        return self.stem(x)


class Audio(Encoder):
    def __init__(self, depth, width):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stages(AudioBlock, depth, width)

    def begin(self, x):
        return self.pool(torch.relu(self.bn1(self.conv1(x))))


def load(path):
    """The encoder of an export, in eval mode."""
    state, _ = read(path)
    depth = 18 if any(k.startswith("layer1.1.") for k in state) else 10
    if "stem.0.weight" in state:
        mids = [state[f"layer4.0.conv{i}.0.0.weight"].shape[0] for i in (1, 2)]
        block = TorchvisionVideoBlock if mids[0] == mids[1] else VideoBlock
        net = Video(depth, state["stem.3.weight"].shape[0], block)
    else:
        net = Audio(depth, state["conv1.weight"].shape[0])
    net.load_state_dict(state, strict=True)
    return net.eval()


if __name__ == "__main__":
    import sys

    if len(sys.argv) < 2:
        sys.exit("usage: load_xdc.py FILE.safetensors ...")
    for path in sys.argv[1:]:
        encoder = load(path)
        print(f"{path}: {sum(p.numel() for p in encoder.parameters()):,} parameters")
        for key, value in sorted(read(path)[1].items()):
            print(f"  {key} = {value}")
