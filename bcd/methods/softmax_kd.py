"""Softmax distillation of class scores at positive sites (Hinton et al. 2015), as LD's "main KD" applies it."""

from __future__ import annotations

import torch
from torch import Tensor

from bcd.losses import softmax_kl
from bcd.methods.base import Method, Step
from bcd.methods.regions import mean_by_level
from bcd.models.detector import Detector
from bcd.spec import SoftmaxKdMethod

TEMPERATURE = {"retinanet": 8.0}
OTHERWISE = 2.0


class SoftmaxKd(Method):
    """Term `softmax_kd_cls`: T^2 KL of the class softmax divided by the number of classes, its mean over the positive
    sites of each level, summed over levels."""

    needs = frozenset({"scores"})
    spec: SoftmaxKdMethod

    def __init__(self, spec: SoftmaxKdMethod, student: Detector, teacher: Detector):
        super().__init__(spec, student, teacher)
        published = TEMPERATURE.get(student.info.arguments["detector"], OTHERWISE)
        self.temperature = published if spec.temperature is None else spec.temperature

    def forward(self, step: Step) -> dict[str, Tensor]:
        pair, grid = step.matched, step.student.grid
        if self.spec.cls_weight == 0:
            return {}
        kl_BA = softmax_kl(pair.student_logits_BAM, pair.teacher_logits_BAM, self.temperature)
        kl_BA = kl_BA / pair.student_logits_BAM.shape[-1]
        means_L = mean_by_level(grid, kl_BA, pair.weight_BA * step.assigned.positive_BA)
        return {"softmax_kd_cls": self.spec.cls_weight * torch.stack(means_L).sum()}
