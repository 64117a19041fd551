"""Focal loss on sigmoids (Lin et al., ICCV 2017, equation 5)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from bcd.losses.reduce import row_blocks

ALPHA, GAMMA = 0.25, 2.0


def focal(logits: Tensor, labels: Tensor, weight: Tensor, alpha: float = ALPHA, gamma: float = GAMMA) -> Tensor:
    """Sum over sites and classes of -alpha_t (1 - p_t)^gamma log(p_t), every class being a binary decision.

    Args:
        logits: (N, C), fp32 or fp64.
        labels: (N,) class index, or C for background.
        weight: (N,) weight of each site, 0 in the padding and where an assigner ignores it.
        alpha: weight of the labelled class; the others weigh 1 - alpha.
        gamma: exponent, at least 0.

    Returns:
        Scalar sum; the caller divides by the number of positives.
    """
    return _Focal.apply(logits, labels, weight, alpha, gamma)  # type: ignore[no-any-return]


class _Focal(torch.autograd.Function):
    """All classes as background in one pass, then the labelled entries put right: they are one in C."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weight_N: Tensor, alpha: float, gamma: float) -> Tensor:
        grad, sums = torch.empty_like(logits), []
        for rows in row_blocks(logits):
            sums.append(_background(logits[rows], grad[rows], 1 - alpha, gamma))
        total_N = torch.cat(sums) if sums else logits.sum(dim=1)

        positive = labels < logits.shape[1]
        index = torch.where(positive, labels, 0)[:, None]
        z = logits.gather(1, index)[:, 0]
        p, q = z.sigmoid(), (-z).sigmoid()
        soft = F.softplus(-z)
        value = alpha * q.pow(gamma) * soft
        slope = -alpha * q.pow(gamma) * (gamma * p * soft + q)
        counted = (1 - alpha) * p.pow(gamma) * F.softplus(z)
        total_N = total_N + torch.where(positive, value - counted, 0.0)
        old = grad.gather(1, index)[:, 0]
        grad.scatter_(1, index, torch.where(positive, slope, old)[:, None])
        ctx.save_for_backward(grad, weight_N)
        return torch.dot(total_N, weight_N.to(total_N.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, None, None, None, None]:
        grad, weight_N = ctx.saved_tensors
        return grad * (weight_N * grad_total).to(grad.dtype)[:, None], None, None, None, None


def _background(logits: Tensor, grad: Tensor, share: float, gamma: float) -> Tensor:
    """sum_j share p^gamma softplus(z) of some rows; writes its gradient share p^gamma (gamma (1 - p) softplus(z) + p)
    into `grad`."""
    p, soft = logits.sigmoid(), F.softplus(logits)
    power = (p * p if gamma == 2.0 else p.pow(gamma)).mul_(share)
    torch.addcmul(soft, soft, p, value=-1, out=grad)
    grad.mul_(gamma).add_(p).mul_(power)
    return soft.mul_(power).sum(dim=1)
