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
    `pixels` are the same in pixels, level by level, where they are no multiple of the stride (else None).
    `offset` is where in its cell a location's centre lies: 0 at the cell's corner (MMDetection's anchors for GFL, ATSS
    and RetinaNet), 0.5 in its middle (FCOS). `dynamic` puts locations image size // map size pixels apart
    (torchvision's anchors) instead of one stride.
    """

    sizes: tuple[tuple[float, float], ...] = ((8.0, 8.0),)
    offset: float = 0.0
    pixels: tuple[tuple[tuple[float, float], ...], ...] | None = None
    dynamic: bool = False

    @classmethod
    def square(cls, side: float, offset: float = 0.0, dynamic: bool = False) -> Priors:
        """One square prior per location, `side` strides wide (ATSS and GFL: octave_base_scale 8)."""
        return cls(((side, side),), offset, dynamic=dynamic)


Shapes = tuple[tuple[int, int], ...]


def site_grid(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    device: torch.device,
    priors: Priors = Priors(),
    image_size: tuple[int, int] | None = None,
) -> SiteGrid:
    """The grid of feature maps with the given (height, width), one for each stride.

    `image_size` is (height, width) of the padded input in pixels; only `Priors.dynamic` needs it. Grids are cached:
    they depend on shapes alone. While a model is compiled or exported they are not, because the tensors of a trace
    are of no use after it.

    Raises:
        ValueError: `Priors.dynamic` without an image size.
    """
    steps = tuple((stride, stride) for stride in strides)
    if priors.dynamic:
        if image_size is None:
            raise ValueError("sites whose distance follows the image need the image's size")
        steps = tuple((image_size[0] // height, image_size[1] // width) for height, width in shapes)
    make = _make_grid if torch.compiler.is_compiling() else _cached_grid
    return make(tuple(shapes), tuple(strides), steps, device, priors)


@lru_cache(maxsize=64)
def _cached_grid(
    shapes: Shapes, strides: tuple[int, ...], steps: Shapes, device: torch.device, priors: Priors
) -> SiteGrid:
    # Prediction may be the first to ask, in inference mode; training must still be able to use the same tensors.
    with torch.inference_mode(False):
        return _make_grid(shapes, strides, steps, device, priors)


def _make_grid(
    shapes: Shapes, strides: tuple[int, ...], steps: Shapes, device: torch.device, priors: Priors
) -> SiteGrid:
    levels, stride, centre, half, slices, start = [], [], [], [], [], 0
    anchors = len(priors.sizes)
    for level, ((height, width), s, step) in enumerate(zip(shapes, strides, steps, strict=True)):
        rows, columns = ((torch.arange(n) + priors.offset) * d for n, d in zip((height, width), step, strict=True))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        sites = height * width * anchors  # not a tensor's length: an exported program keeps height and width open
        centre.append(torch.stack([x.flatten(), y.flatten()], dim=-1).float().repeat_interleave(anchors, dim=0))
        sides = torch.tensor(priors.sizes) * s if priors.pixels is None else torch.tensor(priors.pixels[level])
        half.append((sides / 2).repeat(height * width, 1))
        levels.append(torch.full((sites,), level))
        stride.append(torch.full((sites,), float(s)))
        slices.append(slice(start, start + sites))
        start += sites
    centre_A2, half_A2 = torch.cat(centre), torch.cat(half)
    found = torch.cat(levels), torch.cat(stride), centre_A2, torch.cat([centre_A2 - half_A2, centre_A2 + half_A2], -1)
    # A new size of images is no reason to wait for the device.
    level_A, stride_A, centre_A2, prior_A4 = (values.to(device, non_blocking=True) for values in found)
    return SiteGrid(
        level_A=level_A,
        stride_A=stride_A,
        centre_A2=centre_A2,
        prior_A4=prior_A4,
        levels=tuple(slices),
        strides=strides,
        shapes=shapes,
        anchors=anchors,
        layout=(shapes, strides, steps, priors),
        offset=priors.offset,
    )
