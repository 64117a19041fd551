"""What the assigners share: which sites take part, and boxes in blocks that bound the memory."""

from __future__ import annotations

import torch
from torch import Tensor

from bcd.types import SiteGrid

# Pairs of a site and a box that are looked at together, whatever number of boxes an image has. A block's tensors hold
# one number for each pair: 32 MiB in fp32, and on a CPU as little as stays in the cache (measured: twice as fast).
PAIRS, CPU_PAIRS = 1 << 23, 1 << 17


def sites_inside(grid: SiteGrid, sizes_B2: Tensor) -> Tensor:
    """(B, A) bool: sites whose cell begins inside the image's content; the others lie in the padding."""
    begin_A2 = grid.centre_A2
    if grid.offset:
        begin_A2 = begin_A2 - grid.offset * grid.stride_A[:, None]
    return (begin_A2[:, 1] < sizes_B2[:, :1]) & (begin_A2[:, 0] < sizes_B2[:, 1:])


def box_blocks(images: int, boxes: int, sites: int, device: torch.device) -> list[slice]:
    """Slices over the padded boxes, so that images * boxes * sites of a slice stay below `PAIRS` where they can."""
    pairs = CPU_PAIRS if device.type == "cpu" else PAIRS
    step = max(pairs // max(images * sites, 1), 1)
    return [slice(start, min(start + step, boxes)) for start in range(0, boxes, step)]
