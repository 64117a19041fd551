"""Feature pyramid (Lin et al., CVPR 2017) with extra stride-2 levels on its output, as GFL uses it."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """Maps backbone features to `levels` maps of equal width, finest first.

    The first `len(in_channels)` come from the top-down pathway; further ones are stride-2 convolutions of the last
    output without an activation between (MMDetection: add_extra_convs="on_output", relu_before_extra_convs=False).
    """

    def __init__(self, in_channels: Sequence[int], channels: int, levels: int):
        super().__init__()
        if levels < len(in_channels):
            raise ValueError(f"a pyramid of {levels} levels cannot take {len(in_channels)} backbone maps")
        self.laterals = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.outputs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=1 if i < len(in_channels) else 2, padding=1) for i in range(levels)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        maps = [lateral(f) for lateral, f in zip(self.laterals, features, strict=True)]
        for i in range(len(maps) - 1, 0, -1):
            maps[i - 1] = maps[i - 1] + F.interpolate(maps[i], size=maps[i - 1].shape[-2:], mode="nearest")
        out = [conv(m) for conv, m in zip(self.outputs, maps, strict=False)]
        for conv in self.outputs[len(maps) :]:
            out.append(conv(out[-1]))
        return tuple(out)
