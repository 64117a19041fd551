"""ConvNeXt-T (Liu et al., CVPR 2022) of torchvision."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from bcd.models.backbones.base import Backbone, crop_to_grid, pad_to_multiple, torchvision_network

VARIANT = ()


def make(name: str, *, pretrained: bool, **_: Any) -> Backbone:
    """ "convnext_tiny"."""
    return ConvNext(torchvision_network(name, pretrained))


class ConvNext(Backbone):
    """Maps at strides 8, 16 and 32, each through a LayerNorm of its own, as its authors' detectors have it.

    `features` has torchvision's parameter names; `norms` are new. Its 2x2 convolutions of stride 2 would cut odd maps,
    so images are padded to a multiple of 32.
    """

    strides = (8, 16, 32)

    def __init__(self, net: Any):
        super().__init__()
        self.features = net.features
        # Even entries make maps smaller, odd ones are the four stages.
        self.channels = tuple(self.features[i][0].block[0].in_channels for i in (3, 5, 7))
        self.norms = nn.ModuleList(LayerNorm2d(c, eps=1e-6) for c in self.channels)

    def freezable(self) -> list[nn.Module]:
        return [self.features[0], self.features[1], *(self.features[i : i + 2] for i in (2, 4, 6))]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x, out = pad_to_multiple(images, 32), []
        for number, part in enumerate(self.features):
            x = part(x)
            if number in (3, 5, 7):
                out.append(self.norms[(number - 3) // 2](x))
        return crop_to_grid(out, images, self.strides)
