"""Adaptive training sample selection (ATSS, CVPR 2020, algorithm 1), batched over images and padded boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from bcd import boxes as B
from bcd.types import SiteGrid, Targets

TOPK = 9
# A site counts as inside a box when it is further than this from every side, in pixels.
INSIDE = 0.01


def assign_atss(grid: SiteGrid, targets: Targets, topk: int = TOPK) -> tuple[Tensor, Tensor]:
    """Assign each site to a box or to none.

    For every box: the `topk` sites of each level whose centres are nearest to the box's centre are candidates; those
    whose prior overlaps the box by at least mean + standard deviation (unbiased) of the candidates' IoU, and whose
    centre lies inside the box, become positive. A site claimed by several boxes takes the one of highest IoU.

    Returns:
        box index (B, A), meaningful where positive, and positive (B, A) bool. G may be 0.
    """
    boxes_BG4, valid_BG = targets.boxes_BG4, targets.valid_BG
    images, padded = valid_BG.shape
    inside_BA = sites_inside(grid, targets.sizes_B2)
    if padded == 0:
        return torch.zeros_like(inside_BA, dtype=torch.long), torch.zeros_like(inside_BA)

    index_BGK = _candidates(grid, boxes_BG4, inside_BA, topk)
    prior_BGK4 = grid.prior_A4[index_BGK]
    iou_BGK = B.iou(prior_BGK4, boxes_BG4[:, :, None])
    usable_BGK = inside_BA[torch.arange(images, device=index_BGK.device)[:, None, None], index_BGK]

    n_BG = usable_BGK.sum(-1)
    mean_BG = (iou_BGK * usable_BGK).sum(-1) / n_BG.clamp(min=1)
    square_BG = ((iou_BGK - mean_BG[..., None]).square() * usable_BGK).sum(-1)
    threshold_BG = mean_BG + (square_BG / (n_BG - 1).clamp(min=1)).sqrt()

    centre_BGK2 = grid.centre_A2[index_BGK]
    margin_BGK = B.to_distances(centre_BGK2, boxes_BG4[:, :, None]).amin(-1)
    positive_BGK = (iou_BGK >= threshold_BG[..., None]) & (margin_BGK > INSIDE) & usable_BGK & valid_BG[..., None]

    # One row for each box: the IoU where it claims a site, -1 elsewhere. The first box wins a tie, as max() does.
    claim_BGA = boxes_BG4.new_full((images, padded, len(grid)), -1.0)
    claim_BGA.scatter_(2, index_BGK, torch.where(positive_BGK, iou_BGK, -1.0))
    best_BA, box_BA = claim_BGA.max(dim=1)
    return box_BA, best_BA >= 0


def sites_inside(grid: SiteGrid, sizes_B2: Tensor) -> Tensor:
    """(B, A) bool: sites whose cell begins inside the image's content; the others lie in the padding."""
    row_A, column_A = grid.centre_A2[:, 1], grid.centre_A2[:, 0]
    return (row_A < sizes_B2[:, :1]) & (column_A < sizes_B2[:, 1:])


def _candidates(grid: SiteGrid, boxes_BG4: Tensor, inside_BA: Tensor, topk: int) -> Tensor:
    """Indices (B, G, K) of the nearest sites of each level; sites in the padding come last."""
    centre_BG2 = (boxes_BG4[..., :2] + boxes_BG4[..., 2:]) / 2
    found = []
    for level in grid.levels:
        # In place: with a thousand boxes in an image these are the largest tensors of a step.
        x, y = ((grid.centre_A2[level, i] - centre_BG2[..., i, None]).square_() for i in (0, 1))
        distance = x.add_(y).sqrt_().masked_fill_(~inside_BA[:, None, level], torch.inf)
        nearest = distance.topk(min(topk, distance.shape[-1]), dim=-1, largest=False).indices
        found.append(nearest + level.start)
    return torch.cat(found, dim=-1)
