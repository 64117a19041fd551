"""A small GroupNorm network for CPU work."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bcd.models.backbones.base import Backbone
from bcd.models.norms import group_norm

VARIANT = ()


def make(name: str, *, width: int, strides: tuple[int, ...], **_: Any) -> Backbone:
    """ "tiny"."""
    return Tiny(width, last_stride=max(strides[0], min(32, strides[-1])), first_stride=strides[0])


class Tiny(Backbone):
    """A few residual GroupNorm stages: two stride-2 3x3 convolutions, then one stage for each stride from 8 on.

    `width` is the channel count of the stem's output; every stage doubles it, up to 8 times the width.
    """

    def __init__(self, width: int = 16, last_stride: int = 32, first_stride: int = 8):
        super().__init__()
        self.stem = nn.Sequential(_conv_norm(3, width // 2, 2), nn.ReLU(), _conv_norm(width // 2, width, 2), nn.ReLU())
        stages, stride, channels = [], 4, width
        self.first = first_stride
        out: list[tuple[int, int]] = [(stride, channels)] if first_stride == 4 else []
        while stride < last_stride:
            stride, wider = stride * 2, min(channels * 2, width * 8)
            stages.append(_Residual(channels, wider, 2))
            channels = wider
            if stride >= first_stride:
                out.append((stride, channels))
        self.stages = nn.ModuleList(stages)
        self.strides = tuple(s for s, _ in out)
        self.channels = tuple(c for _, c in out)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(images)
        out, stride = ([x] if self.first == 4 else []), 4
        for stage in self.stages:
            x, stride = stage(x), stride * 2
            if stride >= self.first:
                out.append(x)
        return tuple(out)


class _Residual(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.conv1, self.conv2 = _conv_norm(inside, outside, stride), _conv_norm(outside, outside, 1)
        self.shortcut = _conv_norm(inside, outside, stride, kernel=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.conv2(self.relu(self.conv1(x))) + self.shortcut(x))
        return out


def _conv_norm(inside: int, outside: int, stride: int, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, group_norm(outside, most=outside))
