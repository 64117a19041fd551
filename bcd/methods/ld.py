"""LD: localization distillation (Zheng et al., CVPR 2022). Both heads predict a distribution over each side's bins."""

from __future__ import annotations

import torch
from torch import Tensor

from bcd import boxes as B
from bcd.assign.atss import TOPK, atss_thresholds
from bcd.losses import softmax_kl
from bcd.methods.base import Method, Step
from bcd.methods.regions import blocks
from bcd.spec import LdMethod
from bcd.types import SiteGrid, Targets


class Ld(Method):
    """Terms `ld_main` (positive sites) and `ld_vlr` (valuable region beside them).

    Each is T^2 times the mean over a side's bins of the KL, weighted by site and summed over sites and sides, divided
    by 4 (main) or 16 (region) and by nothing else, as published: it grows with the number of positives.
    """

    needs = frozenset({"distributions"})
    spec: LdMethod

    def forward(self, step: Step) -> dict[str, Tensor]:
        spec, pair, grid = self.spec, step.matched, step.student.grid
        weight_BA = pair.weight_BA if pair.same_place_A is None else pair.weight_BA * pair.same_place_A
        terms = {}
        if spec.main_weight > 0:
            quality_BA = step.student.logits_BAC.detach().float().amax(-1).sigmoid()
            main_BA = weight_BA * step.assigned.positive_BA * quality_BA
            # Positives are few and their number is bounded, so that a fixed number of sites holds them all.
            limit = min(len(grid), step.targets.valid_BG.shape[1] * TOPK * len(grid.strides))
            order_BK = step.assigned.positive_BA.float().topk(limit, dim=1).indices
            terms["ld_main"] = spec.main_weight / 4 * self._sum(step, main_BA, order_BK)
        if spec.vlr_weight > 0:
            region_BA = valuable_region(grid, step.targets, spec.vlr_share)
            terms["ld_vlr"] = spec.vlr_weight / 16 * self._sum(step, weight_BA * region_BA, None)
        return terms

    def _sum(self, step: Step, weight_BA: Tensor, order_BK: Tensor | None) -> Tensor:
        """The weighted sum over sites and sides, over all sites or over those of an index."""
        student, teacher = step.student.dist_BA4R, step.matched.teacher_dist_BA4R
        assert student is not None
        assert teacher is not None
        if order_BK is not None:
            index = order_BK[..., None, None].expand(-1, -1, *student.shape[2:])
            student, teacher = student.gather(1, index), teacher.gather(1, index)
            weight_BA = weight_BA.gather(1, order_BK)
        kl = softmax_kl(student.float(), teacher, self.spec.temperature).sum(-1) / student.shape[-1]
        return (kl * weight_BA).sum()


def valuable_region(grid: SiteGrid, targets: Targets, share: float) -> Tensor:
    """Weight (B, A) of each site in the valuable localisation region, 0 outside it (LD, section 3.3).

    A site belongs to it when the DIoU of its prior and any box lies in [share * t, t), where t is the box's threshold
    of the ATSS assigner. Its weight is the IoU; of several boxes the highest.
    """
    weight_BA = targets.boxes_BG4.new_zeros(len(targets.boxes_BG4), len(grid))
    for block in blocks(targets, len(grid)):
        some = Targets(
            targets.boxes_BG4[:, block], targets.labels_BG[:, block], targets.valid_BG[:, block], targets.sizes_B2
        )
        top_BG1 = atss_thresholds(grid, some)[..., None]
        boxes_BG14 = some.boxes_BG4[:, :, None]
        diou_BGA = B.diou(grid.prior_A4, boxes_BG14)
        inside_BGA = (diou_BGA >= share * top_BG1) & (diou_BGA < top_BG1) & some.valid_BG[..., None]
        weight_BA = torch.maximum(weight_BA, (B.iou(grid.prior_A4, boxes_BG14) * inside_BGA).amax(1))
    return weight_BA
