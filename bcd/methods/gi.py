"""General instances (Dai et al., CVPR 2021): features are imitated where teacher and student disagree most."""

from __future__ import annotations

import torch
from torch import Tensor

from bcd import boxes as B
from bcd.methods.base import Step
from bcd.methods.features import FeatureMethod
from bcd.spec import GiMethod
from bcd.types import SiteGrid


class Gi(FeatureMethod):
    """Term `gi_features`: mean squared difference over the locations inside the general instances, each at the
    pyramid level of the site that gave it. Labels play no part."""

    needs = frozenset({"scores", "boxes", "features"})
    spec: GiMethod

    def forward(self, step: Step) -> dict[str, Tensor]:
        spec, pair = self.spec, step.matched
        if spec.feature_weight == 0:
            return {}
        with torch.no_grad():
            score_BA, boxes_BA4 = general_instances(
                pair.student_scores(spec.scores).sigmoid(),
                pair.teacher_scores(spec.scores).sigmoid(),
                pair.student_boxes_BA4,
                pair.teacher_boxes_BA4,
            )
            kept_BK, kept_score_BK = suppress(score_BA * (pair.weight_BA > 0), boxes_BA4, spec.instances, spec.nms_iou)
            inside_BA = inside_own_level(step.student.grid, kept_BK, kept_score_BK, boxes_BA4)
        region_BA = step.assigned.site_weight_BA * inside_BA
        return {"gi_features": spec.feature_weight * self.imitation(step, region_BA)}


def general_instances(
    student_BAM: Tensor, teacher_BAM: Tensor, student_boxes_BA4: Tensor, teacher_boxes_BA4: Tensor
) -> tuple[Tensor, Tensor]:
    """Score (B, A) and box (B, A, 4) of each site: the largest difference of a class's probabilities, and the box of
    the model that gives that class the higher one (equations 1 and 2)."""
    score_BA, class_BA = (teacher_BAM - student_BAM).abs().max(-1)
    ours, theirs = (p.gather(-1, class_BA[..., None]) for p in (student_BAM, teacher_BAM))
    return score_BA, torch.where(theirs > ours, teacher_boxes_BA4, student_boxes_BA4)


def suppress(score_BA: Tensor, boxes_BA4: Tensor, most: int, iou: float) -> tuple[Tensor, Tensor]:
    """Indices (B, K) and scores (B, K) of greedy non-maximum suppression, K = `most`; score 0: there was none left.

    K rounds of a maximum instead of a list of unknown length, which the device would have to be asked for.
    """
    left_BA, kept, scores = score_BA, [], []
    for _ in range(min(most, score_BA.shape[1])):
        best_B1, index_B1 = left_BA.max(1, keepdim=True)
        box_B14 = boxes_BA4.gather(1, index_B1[..., None].expand(-1, -1, 4))
        gone_BA = (B.iou(boxes_BA4, box_B14) > iou).scatter(1, index_B1, True)
        left_BA = left_BA.masked_fill(gone_BA, 0.0)
        kept.append(index_B1)
        scores.append(best_B1)
    return torch.cat(kept, 1), torch.cat(scores, 1)


def inside_own_level(grid: SiteGrid, kept_BK: Tensor, score_BK: Tensor, boxes_BA4: Tensor) -> Tensor:
    """(B, A) bool: sites whose centre lies in a kept box of a score above 0, on the level of the box's own site, and
    that site itself."""
    boxes_BK4 = boxes_BA4.gather(1, kept_BK[..., None].expand(-1, -1, 4))
    level_BK1 = grid.level_A[kept_BK][..., None]
    found_BA = torch.zeros_like(boxes_BA4[..., 0]).scatter(1, kept_BK, score_BK) > 0
    for k in range(kept_BK.shape[1]):
        inside_BA = B.to_distances(grid.centre_A2, boxes_BK4[:, k, None]).amin(-1) > 0
        found_BA |= inside_BA & (grid.level_A == level_BK1[:, k]) & (score_BK[:, k, None] > 0)
    return found_BA
