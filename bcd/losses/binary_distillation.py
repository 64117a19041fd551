"""BCKD's classification term: each class map of teacher and student is a binary map of its own (paper, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from bcd.losses.reduce import at_least_fp32, check_weight, divide, row_blocks


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
        beta: exponent of the weight, 1 in the official code, 0 for plain BCE. Between 0 and 1 the gradient has no
            bound near p_s = p_t; at p_s = p_t it is 0 here, where the official code gives NaN.

    bf16 and fp16 logits are taken as fp32, and the loss is fp32.

    Raises:
        ValueError: shapes do not fit or beta < 0.
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
    if not beta >= 0:
        raise ValueError(f"beta must be at least 0, not {beta}: below, the loss at p_s = p_t is infinite")
    student, teacher = at_least_fp32(student_logits), at_least_fp32(teacher_logits.detach())
    if weight is None:
        weight = student.new_ones(student.shape[0])
    check_weight(weight, student.shape[0])
    total, gap = _BinaryDistillation.apply(student, teacher, weight.detach(), beta)
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
        slope = size.pow(beta - 1)
        if beta < 1:
            slope.masked_fill_(size == 0, 0.0)
        grad.mul_(slope).mul_(beta)
    grad.addcmul_(power, diff).neg_()
    return bce.mul_(power).sum(dim=1), size.amax(dim=1) if size.shape[1] else size.sum(dim=1)
