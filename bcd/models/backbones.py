"""Backbones: torchvision ResNets and a small GroupNorm network for CPU work.

A backbone maps images (B, 3, H, W) to feature maps at doubling strides; `channels` and `strides` describe them.
Adding one is one class (or factory) and one line in `BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torchvision
from torch import Tensor, nn

from bcd.models.norms import group_norm


class Backbone(nn.Module):
    """Maps images (B, 3, H, W) to one feature map for each of `strides`, with `channels`."""

    strides: tuple[int, ...]
    channels: tuple[int, ...]


class ResNet(Backbone):
    """torchvision ResNet without its classifier; parameter names are torchvision's (and so MMDetection's)."""

    strides = (8, 16, 32)

    def __init__(self, name: str, *, frozen_stages: int = -1, norm_eval: bool = False, pretrained: bool = False):
        super().__init__()
        net = getattr(torchvision.models, name)(weights=_imagenet_weights(name) if pretrained else None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        base = net.fc.in_features // 8
        self.channels = (base * 2, base * 4, base * 8)
        self.norm_eval, self.frozen_stages = norm_eval, frozen_stages
        for stage in self._frozen():
            stage.requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        stages = [nn.ModuleList([self.conv1, self.bn1]), self.layer1, self.layer2, self.layer3, self.layer4]
        return stages[: self.frozen_stages + 1]

    def train(self, mode: bool = True) -> ResNet:
        super().train(mode)
        if mode:
            fixed = [self] if self.norm_eval else self._frozen()
            for module in (m for stage in fixed for m in stage.modules()):
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        c3 = self.layer2(self.layer1(x))
        c4 = self.layer3(c3)
        return c3, c4, self.layer4(c4)


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


def _imagenet_weights(name: str) -> Any:
    return torchvision.models.get_model_weights(name).IMAGENET1K_V1


def _resnet(name: str) -> Callable[..., Backbone]:
    def make(*, width: int, strides: tuple[int, ...], **options: Any) -> Backbone:
        try:
            return ResNet(name, **options)
        except OSError as error:  # no network: torchvision downloads on first use
            raise RuntimeError(
                f"cannot load ImageNet weights of {name}: {error}. Put the file into torch's hub cache "
                "(TORCH_HOME), or set student.pretrained: false"
            ) from error

    return make


def _tiny(*, width: int, strides: tuple[int, ...], **_: Any) -> Backbone:
    return Tiny(width, last_stride=max(strides[0], min(32, strides[-1])), first_stride=strides[0])


BACKBONES: dict[str, Callable[..., Backbone]] = {
    **{name: _resnet(name) for name in ("resnet18", "resnet34", "resnet50", "resnet101")},
    "tiny": _tiny,
}
