"""Loads an encoder that xdc exported into stock PyTorch, strictly.

    net = load("video.safetensors")   # or audio.safetensors
    features = net(clips)             # video [N, 3, T, H, W] normalised RGB, audio [N, 1, 40, 100] standardised log-mel

With a classifier in the file (xdc export --head fc, --init ... --classes N) net(clips) gives its logits. The key names are
torchvision's: a file of flavour torchvision also loads into torchvision.models.video.r2plus1d_18 and its like, an audio one into
torchvision.models.resnet18 with a one-channel conv1. Network, flavour, depth and width are read off the file's tensors.
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


def conv_of(weight, stride=1, biased=False):
    """The convolution that a weight tensor belongs to, "same" padding; stride per kernel side longer than 1, or for 1x1x1."""
    kernel, kind = weight.shape[2:], nn.Conv3d if weight.dim() == 5 else nn.Conv2d
    if not isinstance(stride, tuple):
        stride = tuple(stride if k > 1 or max(kernel) == 1 else 1 for k in kernel)
    return kind(weight.shape[1], weight.shape[0], kernel, stride, tuple(k // 2 for k in kernel), bias=biased)


def norm_of(weight, eps):
    return (nn.BatchNorm3d if weight.dim() == 5 else nn.BatchNorm2d)(weight.shape[0], eps=eps)


class VideoBlock(nn.Module):
    """R(2+1)D: conv1.0 is itself a convolution in space, a norm, a ReLU and a convolution in time. R3D, MC3: one convolution."""

    def __init__(self, state, name, stride, eps):
        super().__init__()
        self.conv1 = nn.Sequential(*self.half(state, f"{name}.conv1", stride, eps), nn.ReLU())
        self.conv2 = nn.Sequential(*self.half(state, f"{name}.conv2", 1, eps))
        self.downsample = None
        if f"{name}.downsample.0.weight" in state:
            weight = state[f"{name}.downsample.0.weight"]
            time = 1 if f"{name}.conv1.0.weight" in state and state[f"{name}.conv1.0.weight"].shape[2] == 1 else stride
            self.downsample = nn.Sequential(conv_of(weight, (time, stride, stride)), norm_of(weight, eps))

    @staticmethod
    def half(state, name, stride, eps):
        if f"{name}.0.weight" in state:
            weight = state[f"{name}.0.weight"]
            return conv_of(weight, stride), norm_of(weight, eps)
        space, time = state[f"{name}.0.0.weight"], state[f"{name}.0.3.weight"]
        return (nn.Sequential(conv_of(space, stride), norm_of(space, eps), nn.ReLU(), conv_of(time, stride)),
                norm_of(time, eps))

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.conv2(self.conv1(x)) + residual)


class AudioBlock(nn.Module):
    def __init__(self, state, name, stride, eps):
        super().__init__()
        first, second = state[f"{name}.conv1.weight"], state[f"{name}.conv2.weight"]
        self.conv1, self.bn1 = conv_of(first, stride), norm_of(first, eps)
        self.conv2, self.bn2 = conv_of(second), norm_of(second, eps)
        self.downsample = None
        if f"{name}.downsample.0.weight" in state:
            weight = state[f"{name}.downsample.0.weight"]
            self.downsample = nn.Sequential(conv_of(weight, stride), norm_of(weight, eps))

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + residual)


class ResNet(nn.Module):
    """Video: stem, four stages of blocks, global mean. Audio: torchvision's stem, or VMZ's (conv1 with bias, a stage layer0,
    strides 2 in every stage, global maximum)."""

    def __init__(self, state):
        super().__init__()
        self.vmz, video = "layer0.0.conv1.weight" in state, "stem.0.weight" in state
        factored = "stem.3.weight" in state
        # torchvision's R(2+1)D takes the midplanes of a block's first convolution for both; the xdc flavour does not.
        own = factored and state["layer2.0.conv1.0.0.weight"].shape[0] != state["layer2.0.conv2.0.0.weight"].shape[0]
        eps = 1e-3 if self.vmz or own else 1e-5
        if video:
            first = state["stem.0.weight"]
            stem = [conv_of(first, (1, 2, 2)), norm_of(first, eps), nn.ReLU()]
            if factored:
                stem += [conv_of(state["stem.3.weight"]), norm_of(state["stem.3.weight"], eps), nn.ReLU()]
            self.stem = nn.Sequential(*stem)
        else:
            self.conv1 = conv_of(state["conv1.weight"], 1 if self.vmz else 2, biased=self.vmz)
            if not self.vmz:
                self.bn1 = norm_of(state["conv1.weight"], eps)
        self.stages = [s for s in range(5) if any(k.startswith(f"layer{s}.") for k in state)]
        for s in self.stages:
            blocks = len({k.split(".")[1] for k in state if k.startswith(f"layer{s}.")})
            strides = [2 if s > 1 or self.vmz else 1] + [1] * (blocks - 1)
            block = VideoBlock if video else AudioBlock
            setattr(self, f"layer{s}",
                    nn.Sequential(*[block(state, f"layer{s}.{i}", strides[i], eps) for i in range(blocks)]))
        if "fc.weight" in state:
            self.fc = nn.Linear(*reversed(state["fc.weight"].shape))

    def features(self, x):
        if hasattr(self, "stem"):
            x = self.stem(x)
        elif self.vmz:
            x = self.conv1(x)
        else:
            x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for s in self.stages:
            x = getattr(self, f"layer{s}")(x)
        return x.flatten(2).amax(2) if self.vmz else x.flatten(2).mean(2)

    def forward(self, x):
        return self.fc(self.features(x)) if hasattr(self, "fc") else self.features(x)


class S3D(nn.Module):
    """The modules of torchvision's s3d with a global mean behind them."""

    POOLS = {1: ((1, 3, 3), (1, 2, 2), (0, 1, 1)), 4: ((1, 3, 3), (1, 2, 2), (0, 1, 1)), 7: ((3, 3, 3), 2, 1), 13: (2, 2, 0)}

    def __init__(self, state):
        super().__init__()
        self.features = nn.Sequential(*[self.module(state, f"features.{i}", 2 if i == 0 else 1, self.POOLS.get(i))
                                        for i in range(16)])
        if "classifier.1.weight" in state:
            self.classifier = nn.Sequential(nn.Dropout(0.2), conv_of(state["classifier.1.weight"], biased=True))

    @classmethod
    def module(cls, state, name, stride=1, pool=None):
        if pool:
            return nn.MaxPool3d(*pool)
        if f"{name}.branch0.0.weight" in state:
            return Mixed(*[cls.branch(state, f"{name}.branch{b}") for b in range(4)])
        if f"{name}.0.weight" in state:
            weight = state[f"{name}.0.weight"]
            return nn.Sequential(conv_of(weight, stride), norm_of(weight, 1e-3), nn.ReLU())
        return nn.Sequential(cls.module(state, f"{name}.0", stride), cls.module(state, f"{name}.1", stride))

    @classmethod
    def branch(cls, state, name):
        if name.endswith("branch3"):
            return nn.Sequential(nn.MaxPool3d(3, 1, 1), cls.module(state, f"{name}.1"))
        return cls.module(state, name)

    def forward(self, x):
        for i, module in enumerate(self.features):
            short = i == 13 and x.shape[2] == 1  # a clip shorter than 16 frames has one map left and keeps it
            x = nn.functional.max_pool3d(x, (1, 2, 2)) if short else module(x)
        x = x.flatten(2).mean(2)
        return self.classifier(x[:, :, None, None, None]).flatten(1) if hasattr(self, "classifier") else x


class Mixed(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branch0, self.branch1, self.branch2, self.branch3 = branches

    def forward(self, x):
        return torch.cat([b(x) for b in (self.branch0, self.branch1, self.branch2, self.branch3)], 1)


def build(state):
    """The module that these tensors belong to, its own weights random."""
    return (S3D if "features.0.0.0.weight" in state else ResNet)(state)


def load(path):
    """The encoder of an export, in eval mode."""
    state, _ = read(path)
    net = build(state)
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
