"""Plain sigmoid distillation: the divergence of Bernoulli variables, every class for itself and every site alike."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from bcd.losses.reduce import at_least_fp32, check_weight, row_blocks


def sigmoid_kl_sum(student_logits: Tensor, teacher_logits: Tensor, weight: Tensor) -> Tensor:
    """sum_i w_i sum_j KL(p_t || p_s), p = sigmoid(logit): BCE(p_s, p_t) less the teacher's entropy.

    Computed as softplus(s) - softplus(t) - p_t (s - t), the Bregman divergence of softplus: exactly 0, with gradient
    p_s - p_t exactly 0, where both agree.

    Args:
        student_logits: (N, C).
        teacher_logits: (N, C), treated as constant.
        weight: (N,) weight of each site.

    Returns:
        A scalar in nats, at least fp32; the caller divides.

    Raises:
        ValueError: shapes do not fit.
    """
    if student_logits.shape != teacher_logits.shape or student_logits.ndim != 2:
        raise ValueError(
            f"logits must both be (N, C), not {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    student, teacher = at_least_fp32(student_logits), at_least_fp32(teacher_logits.detach())
    check_weight(weight, len(student))
    return _SigmoidKL.apply(student, teacher, weight.detach())  # type: ignore[no-any-return]


class _SigmoidKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight_N: Tensor) -> Tensor:
        grad, sums = torch.empty_like(student), []
        for rows in row_blocks(student):
            s, t = student[rows], teacher[rows]
            p_t = t.sigmoid()
            torch.sub(s.sigmoid(), p_t, out=grad[rows])
            sums.append(F.softplus(s).sub_(F.softplus(t)).sub_((s - t).mul_(p_t)).sum(1))
        ctx.save_for_backward(grad, weight_N)
        return torch.dot(torch.cat(sums), weight_N.to(student.dtype)) if sums else student.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, None, None]:
        grad, weight_N = ctx.saved_tensors
        return grad * (weight_N * grad_total).to(grad.dtype)[:, None], None, None
