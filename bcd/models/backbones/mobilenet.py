"""MobileNetV2 (Sandler et al., CVPR 2018) and MobileNetV3 (Howard et al., ICCV 2019) of torchvision."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bcd.models.backbones.base import Backbone, set_norm_eps, torchvision_network

VARIANT = ("norm_eps", "activation", "top_conv")
# First and last block of each stage in torchvision's `features`: stem (stride 2), then strides 4, 8, 16 and 32. The
# 1x1 convolution after the last block belongs to the classifier, except with `top_conv`.
STAGES = {
    "mobilenet_v2": ((0, 1), (2, 3), (4, 6), (7, 13), (14, 17)),
    "mobilenet_v3_large": ((0, 1), (2, 3), (4, 6), (7, 12), (13, 15)),
    "mobilenet_v3_small": ((0, 0), (1, 1), (2, 3), (4, 8), (9, 11)),
}


def make(
    name: str,
    *,
    pretrained: bool,
    norm_eps: float | None = None,
    activation: str | None = None,
    top_conv: bool = False,
    **_: Any,
) -> Backbone:
    """ "mobilenet_v2", "mobilenet_v3_large" or "mobilenet_v3_small"."""
    if name != "mobilenet_v2" and (activation is not None or top_conv):
        raise ValueError(f"backbone {name} has no activation or top_conv to choose (variant)")
    body = MobileNet(torchvision_network(name, pretrained), STAGES[name], top_conv=top_conv)
    if norm_eps is not None:
        set_norm_eps(body, norm_eps)
    if activation is not None:
        _set_activation(body, activation)
    return body


class MobileNet(Backbone):
    """Maps at strides 8, 16 and 32: the last inverted residual of each stage. Parameter names are torchvision's."""

    strides = (8, 16, 32)

    def __init__(self, net: Any, stages: tuple[tuple[int, int], ...], *, top_conv: bool = False):
        super().__init__()
        blocks = list(net.features)
        last = stages[-1][1] + 1 + int(top_conv)
        self.features = nn.Sequential(*blocks[:last])
        self.bounds = (*stages[:-1], (stages[-1][0], last - 1))
        self.channels = tuple(_width(blocks[end]) for _, end in self.bounds[2:])

    def freezable(self) -> list[nn.Module]:
        return [self.features[start : end + 1] for start, end in self.bounds]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        ends, out, x = {end for _, end in self.bounds[2:]}, [], images
        for number, block in enumerate(self.features):
            x = block(x)
            if number in ends:
                out.append(x)
        return tuple(out)


def _width(block: nn.Module) -> int:
    return [m.num_features for m in block.modules() if isinstance(m, nn.BatchNorm2d)][-1]


def _set_activation(module: nn.Module, activation: str) -> None:
    if activation not in ("relu6", "leaky_relu"):
        raise ValueError(f"activation of mobilenet_v2 is relu6 or leaky_relu, not {activation!r}")
    for parent in list(module.modules()):
        for key, child in parent.named_children():
            if isinstance(child, nn.ReLU6) and activation == "leaky_relu":
                setattr(parent, key, nn.LeakyReLU(0.1, inplace=True))
