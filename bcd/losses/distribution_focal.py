"""Distribution focal loss (Generalized Focal Loss, NeurIPS 2020, equation 6)."""

from __future__ import annotations

import torch
from torch import Tensor


def distribution_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy against the two bins around a continuous target, weighted by closeness.

    Args:
        logits: (..., R) raw logits over the bins 0..R-1.
        target: (...) distance in bins, in [0, R - 1).

    Returns:
        (...) one loss for each side; the caller weights and divides.
    """
    log_p = logits.log_softmax(dim=-1)
    left = target.floor().long().clamp(max=logits.shape[-1] - 2)
    pair = torch.stack([left, left + 1], dim=-1)
    near = log_p.gather(-1, pair)
    right_share = target - left
    return -(near[..., 0] * (1 - right_share) + near[..., 1] * right_share)
