"""BCKD: binary classification distillation and IoU-based localisation distillation (ICCV 2023).

Both terms run over all sites of all levels, positive or not, and are divided by the number of positives N+.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bcd.losses import binary_distillation_sum, iou_localization_distillation
from bcd.losses.reduce import divide
from bcd.methods.base import Method
from bcd.models.detector import Assignment
from bcd.spec import BckdMethod
from bcd.types import DenseOutputs


class Bckd(Method):
    """Terms `bckd_cls` and `bckd_loc` (paper, equations of sections 3.2 and 3.3; see docs/methods.md)."""

    needs = frozenset({"scores", "boxes"})
    spec: BckdMethod

    def loss(self, student: DenseOutputs, teacher: DenseOutputs, assigned: Assignment) -> dict[str, Tensor]:
        weight_BA = assigned.site_weight_BA
        if self.spec.level_gate:
            weight_BA = weight_BA * level_gate(student, assigned.positive_BA)
        cls_sum, gap_N = binary_distillation_sum(
            student.logits_BAC.float().flatten(0, 1),
            teacher.logits_BAC.float().flatten(0, 1),
            weight_BA.flatten(),
            self.spec.beta,
        )
        # Boxes in units of their level's stride, as the official code measures them.
        stride_A1 = student.grid.stride_A[:, None]
        loc = iou_localization_distillation(
            (student.boxes_BA4.float() / stride_A1).flatten(0, 1),
            (teacher.boxes_BA4.float() / stride_A1).flatten(0, 1),
            gap_N * weight_BA.flatten(),
            assigned.positives,
            kind=self.spec.iou,
        )
        return {
            "bckd_cls": self.spec.cls_weight * divide(cls_sum, assigned.positives, 1),
            "bckd_loc": self.spec.loc_weight * loc,
        }


def level_gate(student: DenseOutputs, positive_BA: Tensor) -> Tensor:
    """(A,) 1 on levels with at least one positive site in the batch, else 0: a trait of the official code."""
    count_L = torch.stack([positive_BA[:, level].any() for level in student.grid.levels]).float()
    return count_L[student.grid.level_A]
