"""FCOS assignment (Tian et al., ICCV 2019, section 3.2): points inside boxes, each level for its range of sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from bcd import boxes as B
from bcd.assign.common import box_blocks, sites_inside
from bcd.types import SiteGrid, Targets

# Largest distance from a point to a side that a level learns, in strides (published: 64 pixels at stride 8).
REACH = 8.0
# Radius around a box's centre, in strides (the authors' later code; the paper itself takes every point of the box).
CENTRE_SAMPLING = 1.5


def assign_fcos(
    grid: SiteGrid, targets: Targets, reach: float = REACH, centre_sampling: float = CENTRE_SAMPLING
) -> tuple[Tensor, Tensor]:
    """Assign each point to a box or to none.

    A point learns a box when it lies inside the box, less than `centre_sampling` strides from its centre in x and in
    y (0: anywhere inside), and when its farthest side is as far as its level is meant for: from `reach` / 2 to `reach`
    strides, the first level from 0 on and the last without end (published: 64, 128, 256, 512 pixels, reach 8). A
    point that several boxes claim takes the smallest.

    Args:
        grid: sites; only centres, strides and levels count.
        targets: padded boxes; G may be 0.
        reach: largest distance of a level to a side, in strides.
        centre_sampling: radius in strides.

    Returns:
        box index (B, A), meaningful where positive, and positive (B, A) bool.
    """
    images, padded = targets.valid_BG.shape
    inside_BA = sites_inside(grid, targets.sizes_B2)
    box_BA = torch.zeros_like(inside_BA, dtype=torch.long)
    smallest_BA = torch.full_like(inside_BA, torch.inf, dtype=torch.float32)
    far_A = reach * grid.stride_A
    near_A = torch.where(grid.level_A == 0, -1.0, far_A / 2)
    far_A = torch.where(grid.level_A == len(grid.levels) - 1, torch.inf, far_A)
    for rows in box_blocks(images, padded, len(grid), box_BA.device):
        boxes_Bg14 = targets.boxes_BG4[:, rows, None]
        (x, y), (x0, y0, x1, y1) = grid.centre_A2.unbind(-1), boxes_Bg14.unbind(-1)
        nearest_BgA = torch.minimum(torch.minimum(x - x0, x1 - x), torch.minimum(y - y0, y1 - y))
        farthest_BgA = torch.maximum(torch.maximum(x - x0, x1 - x), torch.maximum(y - y0, y1 - y))
        fits_BgA = (nearest_BgA > 0) & (farthest_BgA >= near_A) & (farthest_BgA <= far_A)
        fits_BgA &= targets.valid_BG[:, rows, None] & inside_BA[:, None]
        if centre_sampling > 0:
            away_BgA = torch.maximum((x - (x0 + x1) / 2).abs(), (y - (y0 + y1) / 2).abs())
            fits_BgA &= away_BgA < centre_sampling * grid.stride_A
        area_BgA = torch.where(fits_BgA, B.area(boxes_Bg14), torch.inf)
        area_BA, index_BA = area_BgA.min(dim=1)
        box_BA = torch.where(area_BA < smallest_BA, index_BA + rows.start, box_BA)
        smallest_BA = torch.minimum(smallest_BA, area_BA)
    return box_BA, smallest_BA < torch.inf
