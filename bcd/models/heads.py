"""Parts that dense heads share: convolution towers and the learnable scale of each level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bcd.models.norms import group_norm

# Initial score of every class, so that the first steps are not drowned in background (focal loss paper, 4.1).
PRIOR_PROBABILITY = 0.01


class ConvNorm(nn.Module):
    """3x3 convolution without bias, GroupNorm, ReLU."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        self.gn = group_norm(outside, most=32)  # 32 as published
        self.relu = nn.ReLU(inplace=True)
        nn.init.normal_(self.conv.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.gn(self.conv(x)))
        return out


def tower(channels: int, depth: int) -> nn.ModuleList:
    """`depth` ConvNorm blocks."""
    return nn.ModuleList(ConvNorm(channels, channels) for _ in range(depth))


class Scale(nn.Module):
    """One learnable factor (FCOS)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def prediction(inside: int, outside: int, prior: float | None = None) -> nn.Conv2d:
    """A 3x3 prediction layer, N(0, 0.01), whose bias starts at the logit of `prior`."""
    conv = nn.Conv2d(inside, outside, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, 0.0 if prior is None else -math.log((1 - prior) / prior))
    return conv


def flatten_sites(maps: list[Tensor], width: int) -> Tensor:
    """Maps (B, width, H, W) of all levels as (B, A, width), rows of a map in reading order."""
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1).reshape(maps[0].shape[0], -1, width)
