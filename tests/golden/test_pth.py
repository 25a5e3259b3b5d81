"""deploy/python/pth2safetensors.py: state dicts of the published layouts, made here with random weights, come back bit for bit
through deploy/python/load_xdc.py; what is torn, altered or of another layout is refused with a sentence and writes nothing."""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

import torch

sys.dont_write_bytecode = True
TOOLS = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "python"
sys.path.insert(0, str(TOOLS))
import load_xdc

# algorithms.md 1.3: parameters and entries without the head
COUNTS = {"xdc": (33165639, 222), "torchvision": (31300125, 222)}
EPS = {"xdc": 1e-3, "torchvision": 1e-5}
BLOCKS = {"xdc": load_xdc.VideoBlock, "torchvision": load_xdc.TorchvisionVideoBlock}
# Facts of the published files that no code here computes: shapes that differ between the flavours, and some that do not.
SHAPES = {
    "xdc": {"layer2.0.conv2.0.0.weight": (288, 128, 1, 3, 3), "layer3.0.conv2.0.3.weight": (256, 576, 3, 1, 1),
            "layer4.0.conv2.0.0.weight": (1152, 512, 1, 3, 3)},
    "torchvision": {"layer2.0.conv2.0.0.weight": (230, 128, 1, 3, 3), "layer3.0.conv2.0.3.weight": (256, 460, 3, 1, 1),
                    "layer4.0.conv2.0.0.weight": (921, 512, 1, 3, 3)},
    "both": {"stem.0.weight": (45, 3, 1, 7, 7), "stem.3.weight": (64, 45, 3, 1, 1), "layer4.0.conv1.0.0.weight": (921, 256, 1, 3, 3),
             "layer4.1.conv1.0.0.weight": (1152, 512, 1, 3, 3), "layer4.0.downsample.0.weight": (512, 256, 1, 1, 1)},
}


def random_state(flavour):
    """A state dict of the flavour in which no two tensors and no two elements are alike by construction."""
    net = load_xdc.Video(18, 64, BLOCKS[flavour])
    state = net.state_dict()
    assert (sum(p.numel() for p in net.parameters()), len(state)) == COUNTS[flavour]
    for name, shape in {**SHAPES[flavour], **SHAPES["both"]}.items():
        assert tuple(state[name].shape) == shape, (name, state[name].shape)
    for i, (name, t) in enumerate(state.items()):
        state[name] = torch.tensor(1000 + i) if name.endswith("num_batches_tracked") else torch.randn(t.shape)
    return state


def run(*args):
    p = subprocess.run([sys.executable, "-B", TOOLS / "pth2safetensors.py", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=120)
    return p.returncode, p.stdout, p.stderr


def comes_back(path, target, state, flavour):
    tensors, metadata = load_xdc.read(target)
    assert metadata == {"format": "pt", "xdc.flavour": flavour, "xdc.encoder": "video", "xdc.depth": "18"}, metadata
    assert int.from_bytes(open(target, "rb").read(8), "little") % 8 == 0, "the header is not padded"
    assert set(tensors) == set(state)
    net = load_xdc.load(target)  # strictly
    assert {m.eps for m in net.modules() if isinstance(m, torch.nn.BatchNorm3d)} == {EPS[flavour]}
    loaded = net.state_dict()
    for name, t in state.items():
        for other in (tensors[name], loaded[name]):
            assert other.dtype == t.dtype and other.shape == t.shape, name
            assert other.numpy().tobytes() == t.numpy().tobytes(), f"{path}: {name} differs"


def converts(folder, state, flavour, wrap, extra, name):
    path = folder / name
    torch.save(wrap({**state, **extra}), path)
    if "SUM" in name:
        path = path.rename(folder / name.replace("SUM", hashlib.sha256(path.read_bytes()).hexdigest()[:8]))
    status, out, err = run(path)
    target = path.with_suffix(".safetensors")
    assert status == 0 and f"flavour {flavour}" in out, (status, out, err)
    assert ("fc.weight" in out) == bool(extra), out
    comes_back(path, target, state, flavour)
    print(f"{flavour}: {path.name} converted", flush=True)
    path.unlink()
    target.unlink()


def without(state, name):
    return {k: v for k, v in state.items() if k != name}


def refusals(state):
    """(what is saved, or bytes; the sentence that must come)"""
    probe, norm = "layer4.0.conv2.0.0.weight", "layer2.1.conv1.1.running_var"
    return [
        (without(state, norm), f"unknown layout (xdc): {norm} is missing"),
        (without(state, probe), f"unknown layout: {probe} is missing"),
        ({**state, "layer5.0.weight": torch.zeros(1)}, "unknown layout (xdc): unexpected key layer5.0.weight"),
        ({**state, probe: torch.zeros(576, 512, 1, 3, 3)}, f"{probe} has the shape [576, 512, 1, 3, 3]"),
        ({**state, probe: torch.zeros(921, 512, 1, 3, 3)}, "unknown layout (torchvision): layer2.0.conv2.0.0.weight has the shape [288"),
        ({**state, norm: state[norm].double()}, f"{norm} is torch.float64"),
        ({**state, "module.stem.0.weight": state["stem.0.weight"]}, "twice"),
        ({}, "holds no tensors by name"),
        ([1, 2], "holds no tensors by name"),
        ({"state_dict": state, "opener": subprocess.Popen}, "cannot load it as tensors alone"),
        (b"not a pickle", "cannot load it as tensors alone"),
    ]


def refuses(folder, what, sentence):
    path = folder / "bad.pth"
    if isinstance(what, bytes):
        path.write_bytes(what)
    else:
        torch.save(what, path)
    status, out, err = run(path)
    assert status == 1 and out == "" and err.count("\n") == 1, (status, out, err)
    assert err.startswith(f"pth2safetensors: {path}: ") and sentence in err, (sentence, err)
    assert os.listdir(folder) == ["bad.pth"], "a refused file leaves something behind"
    path.unlink()


def altered(folder, state):
    """A file that is not what its name promises."""
    path = folder / "r2plus1d_18_xdc_ig65m_kinetics-f24f6ffb.pth"
    torch.save(state, path)
    status, _, err = run(path, folder / "out.safetensors")
    assert status == 1 and "its name promises SHA-256 f24f6ffb..., it has " in err, err
    assert os.listdir(folder) == [path.name]
    path.unlink()


def helps():
    status, out, _ = run("--help")
    assert status == 0 and "r2plus1d_18_xdc_ig65m_kinetics-f24f6ffb.pth" in out.splitlines()[1], out


def main():
    torch.manual_seed(0)
    head = {"fc.weight": torch.randn(400, 512), "fc.bias": torch.randn(400)}
    states = {flavour: random_state(flavour) for flavour in COUNTS}
    helps()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        converts(folder, states["xdc"], "xdc", lambda s: s, {}, "r2plus1d_18_xdc_audioset-SUM.pth")
        converts(folder, states["xdc"], "xdc", lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3}, head,
                 "wrapped.pth")
        converts(folder, states["torchvision"], "torchvision", lambda s: s, head, "plain.pth")
        altered(folder, states["xdc"])
        for what, sentence in refusals(states["xdc"]):
            refuses(folder, what, sentence)
            print("refused:", sentence, flush=True)


main()
