"""Quality focal loss (Generalized Focal Loss, NeurIPS 2020, equation 5)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from bcd.losses.reduce import row_blocks


def quality_focal(logits: Tensor, labels: Tensor, quality: Tensor, weight: Tensor) -> Tensor:
    """Sum over sites and classes of |y - p|^2 BCE(p, y), beta 2.

    Args:
        logits: (N, C).
        labels: (N,) class index, or C for background.
        quality: (N,) target of the labelled class in [0, 1] (IoU of predicted and true box); background learns 0.
        weight: (N,) weight of each site, 0 in the padding.

    Returns:
        Scalar sum; the caller divides by the number of positives. The modulating factor carries gradient.
    """
    return _QualityFocal.apply(logits, labels, quality.detach(), weight)  # type: ignore[no-any-return]


class _QualityFocal(torch.autograd.Function):
    """All classes as background in one pass, then the labelled entries put right: they are one in C."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, quality: Tensor, weight_N: Tensor) -> Tensor:
        grad, sums = torch.empty_like(logits), []
        for rows in row_blocks(logits):
            sums.append(_background(logits[rows], grad[rows]))
        total_N = torch.cat(sums) if sums else logits.sum(dim=1)

        positive = labels < logits.shape[1]
        index = torch.where(positive, labels, 0)[:, None]
        z, y = logits.gather(1, index)[:, 0], quality.to(logits.dtype)
        q = z.sigmoid()
        diff, bce = q - y, F.softplus(z) - z * y
        value = diff.square() * bce
        slope = 2 * diff * q * (1 - q) * bce + diff.square() * diff
        total_N = total_N + torch.where(positive, value - q.square() * F.softplus(z), 0.0)
        old = grad.gather(1, index)[:, 0]
        grad.scatter_(1, index, torch.where(positive, slope, old)[:, None])
        ctx.save_for_backward(grad, weight_N)
        return torch.dot(total_N, weight_N.to(total_N.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, None, None, None]:
        grad, weight_N = ctx.saved_tensors
        return grad * (weight_N * grad_total).to(grad.dtype)[:, None], None, None, None


def _background(logits: Tensor, grad: Tensor) -> Tensor:
    """sum_j p^2 softplus(z) of some rows; writes its gradient p^2 (2 (1 - p) softplus(z) + p) into `grad`."""
    p, soft = logits.sigmoid(), F.softplus(logits)
    square = p * p
    torch.addcmul(soft, soft, p, value=-1, out=grad)
    grad.mul_(2).add_(p).mul_(square)
    return soft.mul_(square).sum(dim=1)
