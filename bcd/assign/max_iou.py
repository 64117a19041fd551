"""Assignment by highest IoU (Faster R-CNN, section 3.1.2, with RetinaNet's thresholds), batched over padded boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from bcd import boxes as B
from bcd.assign.common import box_blocks, sites_inside
from bcd.types import SiteGrid, Targets

POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4


def assign_max_iou(
    grid: SiteGrid,
    targets: Targets,
    positive_iou: float = POSITIVE_IOU,
    negative_iou: float = NEGATIVE_IOU,
    *,
    rescued_keep_best: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Assign each anchor to a box, to none, or to neither (ignored).

    An anchor learns the box of its highest IoU when that is at least `positive_iou`, is background when it is below
    `negative_iou`, and takes no part in between. Every box also gets the anchors of its own highest IoU, however low
    (above 0), so that none goes without; where two boxes want an anchor so, it takes the later one, as in
    MMDetection. With `rescued_keep_best` such an anchor learns the box of its own highest IoU instead (torchvision).

    A box that no anchor overlaps gets none. (MMDetection's default settings give it every anchor that does not touch
    it: their lowest IoU for this rule is 0.)

    Returns:
        box index (B, A), meaningful where positive; positive (B, A) bool; ignored (B, A) bool. G may be 0.
    """
    images, padded = targets.valid_BG.shape
    inside_BA = sites_inside(grid, targets.sizes_B2)
    box_BA = torch.zeros_like(inside_BA, dtype=torch.long)
    best_BA = torch.full_like(inside_BA, -1.0, dtype=torch.float32)
    rescued_BA = torch.full_like(inside_BA, -1, dtype=torch.int32)
    for rows in box_blocks(images, padded, len(grid), box_BA.device):
        use_BgA = inside_BA[:, None] & targets.valid_BG[:, rows, None]
        iou_BgA = torch.where(use_BgA, B.iou(grid.prior_A4, targets.boxes_BG4[:, rows, None]), -1.0)
        value_BA, index_BA = iou_BgA.max(dim=1)
        box_BA = torch.where(value_BA > best_BA, index_BA + rows.start, box_BA)
        best_BA = torch.maximum(best_BA, value_BA)
        top_Bg1 = iou_BgA.amax(dim=2, keepdim=True)
        number_g1 = torch.arange(rows.start, rows.stop, dtype=torch.int32, device=box_BA.device)[:, None]
        wanted_BgA = torch.where((iou_BgA == top_Bg1) & (top_Bg1 > 0), number_g1, -1)
        rescued_BA = torch.maximum(rescued_BA, wanted_BgA.amax(dim=1))
    rescue_BA = rescued_BA >= 0
    if not rescued_keep_best:
        box_BA = torch.where(rescue_BA, rescued_BA.long(), box_BA)
    positive_BA = rescue_BA | (best_BA >= positive_iou)
    return box_BA, positive_BA, (best_BA >= negative_iou) & ~positive_BA
