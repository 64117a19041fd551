"""Plain sigmoid distillation at all sites: BCKD's classification term without its weight |p_t - p_s|, as a control."""

from __future__ import annotations

from torch import Tensor

from bcd.losses import binary_distillation_sum, sigmoid_kl_sum
from bcd.losses.reduce import divide
from bcd.methods.base import Method, Step
from bcd.spec import SigmoidKdMethod


class SigmoidKd(Method):
    """Term `sigmoid_kd_cls`: T^2 KL (or BCE) of every class's sigmoid, summed over all sites, divided by N+."""

    needs = frozenset({"scores"})
    spec: SigmoidKdMethod

    def forward(self, step: Step) -> dict[str, Tensor]:
        spec, pair = self.spec, step.matched
        if spec.cls_weight == 0:
            return {}
        student, teacher = (
            scores.flatten(0, 1) if spec.temperature == 1 else scores.flatten(0, 1) / spec.temperature
            for scores in (pair.student_scores(spec.scores), pair.teacher_scores(spec.scores))
        )
        weight_N = pair.weight_BA.flatten()
        if spec.loss == "bce":
            total, _ = binary_distillation_sum(student, teacher, weight_N, beta=0.0)
        else:
            total = sigmoid_kl_sum(student, teacher, weight_N)
        factor = spec.cls_weight * spec.temperature**2
        return {"sigmoid_kd_cls": factor * divide(total, step.assigned.distill_divisor, 1)}
