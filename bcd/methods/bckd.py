"""BCKD: binary classification distillation and IoU-based localisation distillation (ICCV 2023).

Both terms run over all sites of all levels, positive or not, and are divided by the number of positives N+.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bcd.losses import binary_distillation_sum, iou_localization_distillation
from bcd.losses.reduce import divide
from bcd.methods.base import Method, Step
from bcd.spec import BckdMethod
from bcd.types import DenseOutputs


class Bckd(Method):
    """Terms `bckd_cls` and `bckd_loc` (paper, equations of sections 3.2 and 3.3; see docs/methods.md)."""

    needs = frozenset({"scores", "boxes"})
    spec: BckdMethod

    def forward(self, step: Step) -> dict[str, Tensor]:
        spec, pair, divisor = self.spec, step.matched, step.assigned.distill_divisor
        weight_BA = pair.weight_BA
        if spec.level_gate:
            weight_BA = weight_BA * level_gate(step.student, step.assigned.positive_BA)
        cls_sum, gap_N = binary_distillation_sum(
            pair.student_scores(spec.scores).flatten(0, 1),
            pair.teacher_scores(spec.scores).flatten(0, 1),
            weight_BA.flatten(),
            spec.beta,
        )
        terms = {}
        if spec.cls_weight > 0:
            terms["bckd_cls"] = spec.cls_weight * divide(cls_sum, divisor, 1)
        if spec.loc_weight > 0:
            # Boxes in units of their level's stride, as the official code measures them.
            stride_A1 = step.student.grid.stride_A[:, None]
            terms["bckd_loc"] = spec.loc_weight * iou_localization_distillation(
                (pair.student_boxes_BA4 / stride_A1).flatten(0, 1),
                (pair.teacher_boxes_BA4 / stride_A1).flatten(0, 1),
                gap_N * weight_BA.flatten(),
                divisor,
                kind=spec.iou,
            )
        return terms


def level_gate(student: DenseOutputs, positive_BA: Tensor) -> Tensor:
    """(A,) 1 on levels with at least one positive site in the batch, else 0: a trait of the official code."""
    count_L = torch.stack([positive_BA[:, level].any() for level in student.grid.levels]).float()
    return count_L[student.grid.level_A]
