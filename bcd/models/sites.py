"""The site grid: at which pixels a dense detector predicts, all pyramid levels on one flat axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from bcd.types import SiteGrid


def site_grid(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device, prior_scale: float = 8.0
) -> SiteGrid:
    """The grid of feature maps with the given (height, width), one for each stride.

    `prior_scale` is the side of the square prior in units of the stride (ATSS and GFL: octave_base_scale 8).

    Centres lie at integer multiples of the stride (0, s, 2s, ...), as MMDetection's anchors do for GFL and ATSS.
    Grids are cached: they depend on shapes alone. While a model is compiled or exported they are not, because the
    tensors of a trace are of no use after it.
    """
    make = _make_grid if torch.compiler.is_compiling() else _cached_grid
    return make(tuple(shapes), tuple(strides), device, prior_scale)


@lru_cache(maxsize=64)
def _cached_grid(
    shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: torch.device, prior_scale: float
) -> SiteGrid:
    # Prediction may be the first to ask, in inference mode; training must still be able to use the same tensors.
    with torch.inference_mode(False):
        return _make_grid(shapes, strides, device, prior_scale)


def _make_grid(
    shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: torch.device, prior_scale: float
) -> SiteGrid:
    levels, stride, centre, slices, start = [], [], [], [], 0
    for level, ((height, width), s) in enumerate(zip(shapes, strides, strict=True)):
        y, x = torch.meshgrid(torch.arange(height) * s, torch.arange(width) * s, indexing="ij")
        centre.append(torch.stack([x.flatten(), y.flatten()], dim=-1).float())
        levels.append(torch.full((height * width,), level))
        stride.append(torch.full((height * width,), float(s)))
        slices.append(slice(start, start + height * width))
        start += height * width
    centre_A2, stride_A = torch.cat(centre), torch.cat(stride)
    half_A1 = stride_A[:, None] * (prior_scale / 2)
    return SiteGrid(
        level_A=torch.cat(levels).to(device),
        stride_A=stride_A.to(device),
        centre_A2=centre_A2.to(device),
        prior_A4=torch.cat([centre_A2 - half_A1, centre_A2 + half_A1], dim=-1).to(device),
        levels=tuple(slices),
        strides=strides,
    )
