"""Losses between pyramid maps of one level."""

from __future__ import annotations

import torch
from torch import Tensor

# As published for PKD: keeps a constant channel finite.
_PKD_EPS = 1e-6


def masked_mse_sum(student: Tensor, teacher: Tensor, weight_BHW: Tensor) -> Tensor:
    """sum over locations of w times the mean over channels of (s - t)^2; maps (B, channels, H, W)."""
    return ((student - teacher).square().mean(1) * weight_BHW).sum()


def standardise(maps: Tensor, eps: float = _PKD_EPS) -> Tensor:
    """Maps (B, channels, H, W) with mean 0 and deviation 1 (unbiased) of every channel over images and places."""
    mean, deviation = moments(maps)
    return (maps - mean) / (deviation + eps)


def moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased deviation of each channel of maps (B, channels, H, W), as (1, channels, 1, 1).

    A single value has deviation 0. The gradient of the deviation of a constant channel is 0.
    """
    count = maps.shape[0] * maps.shape[2] * maps.shape[3]
    deviation, mean = torch.std_mean(maps, dim=(0, 2, 3), correction=min(1, count - 1), keepdim=True)
    return mean, deviation


def pearson_mse(student: Tensor, teacher: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """Half the mean squared difference of standardised maps (PKD, equation 4): 1 - Pearson's r, channel by channel.

    `weight_B` weighs images in the mean; the statistics are those of all images.
    """
    square = (standardise(student) - standardise(teacher)).square()
    return 0.5 * (square.mean() if weight_B is None else (square.mean((1, 2, 3)) * weight_B).mean())
