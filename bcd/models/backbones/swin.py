"""Swin-T (Liu et al., ICCV 2021) of torchvision."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bcd.models.backbones.base import Backbone, pad_to_multiple, torchvision_network

VARIANT = ()


def make(name: str, *, pretrained: bool, **_: Any) -> Backbone:
    """ "swin_t"."""
    return Swin(torchvision_network(name, pretrained))


class Swin(Backbone):
    """Maps at strides 8, 16 and 32, each through a LayerNorm of its own, as its authors' detectors have it.

    `features` has torchvision's parameter names; `norms` are new. Images are padded to whole patches of 4 pixels;
    windows and patch merging pad by themselves.
    """

    strides = (8, 16, 32)

    def __init__(self, net: Any):
        super().__init__()
        self.features = net.features
        # Entry 0 embeds patches, then stages and patch merging take turns; maps are (B, H, W, C) in between.
        self.channels = tuple(self.features[i][0].norm1.normalized_shape[0] for i in (3, 5, 7))
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in self.channels)

    def freezable(self) -> list[nn.Module]:
        return [self.features[0], self.features[1], *(self.features[i : i + 2] for i in (2, 4, 6))]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x, out = pad_to_multiple(images, 4), []
        for number, part in enumerate(self.features):
            x = part(x)
            if number in (3, 5, 7):
                out.append(self.norms[(number - 3) // 2](x).permute(0, 3, 1, 2).contiguous())
        return tuple(out)
