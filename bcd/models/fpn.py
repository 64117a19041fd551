"""Feature pyramid (Lin et al., CVPR 2017) with extra stride-2 levels, in the forms that dense detectors use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """Maps backbone features to `levels` maps of equal width, finest first.

    The first `len(in_channels)` come from the top-down pathway; further ones are stride-2 convolutions, each of the
    level before it.

    Args:
        in_channels: channels of each backbone map.
        channels: channels of every pyramid map.
        levels: pyramid maps in all.
        extra: what the first further level is made of: the last pyramid map ("output": GFL, ATSS, FCOS) or the last
            backbone map ("input": RetinaNet). MMDetection: add_extra_convs.
        relu: a ReLU before every further level after the first (FCOS). MMDetection: relu_before_extra_convs.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        levels: int,
        *,
        extra: Literal["output", "input"] = "output",
        relu: bool = False,
    ):
        super().__init__()
        if levels < len(in_channels):
            raise ValueError(f"a pyramid of {levels} levels cannot take {len(in_channels)} backbone maps")
        self.extra, self.relu = extra, relu
        self.laterals = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        first = in_channels[-1] if extra == "input" else channels
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.outputs.extend(
            nn.Conv2d(first if i == 0 else channels, channels, 3, stride=2, padding=1)
            for i in range(levels - len(in_channels))
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
        source = features[-1] if self.extra == "input" else out[-1]
        for number, conv in enumerate(list(self.outputs)[len(maps) :]):
            out.append(conv(source.relu() if self.relu and number else source))
            source = out[-1]
        return tuple(out)
