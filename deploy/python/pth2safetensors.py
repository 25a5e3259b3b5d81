#!/usr/bin/env python3
"""Converts the published XDC video encoders (.pth, R(2+1)D-18) to safetensors, bit for bit.

    pth2safetensors.py r2plus1d_18_xdc_ig65m_kinetics-f24f6ffb.pth              # beside it, as .safetensors
    pth2safetensors.py r2plus1d_18_xdc_audioset-f29ffe8f.pth audioset.safetensors
    python3 load_xdc.py audioset.safetensors                                    # look at it, load it in PyTorch

A name that ends in -xxxxxxxx.pth promises the first digits of the file's SHA-256, which is checked. The file must hold the
encoder's tensors by torchvision's key names, as a dict or as {'state_dict': dict}, 'module.' before them or not; a head
(fc.weight, fc.bias) is left out. Two layouts are known and told apart by layer4.0.conv2.0.0.weight: that of XDC and VMZ
(1152 channels) and torchvision's (921). Needs PyTorch 1.13 or newer, which is told to load weights only.
"""
import argparse
import hashlib
import json
import os
import re
import struct
import sys

import torch

DTYPES = {torch.float32: "F32", torch.int64: "I64"}
FLAVOURS = {1152: "xdc", 921: "torchvision"}
PROBE = "layer4.0.conv2.0.0.weight"
HEAD = ("fc.weight", "fc.bias")


class Refused(Exception):
    """The file cannot be converted; the sentence says why."""


def layout(flavour):
    """Names and shapes of all tensors of R(2+1)D-18 in the order of its modules."""
    shapes = {}

    def norm(name, n):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (n,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def conv21(name, i, o, mid):
        shapes[f"{name}.0.weight"] = (mid, i, 1, 3, 3)
        norm(f"{name}.1", mid)
        shapes[f"{name}.3.weight"] = (o, mid, 3, 1, 1)

    shapes["stem.0.weight"] = (45, 3, 1, 7, 7)
    norm("stem.1", 45)
    shapes["stem.3.weight"] = (64, 45, 3, 1, 1)
    norm("stem.4", 64)
    for stage in range(4):
        o = 64 << stage
        for block in range(2):
            i = o // 2 if stage and not block else o
            name = f"layer{stage + 1}.{block}"
            mids = [27 * c * o // (9 * c + 3 * o) for c in (i, o)]
            for part, c, mid in ((1, i, mids[0]), (2, o, mids[flavour == "xdc"])):
                conv21(f"{name}.conv{part}.0", c, o, mid)
                norm(f"{name}.conv{part}.1", o)
            if i != o:
                shapes[f"{name}.downsample.0.weight"] = (o, i, 1, 1, 1)
                norm(f"{name}.downsample.1", o)
    return shapes


def check_sum(path):
    """Holds the file against the digits in its name, if there are any."""
    promised = re.search(r"-([0-9a-f]{8,64})\.[^.]*$", os.path.basename(path))
    if not promised:
        return
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for part in iter(lambda: f.read(1 << 20), b""):
            digest.update(part)
    if not digest.hexdigest().startswith(promised[1]):
        raise Refused(f"its name promises SHA-256 {promised[1]}..., it has {digest.hexdigest()[:len(promised[1])]}...: "
                      "torn or altered, download it again")


def load(path):
    """The file's tensors by name, without 'module.'."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # pickle, zip and torch each have their own
        raise Refused(f"PyTorch cannot load it as tensors alone: {' '.join(str(e).split())[:200]}") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state:
        raise Refused("it holds no tensors by name")
    bare = {str(k)[7:] if str(k).startswith("module.") else str(k): v for k, v in state.items()}
    if len(bare) < len(state):
        raise Refused("it holds a tensor twice, with 'module.' and without")
    return bare


def recognise(state):
    """The flavour, once every key, shape and dtype is as the flavour has it."""
    if not torch.is_tensor(state.get(PROBE)):
        raise Refused(f"unknown layout: {PROBE} is missing")
    flavour = FLAVOURS.get(state[PROBE].shape[0] if state[PROBE].dim() else 0)
    if not flavour:
        raise Refused(f"unknown layout: {PROBE} has the shape {list(state[PROBE].shape)}, neither XDC's nor torchvision's")
    wanted = layout(flavour)
    for name in state:
        if name not in wanted and name not in HEAD:
            raise Refused(f"unknown layout ({flavour}): unexpected key {name}")
    for name, shape in wanted.items():
        if not torch.is_tensor(state.get(name)):
            raise Refused(f"unknown layout ({flavour}): {name} is missing")
        if tuple(state[name].shape) != shape:
            raise Refused(f"unknown layout ({flavour}): {name} has the shape {list(state[name].shape)}, not {list(shape)}")
        counter = name.endswith("num_batches_tracked")
        if state[name].dtype != (torch.int64 if counter else torch.float32):
            raise Refused(f"unknown layout ({flavour}): {name} is {state[name].dtype}")
    return flavour


def write(path, tensors, metadata):
    """A safetensors file; the 8-byte numbers come first, so that every tensor is aligned."""
    header, at = {"__metadata__": metadata}, 0
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    for name in order:
        size = tensors[name].numel() * tensors[name].element_size()
        header[name] = {"dtype": DTYPES[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".tmp", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            array = tensors[name].contiguous().numpy()
            f.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        f.flush()
        os.fsync(f.fileno())
    os.replace(path + ".tmp", path)


def convert(source, target):
    """Writes `target`; returns the flavour and what was left out."""
    check_sum(source)
    state = load(source)
    flavour = recognise(state)
    metadata = {"format": "pt", "xdc.flavour": flavour, "xdc.encoder": "video", "xdc.depth": "18"}
    write(target, {name: state[name] for name in layout(flavour)}, metadata)
    return flavour, [name for name in HEAD if name in state]


def main():
    what, examples, more = __doc__.split("\n\n", 2)
    parser = argparse.ArgumentParser(usage="\n" + examples, description=what + "\n" + more,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pth", metavar="FILE.pth")
    parser.add_argument("out", metavar="OUT.safetensors", nargs="?", help="default: FILE.safetensors")
    args = parser.parse_args()
    out = args.out or os.path.splitext(args.pth)[0] + ".safetensors"
    try:
        flavour, left_out = convert(args.pth, out)
    except (Refused, OSError) as e:
        sys.exit(f"pth2safetensors: {args.pth}: {e}")
    print(f"{out}: video encoder, R(2+1)D-18, flavour {flavour}" + (f"; left out: {', '.join(left_out)}" if left_out else ""))


if __name__ == "__main__":
    main()
