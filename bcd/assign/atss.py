"""Adaptive training sample selection (ATSS, CVPR 2020, algorithm 1), batched over images and padded boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from bcd import boxes as B
from bcd.assign.common import box_blocks, sites_inside
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
    inside_BA = sites_inside(grid, targets.sizes_B2)
    if valid_BG.shape[1] == 0:
        return torch.zeros_like(inside_BA, dtype=torch.long), torch.zeros_like(inside_BA)

    index_BGK, iou_BGK, usable_BGK, threshold_BG = _overlaps(grid, targets, inside_BA, topk)
    centre_BGK2 = grid.centre_A2[index_BGK]
    margin_BGK = B.to_distances(centre_BGK2, boxes_BG4[:, :, None]).amin(-1)
    positive_BGK = (iou_BGK >= threshold_BG[..., None]) & (margin_BGK > INSIDE) & usable_BGK & valid_BG[..., None]

    return _best_claims(index_BGK, torch.where(positive_BGK, iou_BGK, -1.0), len(grid))


def atss_thresholds(grid: SiteGrid, targets: Targets, topk: int = TOPK) -> Tensor:
    """(B, G) IoU from which on a candidate of each box may be positive: mean + standard deviation of the candidates'.

    Meaningful for valid boxes.
    """
    return _overlaps(grid, targets, sites_inside(grid, targets.sizes_B2), topk)[3]


def _overlaps(grid: SiteGrid, targets: Targets, inside_BA: Tensor, topk: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each box's candidates: site index, IoU of the prior, inside the image, (B, G, K) each; the threshold (B, G)."""
    index_BGK = _candidates(grid, targets.boxes_BG4, inside_BA, topk)
    iou_BGK = B.iou(grid.prior_A4[index_BGK], targets.boxes_BG4[:, :, None])
    images = torch.arange(len(inside_BA), device=index_BGK.device)
    usable_BGK = inside_BA[images[:, None, None], index_BGK]

    n_BG = usable_BGK.sum(-1)
    mean_BG = (iou_BGK * usable_BGK).sum(-1) / n_BG.clamp(min=1)
    square_BG = ((iou_BGK - mean_BG[..., None]).square() * usable_BGK).sum(-1)
    return index_BGK, iou_BGK, usable_BGK, mean_BG + (square_BG / (n_BG - 1).clamp(min=1)).sqrt()


def _best_claims(index_BGK: Tensor, claim_BGK: Tensor, sites: int) -> tuple[Tensor, Tensor]:
    """The box of highest claim for each site, the first of equal ones, and whether there is one at all (claim >= 0)."""
    images, padded, _ = index_BGK.shape
    index_BK, claim_BK = index_BGK.flatten(1), claim_BGK.flatten(1)
    best_BA = claim_BK.new_full((images, sites), -1.0).scatter_reduce(1, index_BK, claim_BK, "amax")
    number_BK = torch.arange(padded, device=index_BK.device)[:, None].expand(index_BGK.shape).flatten(1)
    number_BK = torch.where(claim_BK == best_BA.gather(1, index_BK), number_BK, padded)
    box_BA = number_BK.new_full((images, sites), padded).scatter_reduce(1, index_BK, number_BK, "amin")
    positive_BA = best_BA >= 0
    return torch.where(positive_BA, box_BA, 0), positive_BA


def _candidates(grid: SiteGrid, boxes_BG4: Tensor, inside_BA: Tensor, topk: int) -> Tensor:
    """Indices (B, G, K) of the nearest sites of each level; sites in the padding come last."""
    centre_BG2 = (boxes_BG4[..., :2] + boxes_BG4[..., 2:]) / 2
    found = []
    for level in grid.levels:
        sites, of_level = level.stop - level.start, []
        for rows in box_blocks(len(centre_BG2), centre_BG2.shape[1], sites, centre_BG2.device):
            x, y = ((grid.centre_A2[level, i] - centre_BG2[:, rows, i, None]).square_() for i in (0, 1))
            distance = x.add_(y).sqrt_().masked_fill_(~inside_BA[:, None, level], torch.inf)
            of_level.append(distance.topk(min(topk, sites), dim=-1, largest=False).indices)
        found.append(torch.cat(of_level, dim=1) + level.start)
    return torch.cat(found, dim=-1)
