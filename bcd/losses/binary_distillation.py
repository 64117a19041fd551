"""BCKD's classification term: each class map of teacher and student is a binary map of its own (paper, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from bcd.losses.reduce import divide, row_blocks


def binary_classification_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    weight: Tensor | None = None,
    avg_factor: Tensor | float | None = None,
    beta: float = 1.0,
) -> Tensor:
    """Binary classification distillation loss of BCKD (ICCV 2023), without the loss weight.

    For each site i and class j, with p = sigmoid(logit):
    e_ij = |p_t - p_s|^beta * BCE(p_s, p_t); the loss is sum_i w_i sum_j e_ij / (avg_factor + eps32).

    Args:
        student_logits: (N, C). The gradient flows through the BCE and through the weight |p_t - p_s|.
        teacher_logits: (N, C), treated as constant.
        weight: (N,) weight of each site; default 1.
        avg_factor: divisor, N+ in the paper; without one the mean over the N rows.
        beta: exponent of the weight, 1 in the official code. At least 1: below, the gradient has no bound.

    Raises:
        ValueError: shapes differ or beta < 1.
    """
    if student_logits.shape != teacher_logits.shape or student_logits.ndim != 2:
        raise ValueError(
            f"logits must both be (N, C), not {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    total, _ = binary_distillation_sum(student_logits, teacher_logits, weight, beta)
    return divide(total, avg_factor, student_logits.shape[0])


def binary_distillation_sum(
    student_logits: Tensor, teacher_logits: Tensor, weight: Tensor | None, beta: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The weighted sum of e_ij, and for each site max_j |p_t - p_s| (N,), which carries no gradient.

    The second is the weight of the localisation term; both need the same sigmoids.
    """
    if beta < 1:
        raise ValueError(f"beta must be at least 1, not {beta}: below, the gradient at p_s = p_t is unbounded")
    if weight is None:
        weight = student_logits.new_ones(student_logits.shape[0])
    total, gap = _BinaryDistillation.apply(student_logits, teacher_logits.detach(), weight.detach(), beta)
    return total, gap


class _BinaryDistillation(torch.autograd.Function):
    """Value and gradient in one pass over the maps: the maps are large, and memory traffic is the whole cost."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight_N: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        grad = torch.empty_like(student)
        sums, gaps = [], []
        for rows in row_blocks(student):
            sum_N, gap_N = _rows(student[rows], teacher[rows], beta, grad[rows])
            sums.append(sum_N)
            gaps.append(gap_N)
        gap_N = torch.cat(gaps) if gaps else student.new_zeros(0)
        total = torch.dot(torch.cat(sums), weight_N.to(student.dtype)) if sums else student.sum()
        ctx.save_for_backward(grad, weight_N)
        ctx.mark_non_differentiable(gap_N)
        return total, gap_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        grad, weight_N = ctx.saved_tensors
        return grad * (weight_N * grad_total).to(grad.dtype)[:, None], None, None, None


def _rows(student: Tensor, teacher: Tensor, beta: float, grad: Tensor) -> tuple[Tensor, Tensor]:
    """(sum_j e_ij, max_j |p_t - p_s|) of some rows; writes d e_ij / d z_ij into `grad`."""
    p_t, p_s = teacher.sigmoid(), student.sigmoid()
    bce = F.softplus(student).addcmul_(student, p_t, value=-1)
    diff = p_t.sub_(p_s)
    size = diff.abs()
    # d e/d z = -|d|^b d - b |d|^(b-1) sign(d) p_s (1 - p_s) BCE,  d = p_t - p_s
    slope = torch.addcmul(p_s, p_s, p_s, value=-1).mul_(bce)
    power = size
    torch.mul(diff.sign(), slope, out=grad)
    if beta != 1.0:
        power = size.pow(beta)
        grad.mul_(size.pow(beta - 1)).mul_(beta)
    grad.addcmul_(power, diff).neg_()
    return bce.mul_(power).sum(dim=1), size.amax(dim=1) if size.shape[1] else size.sum(dim=1)
