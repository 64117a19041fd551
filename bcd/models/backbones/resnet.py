"""ResNets (He et al., CVPR 2016) of torchvision, without their classifier."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from bcd.models.backbones.base import Backbone, set_norm_eps, torchvision_network

VARIANT = ("style", "norm_eps")


def make(name: str, *, pretrained: bool, style: str = "pytorch", norm_eps: float | None = None, **_: Any) -> Backbone:
    """ "resnet18", "resnet34", "resnet50" or "resnet101"."""
    return ResNet(torchvision_network(name, pretrained), style=style, norm_eps=norm_eps)


class ResNet(Backbone):
    """Maps at strides 8, 16 and 32; parameter names are torchvision's (and so MMDetection's).

    `style` "caffe" has the stride of a bottleneck in its first 1x1 convolution instead of its 3x3.
    """

    strides = (8, 16, 32)

    def __init__(self, net: Any, *, style: str = "pytorch", norm_eps: float | None = None):
        super().__init__()
        if style not in ("pytorch", "caffe"):
            raise ValueError(f"style of a ResNet is pytorch or caffe, not {style!r}")
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        base = net.fc.in_features // 8
        self.channels = (base * 2, base * 4, base * 8)
        if style == "caffe":
            for block in (m for m in self.modules() if isinstance(m, Bottleneck)):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
        if norm_eps is not None:
            set_norm_eps(self, norm_eps)

    def freezable(self) -> list[nn.Module]:
        return [nn.ModuleList([self.conv1, self.bn1]), self.layer1, self.layer2, self.layer3, self.layer4]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        c3 = self.layer2(self.layer1(x))
        c4 = self.layer3(c3)
        return c3, c4, self.layer4(c4)
