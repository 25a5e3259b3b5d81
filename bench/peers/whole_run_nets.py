"""The two encoders of bench/peers/whole_run.py as modules of PyTorch: R(2+1)D with midplanes for each convolution, and a ResNet with a
one-channel stem. Features are the mean of the last maps. eval_copy() folds batch-norm into the convolutions for extraction."""
import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def unit(conv, norm, n_in, n_out, kernel, stride, eps):
    pad = tuple(k // 2 for k in kernel)
    return nn.Sequential(conv(n_in, n_out, kernel, stride, pad, bias=False), norm(n_out, eps=eps), nn.ReLU(inplace=True))


def space(n_in, n_out, stride=1, side=3):
    return unit(nn.Conv3d, nn.BatchNorm3d, n_in, n_out, (1, side, side), (1, stride, stride), 1e-3)


def time(n_in, n_out, stride=1):
    return unit(nn.Conv3d, nn.BatchNorm3d, n_in, n_out, (3, 1, 1), (stride, 1, 1), 1e-3)


def both(n_in, n_out, stride=1):
    middle = 27 * n_in * n_out // (9 * n_in + 3 * n_out)
    return nn.Sequential(space(n_in, middle, stride), time(middle, n_out, stride))


def shortcut3d(n_in, n_out, stride):
    return unit(nn.Conv3d, nn.BatchNorm3d, n_in, n_out, (1, 1, 1), (stride,) * 3, 1e-3)[:2]


def flat(n_in, n_out, stride=1, side=3):
    return unit(nn.Conv2d, nn.BatchNorm2d, n_in, n_out, (side, side), (stride, stride), 1e-5)


def shortcut2d(n_in, n_out, stride):
    return unit(nn.Conv2d, nn.BatchNorm2d, n_in, n_out, (1, 1), (stride, stride), 1e-5)[:2]


class Block(nn.Module):
    def __init__(self, make, shortcut, n_in, n_out, stride):
        super().__init__()
        self.conv1, self.conv2 = make(n_in, n_out, stride), make(n_out, n_out)
        last = self.conv2[-1] if isinstance(self.conv2[-1], nn.Sequential) else self.conv2
        del last[-1]  # its ReLU comes after the sum
        self.shortcut = shortcut(n_in, n_out, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return (self.conv2(self.conv1(x)) + self.shortcut(x)).relu_()


class Encoder(nn.Module):
    def __init__(self, stem, make, shortcut, depth, width):
        super().__init__()
        self.stem, blocks, n_in = stem, [], width
        for stage, count in enumerate(BLOCKS[depth]):
            for i in range(count):
                blocks.append(Block(make, shortcut, n_in, width << stage, 2 if stage and i == 0 else 1))
                n_in = width << stage
        self.blocks, self.dim = nn.Sequential(*blocks), n_in
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return self.blocks(self.stem(x)).flatten(2).mean(2)


def video_encoder(depth, width):
    """[N, 3, T, H, W] to [N, 8 width]."""
    middle = max(3, 45 * width // 64)
    net = Encoder(nn.Sequential(space(3, middle, 2, 7), time(middle, width)), both, shortcut3d, depth, width)
    return net.to(memory_format=torch.channels_last_3d)


def audio_encoder(depth, width):
    """[N, 1, 40, 100] to [N, 8 width]."""
    net = Encoder(nn.Sequential(flat(1, width, 2, 7), nn.MaxPool2d(3, 2, 1)), flat, shortcut2d, depth, width)
    return net.to(memory_format=torch.channels_last)


def norms(net):
    return [m for m in net.modules() if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm3d))]


def eval_copy(net):
    """The net for extraction: a convolution and the norm behind it are one convolution."""
    net = copy.deepcopy(net).eval()
    for parent in list(net.modules()):
        if isinstance(parent, nn.Sequential) and len(parent) > 1 and isinstance(parent[1], (nn.BatchNorm2d, nn.BatchNorm3d)):
            conv, norm = parent[0], parent[1]
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, None, norm.running_mean, norm.running_var, norm.eps,
                                                          norm.weight, norm.bias)
            parent[1] = nn.Identity()
    return net
