"""The site grid: at which pixels a dense detector predicts, all pyramid levels on one flat axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from bcd.types import SiteGrid


@dataclass(frozen=True)
class Priors:
    """How a detector lays out its sites.

    `sizes` are (width, height) of the prior boxes of a location in units of the stride, one for each site there;
    `offset` is where in its cell a location's centre lies: 0 at the cell's corner (MMDetection's anchors for GFL, ATSS
    and RetinaNet), 0.5 in its middle (FCOS).
    """

    sizes: tuple[tuple[float, float], ...] = ((8.0, 8.0),)
    offset: float = 0.0

    @classmethod
    def square(cls, side: float, offset: float = 0.0) -> Priors:
        """One square prior per location, `side` strides wide (ATSS and GFL: octave_base_scale 8)."""
        return cls(((side, side),), offset)


def site_grid(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device, priors: Priors = Priors()
) -> SiteGrid:
    """The grid of feature maps with the given (height, width), one for each stride.

    Grids are cached: they depend on shapes alone. While a model is compiled or exported they are not, because the
    tensors of a trace are of no use after it.
    """
    make = _make_grid if torch.compiler.is_compiling() else _cached_grid
    return make(tuple(shapes), tuple(strides), device, priors)


@lru_cache(maxsize=64)
def _cached_grid(
    shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: torch.device, priors: Priors
) -> SiteGrid:
    # Prediction may be the first to ask, in inference mode; training must still be able to use the same tensors.
    with torch.inference_mode(False):
        return _make_grid(shapes, strides, device, priors)


def _make_grid(
    shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: torch.device, priors: Priors
) -> SiteGrid:
    levels, stride, centre, slices, start = [], [], [], [], 0
    anchors = len(priors.sizes)
    for level, ((height, width), s) in enumerate(zip(shapes, strides, strict=True)):
        rows, columns = ((torch.arange(n) + priors.offset) * s for n in (height, width))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        sites = height * width * anchors
        centre.append(torch.stack([x.flatten(), y.flatten()], dim=-1).float().repeat_interleave(anchors, dim=0))
        levels.append(torch.full((sites,), level))
        stride.append(torch.full((sites,), float(s)))
        slices.append(slice(start, start + sites))
        start += sites
    centre_A2, stride_A = torch.cat(centre), torch.cat(stride)
    # Not len(stride_A): an exported program keeps height and width open.
    half_A2 = torch.tensor(priors.sizes).repeat(start // anchors, 1) / 2 * stride_A[:, None]
    return SiteGrid(
        level_A=torch.cat(levels).to(device),
        stride_A=stride_A.to(device),
        centre_A2=centre_A2.to(device),
        prior_A4=torch.cat([centre_A2 - half_A2, centre_A2 + half_A2], dim=-1).to(device),
        levels=tuple(slices),
        strides=strides,
        shapes=shapes,
        anchors=anchors,
        layout=(shapes, strides, priors),
    )
