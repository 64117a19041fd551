"""Softmax distillation (Hinton, Vinyals and Dean 2015): class scores of a site, or the bins of a box side (LD)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bcd.losses.reduce import at_least_fp32


def softmax_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(softmax(t / T) || softmax(s / T)) of each row.

    Args:
        student_logits: (..., C).
        teacher_logits: (..., C), treated as constant.
        temperature: T > 0. The factor T^2 keeps the gradient's size (section 2.1 of the paper).

    Returns:
        (...) in nats, at least fp32. Exactly 0, with gradient exactly 0, where both rows are the same.

    Raises:
        ValueError: shapes differ or T is not above 0.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"logits differ in shape: {tuple(student_logits.shape)}, {tuple(teacher_logits.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    student, teacher = at_least_fp32(student_logits), at_least_fp32(teacher_logits.detach())
    return _SoftmaxKL.apply(student, teacher, temperature)  # type: ignore[no-any-return]


class _SoftmaxKL(torch.autograd.Function):
    """d/ds = T (softmax(s / T) - softmax(t / T)); autograd's own way leaves rounding where both agree."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        log_s, log_t = (z.div(temperature).log_softmax(-1) for z in (student, teacher))
        p_s, p_t = log_s.exp(), log_t.exp()
        ctx.save_for_backward(p_s.sub_(p_t).mul_(temperature))
        return log_t.sub_(log_s).mul_(p_t).sum(-1).mul_(temperature**2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad[..., None], None, None
