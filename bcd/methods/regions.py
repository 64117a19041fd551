"""Where feature and localisation methods look: sites and locations chosen by boxes, and means over them.

Nothing here carries gradient or waits for the device. Boxes are taken in blocks, so memory is linear in sites however
many boxes an image has.
"""

from __future__ import annotations

from torch import Tensor

from bcd import boxes as B
from bcd.assign.common import box_blocks
from bcd.distributed import mean_over_processes
from bcd.types import SiteGrid, Targets


def blocks(targets: Targets, sites: int) -> list[slice]:
    """Slices over the padded boxes, so that (images, boxes, sites) of a slice is not large."""
    images, boxes = targets.valid_BG.shape
    return box_blocks(images, boxes, sites, targets.valid_BG.device)


def inside_boxes(grid: SiteGrid, targets: Targets) -> Tensor:
    """(B, A) bool: sites whose centre lies inside any box."""
    found_BA = targets.valid_BG.new_zeros(len(targets.valid_BG), len(grid))
    for block in blocks(targets, len(grid)):
        inside_BGA = B.to_distances(grid.centre_A2, targets.boxes_BG4[:, block, None]).amin(-1) > 0
        found_BA |= (inside_BGA & targets.valid_BG[:, block, None]).any(1)
    return found_BA


def near_best_prior(grid: SiteGrid, targets: Targets, share: float) -> Tensor:
    """(B, A) bool: sites whose prior overlaps a box by more than `share` of the IoU of the box's best prior."""
    found_BA = targets.valid_BG.new_zeros(len(targets.valid_BG), len(grid))
    for block in blocks(targets, len(grid)):
        iou_BGA = B.iou(grid.prior_A4, targets.boxes_BG4[:, block, None])
        best_BG1 = iou_BGA.amax(-1, keepdim=True)
        found_BA |= ((iou_BGA > share * best_BG1) & targets.valid_BG[:, block, None]).any(1)
    return found_BA


def locations(grid: SiteGrid, values_BA: Tensor, level: int) -> Tensor:
    """A level's map (B, H, W) of a value at sites: the largest of each location's."""
    height, width = grid.shapes[level]
    at_BLK = values_BA[:, grid.levels[level]].reshape(len(values_BA), height * width, grid.anchors)
    return at_BLK.amax(-1).view(-1, height, width)


def safe_count(mask: Tensor) -> Tensor:
    """How many entries of a mask or weight are above 0, as a mean over processes: a divisor that is never 0."""
    return mean_over_processes((mask > 0).sum().float(), least=1.0)


def mean_by_level(grid: SiteGrid, values_BA: Tensor, weight_BA: Tensor) -> list[Tensor]:
    """For each level the weighted sum of values divided by the number of sites of a weight above 0; 0 without any."""
    total_BA = values_BA * weight_BA
    return [total_BA[:, level].sum() / safe_count(weight_BA[:, level]) for level in grid.levels]
